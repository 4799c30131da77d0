//! Whoever builds a template of the product: shows the log, and hands out the context.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use courier_protocol::e2b::{BuildLogEntry, LogLevel};
use courier_protocol::node::{Body, BoxError, BuildLog, BuildLogLevel, BuildWatcher};

use super::super::docker::file_body;
use super::super::follow::Printer;

/// Shows a build on standard error, and keeps its log.
pub(super) struct Watcher {
    printer: Mutex<Printer>,
    log: Mutex<File>,
    archives: HashMap<String, File>,
}

impl Watcher {
    /// `archives` by their hashes.
    pub(super) fn new(printer: Printer, log: File, archives: HashMap<String, File>) -> Self {
        Self { printer: Mutex::new(printer), log: Mutex::new(log), archives }
    }
}

#[async_trait]
impl BuildWatcher for Watcher {
    fn log(&self, entry: BuildLog) {
        let entry = BuildLogEntry {
            timestamp: entry.at.to_rfc3339(),
            message: entry.message,
            level: level(entry.level),
            step: Some(entry.stage.to_string()),
        };
        let text = self.printer.lock().unwrap_or_else(PoisonError::into_inner).lines(&entry);
        eprint!("{text}");
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = log.write_all(text.as_bytes()) {
            tracing::warn!(%error, "the build's log cannot be written");
        }
    }

    async fn files(&self, files: &str) -> Result<Body, BoxError> {
        let archive = self.archives.get(files).ok_or("there is no such archive")?;
        // Steps come one after another, so nobody else reads it.
        let mut archive = archive.try_clone()?;
        archive.rewind()?;
        Ok(file_body(archive))
    }
}

const fn level(level: BuildLogLevel) -> LogLevel {
    match level {
        BuildLogLevel::Debug => LogLevel::Debug,
        BuildLogLevel::Info => LogLevel::Info,
        BuildLogLevel::Warn => LogLevel::Warn,
        BuildLogLevel::Error => LogLevel::Error,
    }
}
