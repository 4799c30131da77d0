//! What a build says: bounded lines, in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use courier_protocol::node::{BuildError, BuildLog, BuildLogLevel, BuildStage, BuildWatcher};

use crate::config::Clock;

/// Longest line, in bytes; what is longer is cut, and says so.
const LINE_MAX_BYTES: usize = 4_096;

/// Most bytes of what one build's commands write that reach its log: more than anybody reads.
const OUTPUT_MAX_BYTES: usize = 4 * 1_024 * 1_024;

/// Longest message of a failure, in bytes: a command line with the end of what it wrote. A guest may
/// say anything in it.
const MESSAGE_MAX_BYTES: usize = 16 * 1_024;

/// What an entry costs beside its text, so that empty lines are bounded too.
const ENTRY_BYTES: usize = 64;

/// The log of one build.
#[derive(Clone)]
pub(super) struct Log {
    watcher: Arc<dyn BuildWatcher>,
    clock: Clock,
    stage: Arc<Mutex<BuildStage>>,
    budget: Arc<AtomicUsize>,
    left_out: Arc<AtomicUsize>,
}

impl Log {
    /// A log that a watcher reads, before the first step.
    pub(super) fn new(watcher: Arc<dyn BuildWatcher>, clock: Clock) -> Self {
        Self {
            watcher,
            clock,
            stage: Arc::new(Mutex::new(BuildStage::Base)),
            budget: Arc::new(AtomicUsize::new(OUTPUT_MAX_BYTES)),
            left_out: Arc::default(),
        }
    }

    /// Where the build is.
    pub(super) fn stage(&self) -> BuildStage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The build goes on to another stage.
    pub(super) fn enter(&self, stage: BuildStage) {
        self.tell_gap();
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Says something of our own, which nothing holds back. It may quote what a caller or a registry
    /// wrote, which ends up in terminals.
    pub(super) fn say(&self, level: BuildLogLevel, message: impl Into<String>) {
        let (at, stage) = ((self.clock)(), self.stage());
        let message = message.into().replace(|c: char| c.is_control() && c != '\t', " ");
        self.watcher.log(BuildLog { at, level, stage, message });
    }

    /// The failure of what the build is at.
    pub(super) fn failed(&self, message: impl Into<String>) -> BuildError {
        let steers = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
        let mut message = message.into().replace(steers, "\u{fffd}");
        if message.len() > MESSAGE_MAX_BYTES {
            message.truncate(message.floor_char_boundary(MESSAGE_MAX_BYTES));
            message.push_str(" […]");
        }
        BuildError::Failed { stage: self.stage(), message }
    }

    /// Says why the build failed. A message may quote a command, or what one wrote.
    pub(super) fn explain(&self, message: &str) {
        for line in message.lines() {
            self.say(BuildLogLevel::Error, printable(line));
        }
    }

    /// Passes a line of a command on, while there is room.
    fn pass(&self, level: BuildLogLevel, message: String) {
        let cost = message.len() + ENTRY_BYTES;
        let fits = |budget: usize| budget.checked_sub(cost);
        match self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_before) => self.say(level, message),
            Err(_too_little) => {
                // Once full it stays so: a log with holes would mislead.
                self.budget.store(0, Ordering::Relaxed);
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Says how much was left out since the last time, if anything was.
    pub(super) fn tell_gap(&self) {
        let lines = self.left_out.swap(0, Ordering::Relaxed);
        if lines > 0 {
            let most = OUTPUT_MAX_BYTES >> 20;
            let text = format!("[{lines} lines are left out: a build's log takes {most} MiB]");
            self.say(BuildLogLevel::Warn, text);
        }
    }
}

/// Cuts the output of a command into lines.
pub(super) struct Lines {
    log: Log,
    level: BuildLogLevel,
    line: Vec<u8>,
    is_cut: bool,
}

impl Lines {
    /// Of one of a command's outputs.
    pub(super) const fn new(log: Log, level: BuildLogLevel) -> Self {
        Self { log, level, line: Vec::new(), is_cut: false }
    }

    /// Takes what came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.add(line);
            self.end();
            rest = after.get(1..).unwrap_or_default();
        }
        self.add(rest);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = LINE_MAX_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        self.is_cut |= bytes.len() > room;
    }

