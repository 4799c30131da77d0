//! A sandbox's lifecycle log, read off its row: what really happened, at most four entries.

use std::collections::BTreeMap;

use courier_protocol::e2b::{LogEntry, LogLevel};
use courier_store::SandboxRow;
use courier_types::Timestamp;

/// An entry with its time, to filter by.
#[derive(Debug, Clone)]
pub(crate) struct TimedEntry {
    pub(crate) at: Timestamp,
    pub(crate) entry: LogEntry,
}

/// The entries, oldest first.
pub(crate) fn log_entries(row: &SandboxRow) -> Vec<TimedEntry> {
    let mut entries = vec![timed(
        row.created_at,
        LogLevel::Info,
        "sandbox created",
        [("template", row.spec.template.clone()), ("build", row.spec.build.clone())],
    )];
    if let Some(at) = row.started_at {
        entries.push(timed(at, LogLevel::Info, "sandbox running", []));
    }
    if let (Some(at), Some(reason)) = (row.ended_at, row.end_reason()) {
        let level = if reason.is_failure() { LogLevel::Error } else { LogLevel::Info };
        let fields = [("reason", reason.to_string())].into_iter();
        let detail = row.detail.iter().map(|detail| ("detail", detail.clone()));
        entries.push(timed(at, level, "sandbox ended", fields.chain(detail)));
    }
    entries
}

fn timed(
    at: Timestamp,
    level: LogLevel,
    message: &str,
    fields: impl IntoIterator<Item = (&'static str, String)>,
) -> TimedEntry {
    let fields: BTreeMap<String, String> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let entry = LogEntry { timestamp: at.to_rfc3339(), message: message.to_owned(), level, fields };
    TimedEntry { at, entry }
}
