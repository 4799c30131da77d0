//! A sandbox's lifecycle log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How grave an entry is; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// As it should be.
    Info,
    /// Odd.
    Warn,
    /// A failure.
    Error,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogEntry {
    /// When, RFC 3339.
    pub timestamp: String,
    /// What happened.
    pub message: String,
    /// How grave it is.
    pub level: LogLevel,
    /// Details, by name.
    pub fields: BTreeMap<String, String>,
}

/// One entry as a line of JSON, for E2B's command line tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// When, RFC 3339.
    pub timestamp: String,
    /// The entry, as JSON in a string.
    pub line: String,
}

/// Answer of `GET /sandboxes/{sandboxID}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SandboxLogs {
    /// As lines.
    pub logs: Vec<LogLine>,
    /// As structures.
    pub log_entries: Vec<LogEntry>,
}

/// Answer of `GET /v2/sandboxes/{sandboxID}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxLogsV2 {
    /// The entries.
    pub logs: Vec<LogEntry>,
}
