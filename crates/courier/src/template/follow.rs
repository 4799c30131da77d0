//! A build on a server, from its first log entry to its end.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use courier_protocol::e2b::{BuildLogEntry, LogLevel, TemplateBuildInfo, TemplateBuildStatus};

use crate::api::{Api, ApiError};
use crate::output;
use crate::run::interrupt::Interrupt;

/// How often the log is asked for: as E2B's SDKs do.
const POLL: Duration = Duration::from_millis(200);
/// Entries of one page: the most that a server gives.
const PAGE: usize = 100;
/// A server that restarts is waited for as many polls before it counts as gone.
const MAX_FAILURES: u32 = 25;
/// Polls in which a build that was cancelled may come to its end.
const MAX_POLLS_AFTER_CANCEL: u32 = 50;
/// What stands before the title of a step that an earlier build did.
const CACHED: &str = "CACHED ";
/// Escape sequences: bold, dim, red, and none of it.
const STYLES: [&str; 4] = ["\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"];

/// A build that a server has.
#[derive(Debug, Clone)]
pub(crate) struct BuildPath {
    /// The template's id.
    pub(crate) template_id: String,
    /// The build's.
    pub(crate) build_id: String,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Sandboxes can be made from it.
    Ready,
    /// It failed.
    Failed {
        /// Why.
        message: String,
        /// Where: `base`, a number, `finalize`.
        step: Option<String>,
    },
    /// We cancelled it, and leave with this code.
    Cancelled(u8),
}

/// How lines of a log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// With colours.
    Coloured,
    /// As they are.
    Plain,
}

impl Look {
    /// Colours for a terminal that wants some.
    pub(crate) fn of_terminal(term: Option<&str>, is_wanted: bool) -> Self {
        let can = std::io::stderr().is_terminal() && term != Some("dumb");
        if can && is_wanted { Self::Coloured } else { Self::Plain }
    }
}

/// Writes the log of a build as it comes.
#[derive(Debug)]
pub(crate) struct Printer {
    /// What a step is called, by its stage.
    titles: BTreeMap<String, String>,
    stage: Option<String>,
    look: Look,
}

impl Printer {
    /// Steps that have no title are called by their number.
    pub(crate) const fn new(titles: BTreeMap<String, String>, look: Look) -> Self {
        Self { titles, stage: None, look }
    }

    /// An entry, with a title before it where another stage begins.
    pub(crate) fn lines(&mut self, entry: &BuildLogEntry) -> String {
        let [bold, dim, red, none] = match self.look {
            Look::Coloured => STYLES,
            Look::Plain => [""; 4],
        };
        let mut text = String::new();
        if entry.step.is_some() && entry.step != self.stage {
            self.stage.clone_from(&entry.step);
            let stage = entry.step.as_deref().unwrap_or_default();
            let title = self.title(stage);
            let (cached, is_title) = as_title(&entry.message, stage);
            text.push_str(&format!("{cached}{bold}{title}{none}\n"));
            if is_title && self.titles.contains_key(stage) {
                return text;
            }
        }
        let style = match entry.level {
            LogLevel::Debug => dim,
            LogLevel::Info | LogLevel::Warn => "",
            LogLevel::Error => red,
        };
        // What a step wrote cannot steer the terminal, nor look like a line of ours.
        let message = output::printable_name(entry.message.trim_end());
        let none = if style.is_empty() { "" } else { none };
        text.push_str(&format!("  {style}{message}{none}\n"));
        text
    }

    fn title(&self, stage: &str) -> String {
        match (self.titles.get(stage), stage) {
            (Some(title), _) => output::printable_name(title),
            (None, "base") => "base".to_owned(),
            (None, "finalize") => "start and check".to_owned(),
            (None, number) => format!("step {}", output::printable_name(number)),
        }
    }
}

/// Whether an entry is the server's own title of a step, `[2/5] RUN x` or `CACHED [2/5] RUN x`: ours
/// says the same with the line, so only what stands before it is shown.
fn as_title<'m>(message: &'m str, stage: &str) -> (&'m str, bool) {
    let begin = format!("[{stage}/");
    match message.find(&begin) {
        Some(0) => ("", true),
        Some(at) if message.get(..at) == Some(CACHED) => (CACHED, true),
        Some(_) | None => ("", false),
    }
}

