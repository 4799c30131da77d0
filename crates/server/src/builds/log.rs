//! A build's log, from the node's calls to rows: in batches, bounded, and never in the build's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use courier_protocol::node::{BuildLog, BuildLogLevel, BuildStage};
use courier_store::{BuildLogRow, LogLevelRow, StoreError};
use courier_types::BuildId;
use tokio::sync::mpsc;

use crate::app::App;
use crate::clock;
use crate::http::chain;

/// Most entries of one log. Whoever prints more wants a file.
const ENTRIES_MAX: u64 = 10_000;

/// Entries of level error beyond that: why a build failed is worth more than what it printed.
const ERRORS_BEYOND: u64 = 16;

/// Most bytes of all messages of one log.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest message in bytes.
const MESSAGE_MAX: usize = 4 * 1024;

/// Entries that wait to be written; what comes faster is counted and dropped.
const QUEUE: usize = 4_096;

/// Entries of one transaction.
const BATCH: usize = 1_024;

/// Time between two transactions of one log: clients ask five times a second, and each transaction
/// waits for the disk.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Where entries go in. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct LogInlet {
    entries: mpsc::Sender<BuildLogRow>,
    dropped: Arc<AtomicU64>,
}

/// Where they come out, once.
#[derive(Debug)]
pub(super) struct LogOutlet {
    entries: mpsc::Receiver<BuildLogRow>,
    dropped: Arc<AtomicU64>,
}

/// A log, for one build.
pub(super) fn log() -> (LogInlet, LogOutlet) {
    let (inlet, outlet) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    (
        LogInlet { entries: inlet, dropped: Arc::clone(&dropped) },
        LogOutlet { entries: outlet, dropped },
    )
}

impl LogInlet {
    /// Takes an entry. Does not wait.
    pub(super) fn take(&self, entry: BuildLog) {
        let row = BuildLogRow {
            at: entry.at,
            level: level(entry.level),
            step: entry.stage.to_string(),
            message: cut(entry.message),
        };
        if self.entries.try_send(row).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An entry of our own.
    pub(super) fn say(&self, stage: BuildStage, message: impl Into<String>) {
        let (at, level) = (clock::now(), BuildLogLevel::Info);
        self.take(BuildLog { at, level, stage, message: message.into() });
    }
}

const fn level(level: BuildLogLevel) -> LogLevelRow {
    match level {
        BuildLogLevel::Debug => LogLevelRow::Debug,
        BuildLogLevel::Info => LogLevelRow::Info,
        BuildLogLevel::Warn => LogLevelRow::Warn,
        BuildLogLevel::Error => LogLevelRow::Error,
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        message.push('…');
    }
    message
}

/// What of a log is written.
#[derive(Debug, Default)]
struct Written {
    entries: u64,
    bytes: usize,
}

impl Written {
    fn has_room(&self, level: LogLevelRow) -> bool {
        match level {
            LogLevelRow::Debug | LogLevelRow::Info | LogLevelRow::Warn => {
                self.entries < ENTRIES_MAX && self.bytes < BYTES_MAX
            }
            LogLevelRow::Error => self.entries < ENTRIES_MAX + ERRORS_BEYOND,
        }
    }
}

impl LogOutlet {
    /// Writes entries until every inlet is gone; returns the number of the next one.
    pub(super) async fn write(mut self, app: &App, id: &BuildId) -> u64 {
        let mut written = Written::default();
        let mut batch = Vec::with_capacity(BATCH);
        while self.entries.recv_many(&mut batch, BATCH).await > 0 {
            self.append(app, id, &mut written, &mut batch).await;
            batch.clear();
            tokio::time::sleep(FLUSH_EVERY).await;
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let message = format!("{dropped} lines were too many for the log and are not in it");
            let rows = [note(message)];
            append(app, id, &mut written, &rows).await;
        }
        written.entries
    }

    async fn append(
        &self,
        app: &App,
        id: &BuildId,
        written: &mut Written,
        batch: &mut Vec<BuildLogRow>,
    ) {
        let mut kept = Vec::with_capacity(batch.len());
        let mut after = Written { ..*written };
        for row in batch.drain(..) {
            if !after.has_room(row.level) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            after.entries += 1;
            after.bytes += row.message.len();
            kept.push(row);
        }
        append(app, id, written, &kept).await;
    }
}

fn note(message: String) -> BuildLogRow {
    let step = BuildStage::Finalize.to_string();
    BuildLogRow { at: clock::now(), level: LogLevelRow::Warn, step, message }
}

/// Appends rows. What the store refuses is lost to the log; the build goes on.
async fn append(app: &App, id: &BuildId, written: &mut Written, rows: &[BuildLogRow]) {
    if rows.is_empty() {
        return;
    }
    match app.store.append_build_log(id, written.entries, rows).await {
        Ok(()) => {
            written.entries += u64::try_from(rows.len()).unwrap_or(u64::MAX);
            written.bytes += rows.iter().map(|row| row.message.len()).sum::<usize>();
        }
        Err(error) => tell(app, id, &error).await,
    }
}

/// Says that the store refused. Of a build that was deleted meanwhile there is nothing to log.
async fn tell(app: &App, id: &BuildId, error: &StoreError) {
    if !matches!(app.store.find_build(id).await, Ok(None)) {
        tracing::warn!(build = %id, error = chain(error), "could not write a build's log");
    }
}

/// The last entry of a build that failed for a reason that its node does not know.
pub(super) async fn append_failure(app: &App, id: &BuildId, number: u64, what: (String, String)) {
    let (step, message) = (what.0, cut(what.1));
    let row = BuildLogRow { at: clock::now(), level: LogLevelRow::Error, step, message };
    if let Err(error) = app.store.append_build_log(id, number, &[row]).await {
        tell(app, id, &error).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters_and_a_full_queue_counts() {
        let long = "é".repeat(MESSAGE_MAX);
        let message = cut(long);
        assert!(message.len() <= MESSAGE_MAX + '…'.len_utf8() && message.ends_with("é…"));
        let (inlet, outlet) = log();
        for _ in 0..QUEUE + 3 {
            inlet.say(BuildStage::Base, "x");
        }
        assert_eq!(outlet.dropped.load(Ordering::Relaxed), 3);
    }
}
