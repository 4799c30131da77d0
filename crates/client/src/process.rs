//! Commands: started, followed, fed and signalled.

use std::time::Duration;

use bytes::Bytes;
use courier_protocol::envd::process::{
    CloseStdinRequest, ConnectRequest, ConnectResponse, Empty, EndEvent, ListRequest, ListResponse,
    ProcessEvent, ProcessInfo, ProcessInput, ProcessSelector, Pty, PtySize, SendInputRequest,
    SendSignalRequest, Signal, StartRequest, StartResponse, UpdateRequest,
};

use crate::rpc::Messages;
use crate::{ClientError, GuestClient};

/// Most characters of a command's end in words that are kept.
const STATUS_LIMIT_CHARS: usize = 256;

/// Something that happened to a followed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It runs; always first.
    Started {
        /// Its process id inside.
        pid: u32,
    },
    /// It wrote to its standard output. A chunk may cut a UTF-8 sequence.
    Stdout(Bytes),
    /// It wrote to its standard error.
    Stderr(Bytes),
    /// It wrote to its terminal.
    Pty(Bytes),
    /// It ended; always last.
    Ended(Ended),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, when it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it, by name (`SIGKILL`), when one did.
    pub signal: Option<String>,
    /// In words, as the guest has it: `exit status 1`, `signal: killed`.
    pub status: String,
}

/// Which command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By process id inside.
    Pid(u32),
    /// By the tag that its starter gave it.
    Tag(String),
}

impl From<&Selector> for ProcessSelector {
    fn from(selector: &Selector) -> Self {
        match selector {
            Selector::Pid(pid) => Self { pid: Some(*pid), tag: None },
            Selector::Tag(tag) => Self { pid: None, tag: Some(tag.clone()) },
        }
    }
}

/// The signals' names by their words in a status.
const SIGNALS: [(&str, &str); 15] = [
    ("hangup", "SIGHUP"),
    ("interrupt", "SIGINT"),
    ("quit", "SIGQUIT"),
    ("illegal instruction", "SIGILL"),
    ("trace/breakpoint trap", "SIGTRAP"),
    ("aborted", "SIGABRT"),
    ("bus error", "SIGBUS"),
    ("floating point exception", "SIGFPE"),
    ("killed", "SIGKILL"),
    ("user defined signal 1", "SIGUSR1"),
    ("segmentation fault", "SIGSEGV"),
    ("user defined signal 2", "SIGUSR2"),
    ("broken pipe", "SIGPIPE"),
    ("alarm clock", "SIGALRM"),
    ("terminated", "SIGTERM"),
];

/// The signal's name in a status such as `signal: killed (core dumped)`; its words where they are
/// unknown.
fn signal_name(status: &str) -> String {
    let words = status.strip_prefix("signal: ").unwrap_or(status);
    let words = words.strip_suffix(" (core dumped)").unwrap_or(words);
    SIGNALS
        .iter()
        .find(|(known, _name)| *known == words)
        .map_or_else(|| words.to_owned(), |(_words, name)| (*name).to_owned())
}

impl From<EndEvent> for Ended {
    fn from(end: EndEvent) -> Self {
        let status: String =
            end.status.chars().filter(|c| !c.is_control()).take(STATUS_LIMIT_CHARS).collect();
        let exited = end.exited || !status.starts_with("signal: ");
        Self {
            exit_code: exited.then_some(end.exit_code),
            signal: (!exited).then(|| signal_name(&status)),
            status,
        }
    }
}

enum Source {
    Started(Messages<StartResponse>),
    Connected(Messages<ConnectResponse>),
}