/// Writes a build's log until it ends. The first Ctrl-C cancels it.
///
/// # Errors
/// The server is gone, or does not know the build.
pub(crate) async fn follow(
    api: &Api,
    build: &BuildPath,
    printer: &mut Printer,
    interrupt: &Interrupt,
) -> Result<Ending, ApiError> {
    let mut following = Following { api, build, offset: 0, failures: 0 };
    let mut polls = tokio::time::interval(POLL);
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut cancelled = None;
    let mut polls_left = MAX_POLLS_AFTER_CANCEL;
    loop {
        tokio::select! {
            _tick = polls.tick() => {}
            code = interrupt.wait(), if cancelled.is_none() => {
                eprintln!("cancelling the build");
                cancelled = Some(code);
                following.cancel().await?;
            }
        }
        let ended = following.page(printer).await?;
        match (ended, cancelled) {
            // It came to its end before it could be cancelled.
            (Some(Ending::Ready), _) => return Ok(Ending::Ready),
            (Some(_ended), Some(code)) => return Ok(Ending::Cancelled(code)),
            (Some(ended), None) => return Ok(ended),
            (None, Some(code)) => match polls_left.checked_sub(1) {
                Some(left) => polls_left = left,
                None => return Ok(Ending::Cancelled(code)),
            },
            (None, None) => {}
        }
    }
}

struct Following<'a> {
    api: &'a Api,
    build: &'a BuildPath,
    offset: usize,
    failures: u32,
}

impl Following<'_> {
    /// Writes one page; says how the build ended once that is all.
    async fn page(&mut self, printer: &mut Printer) -> Result<Option<Ending>, ApiError> {
        let BuildPath { template_id, build_id } = self.build;
        let path = format!(
            "/templates/{template_id}/builds/{build_id}/status?logsOffset={}&limit={PAGE}",
            self.offset
        );
        let info: TemplateBuildInfo = match self.api.get(&path).await {
            Ok(info) => info,
            Err(ApiError::Unreachable { .. }) if self.failures < MAX_FAILURES => {
                self.failures += 1;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.failures = 0;
        self.offset = self.offset.saturating_add(info.log_entries.len());
        for entry in &info.log_entries {
            eprint!("{}", printer.lines(entry));
        }
        if !info.log_entries.is_empty() {
            return Ok(None);
        }
        Ok(match info.status {
            TemplateBuildStatus::Waiting | TemplateBuildStatus::Building => None,
            TemplateBuildStatus::Ready => Some(Ending::Ready),
            TemplateBuildStatus::Error => {
                let (message, step) = match info.reason {
                    Some(reason) => (reason.message, reason.step),
                    None => ("the build failed".to_owned(), None),
                };
                Some(Ending::Failed { message, step })
            }
        })
    }

    async fn cancel(&self) -> Result<(), ApiError> {
        match self.api.tell(&format!("/v1/builds/{}/cancel", self.build.build_id)).await {
            // It has ended: the next page says how.
            Err(ApiError::Refused { status: http::StatusCode::CONFLICT, .. }) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: &str, level: LogLevel, message: &str) -> BuildLogEntry {
        BuildLogEntry {
            timestamp: "2026-01-01T00:00:00Z".to_owned(),
            message: message.to_owned(),
            level,
            step: Some(step.to_owned()),
        }
    }

    #[test]
    fn a_log_shows_each_stage_once_and_cannot_steer_the_terminal() {
        let entries = [
            entry("base", LogLevel::Info, "pulling"),
            entry("1", LogLevel::Info, "CACHED [1/2] RUN x"),
            entry("1", LogLevel::Info, "one"),
            entry("1", LogLevel::Warn, "\x1b[2Jtwo\nforged"),
            entry("2", LogLevel::Debug, "three"),
            entry("finalize", LogLevel::Error, "four"),
        ];
        let titles = [("1".to_owned(), "[1/2] RUN x (line 2)".to_owned())];
        let shown = [Look::Plain, Look::Coloured].map(|look| {
            let mut printer = Printer::new(titles.clone().into(), look);
            entries.iter().map(|entry| printer.lines(entry)).collect::<String>()
        });
        insta::assert_snapshot!(shown.join("--\n").replace('\x1b', "ESC"));
    }
}