    fn end(&mut self) {
        let mut text = printable(&String::from_utf8_lossy(&self.line));
        if self.is_cut {
            text.push_str(" […]");
        }
        self.log.pass(self.level, text);
        self.line.clear();
        self.is_cut = false;
    }

    /// The command has ended, maybe in the middle of a line.
    pub(super) fn finish(mut self) {
        if !self.line.is_empty() {
            self.end();
        }
    }
}

/// A line as a terminal would end up showing it: what was written over is gone, and so are the
/// sequences that colour it and all else that moves a cursor.
fn printable(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let shown = line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    let mut text = String::with_capacity(shown.len());
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\t' => text.push(c),
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    text
}

/// Skips what an escape character begins (ECMA-48: CSI sequences end with `@` to `~`).
fn skip_sequence(chars: &mut std::str::Chars<'_>) {
    if chars.next() == Some('[') {
        let _end = chars.find(|c| matches!(c, '@'..='~'));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use async_trait::async_trait;
    use courier_protocol::node::{Body, BoxError};

    use super::*;

    /// Keeps what is said.
    #[derive(Default)]
    pub(crate) struct Kept(pub(crate) Mutex<Vec<BuildLog>>);

    #[async_trait]
    impl BuildWatcher for Kept {
        fn log(&self, entry: BuildLog) {
            self.0.lock().unwrap().push(entry);
        }

        async fn files(&self, _files: &str) -> Result<Body, BoxError> {
            Err("there are no files".into())
        }
    }

    fn log() -> (Arc<Kept>, Log) {
        let kept = Arc::new(Kept::default());
        (Arc::clone(&kept), Log::new(kept, crate::config::system_clock()))
    }

    fn messages(kept: &Kept) -> Vec<String> {
        kept.0.lock().unwrap().iter().map(|entry| entry.message.clone()).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_the_last_needs_no_end() {
        let (kept, log) = log();
        let mut lines = Lines::new(log, BuildLogLevel::Info);
        for piece in ["on", "e\ntwo\n\nth", "ree"] {
            lines.push(piece.as_bytes());
        }
        lines.finish();
        assert_eq!(messages(&kept), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so_and_the_next_one_is_whole() {
        let (kept, log) = log();
        let mut lines = Lines::new(log, BuildLogLevel::Warn);
        for _piece in 0..100 {
            lines.push(&[b'x'; 1_000]);
        }
        lines.push(b"\nnext\n");
        lines.finish();
        let messages = messages(&kept);
        assert_eq!(messages[0].len(), LINE_MAX_BYTES + " […]".len());
        assert_eq!(messages[1..], ["next"]);
    }

    #[test]
    fn what_moves_a_cursor_is_gone() {
        assert_eq!(printable("10%\r50%\r100%\r"), "100%");
        assert_eq!(printable("\u{1b}[31mred\u{1b}[0m\ttab\u{7}"), "red\ttab\u{fffd}");
        assert_eq!(printable("\u{1b}"), "");
        assert_eq!(printable("a\u{1b}[999"), "a");
    }

    #[test]
    fn what_is_quoted_steers_no_terminal_and_has_an_end() {
        let (kept, log) = log();
        log.say(BuildLogLevel::Info, "FROM a\u{1b}]0;x\u{7}\r\nb\tc");
        assert_eq!(messages(&kept), ["FROM a ]0;x   b\tc"]);
        let BuildError::Failed { message, .. } = log.failed("ä\u{1b}[2J\n".repeat(10_000)) else {
            unreachable!("it failed")
        };
        assert!(message.len() <= MESSAGE_MAX_BYTES + " […]".len(), "{}", message.len());
        assert!(message.starts_with("ä\u{fffd}[2J\nä") && message.ends_with(" […]"));
    }

    #[test]
    fn a_flood_is_left_out_and_told_once_for_each_stage() {
        let (kept, log) = log();
        let mut lines = Lines::new(log.clone(), BuildLogLevel::Info);
        let flood = b"y\n".repeat(100_000);
        lines.push(&flood);
        log.enter(BuildStage::Step(2));
        log.tell_gap();
        let messages = messages(&kept);
        let passed = OUTPUT_MAX_BYTES / (1 + ENTRY_BYTES);
        assert_eq!(messages.len(), passed + 1);
        let gap = format!("[{} lines are left out: a build's log takes 4 MiB]", 100_000 - passed);
        assert_eq!(messages.last(), Some(&gap));
    }
}