/// The events of one command. Dropping it stops following; the command goes on.
pub struct Events {
    source: Source,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeStart,
    Running,
    Ended,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Events {
    const fn new(source: Source) -> Self {
        Self { source, phase: Phase::BeforeStart }
    }

    /// The next event, `None` after [`Event::Ended`]. Cancel safe.
    ///
    /// # Errors
    /// The stream broke off, was refused or breaks the protocol; nothing comes after that.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            let event = match &mut self.source {
                Source::Started(messages) => messages.next().await?.and_then(|m| m.event),
                Source::Connected(messages) => messages.next().await?.and_then(|m| m.event),
            };
            match (event, self.phase) {
                (None, Phase::Ended) => return Ok(None),
                (None, Phase::BeforeStart | Phase::Running) => {
                    return Err(ClientError::protocol("a command's events end without its end"));
                }
                (Some(_), Phase::Ended) => {
                    return Err(ClientError::protocol("an event after a command's end"));
                }
                (Some(event), phase) => {
                    if let Some(event) = self.accept(event, phase)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Checks one event against the phase; `None` for a keepalive.
    fn accept(&mut self, event: ProcessEvent, phase: Phase) -> Result<Option<Event>, ClientError> {
        let ProcessEvent { start, data, end, keepalive } = event;
        match (start, data, end, keepalive) {
            (Some(start), None, None, None) if phase == Phase::BeforeStart => {
                self.phase = Phase::Running;
                Ok(Some(Event::Started { pid: start.pid }))
            }
            (None, Some(data), None, None) if phase == Phase::Running => {
                match (data.stdout, data.stderr, data.pty) {
                    (Some(bytes), None, None) => Ok(Some(Event::Stdout(bytes.into()))),
                    (None, Some(bytes), None) => Ok(Some(Event::Stderr(bytes.into()))),
                    (None, None, Some(bytes)) => Ok(Some(Event::Pty(bytes.into()))),
                    _several_or_none => {
                        Err(ClientError::protocol("output of not exactly one kind"))
                    }
                }
            }
            (None, None, Some(end), None) if phase == Phase::Running => {
                self.phase = Phase::Ended;
                Ok(Some(Event::Ended(end.into())))
            }
            (None, None, None, Some(Empty {})) => Ok(None),
            _several_or_out_of_order => {
                Err(ClientError::protocol("a command's event that is out of order"))
            }
        }
    }
}

impl GuestClient {
    /// Starts a command and follows it. After `timeout` the guest kills it (the stream then ends
    /// with [`crate::Refusal::TimedOut`]); `None` lets it run.
    ///
    /// # Errors
    /// See [`ClientError`]; a command that cannot be started is a refusal.
    pub async fn start(
        &self,
        request: &StartRequest,
        timeout: Option<Duration>,
    ) -> Result<Events, ClientError> {
        let messages = self.stream("/process.Process/Start", request, timeout).await?;
        Ok(Events::new(Source::Started(messages)))
    }

    /// Follows a command that runs already, from now on.
    ///
    /// # Errors
    /// See [`ClientError`]; a command that is not there is a refusal.
    pub async fn connect(&self, selector: &Selector) -> Result<Events, ClientError> {
        let request = ConnectRequest { process: Some(selector.into()) };
        let messages = self.stream("/process.Process/Connect", &request, None).await?;
        Ok(Events::new(Source::Connected(messages)))
    }

    /// The running commands.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_processes(&self) -> Result<Vec<ProcessInfo>, ClientError> {
        let answer: ListResponse = self.unary("/process.Process/List", &ListRequest {}).await?;
        Ok(answer.processes)
    }

    /// Writes to a command's standard input.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_stdin(&self, selector: &Selector, bytes: &[u8]) -> Result<(), ClientError> {
        let input = ProcessInput { stdin: Some(bytes.to_vec()), pty: None };
        self.send_input(selector, input).await
    }

    /// Writes to a command's terminal.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_pty(&self, selector: &Selector, bytes: &[u8]) -> Result<(), ClientError> {
        let input = ProcessInput { stdin: None, pty: Some(bytes.to_vec()) };
        self.send_input(selector, input).await
    }

    async fn send_input(
        &self,
        selector: &Selector,
        input: ProcessInput,
    ) -> Result<(), ClientError> {
        let request = SendInputRequest { process: Some(selector.into()), input: Some(input) };
        let Empty {} = self.unary("/process.Process/SendInput", &request).await?;
        Ok(())
    }

    /// Closes a command's standard input.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn close_stdin(&self, selector: &Selector) -> Result<(), ClientError> {
        let request = CloseStdinRequest { process: Some(selector.into()) };
        let Empty {} = self.unary("/process.Process/CloseStdin", &request).await?;
        Ok(())
    }

    /// Sends a signal to a command.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn signal(&self, selector: &Selector, signal: Signal) -> Result<(), ClientError> {
        let request = SendSignalRequest { process: Some(selector.into()), signal: signal.into() };
        let Empty {} = self.unary("/process.Process/SendSignal", &request).await?;
        Ok(())
    }

    /// Resizes a command's terminal.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resize(&self, selector: &Selector, size: PtySize) -> Result<(), ClientError> {
        let request =
            UpdateRequest { process: Some(selector.into()), pty: Some(Pty { size: Some(size) }) };
        let Empty {} = self.unary("/process.Process/Update", &request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ended_by_a_signal_has_its_name_and_no_exit_code() {
        let end =
            EndEvent { exit_code: -1, status: "signal: killed".into(), ..EndEvent::default() };
        let ended = Ended::from(end);
        assert_eq!((ended.exit_code, ended.signal.as_deref()), (None, Some("SIGKILL")));
        assert_eq!(signal_name("signal: segmentation fault (core dumped)"), "SIGSEGV");
        assert_eq!(signal_name("signal: real-time 5"), "real-time 5");
    }

    #[test]
    fn a_command_that_exited_has_its_code_although_zero_was_left_out() {
        let end = EndEvent { exited: true, status: "exit status 0".into(), ..EndEvent::default() };
        assert_eq!(Ended::from(end).exit_code, Some(0));
    }
}
