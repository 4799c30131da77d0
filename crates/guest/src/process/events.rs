//! What one request sees of a command: start, output, end.

use std::sync::Arc;

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::process::{DataEvent, Empty, ProcessEvent, StartEvent};
use futures_util::Stream;
use tokio::sync::mpsc;

use super::command::Command;
use super::status::End;

/// Who follows the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follower {
    /// Who started it: learns that its lifetime is over as its own deadline.
    Starter,
    /// Somebody else: learns that the command was killed.
    Other,
}

enum Phase {
    Started,
    Running,
    Over,
}

/// The events of a command from now on; `output` was subscribed to before.
pub(super) fn events(
    command: Arc<Command>,
    output: mpsc::Receiver<DataEvent>,
    follower: Follower,
) -> impl Stream<Item = Result<ProcessEvent, ConnectError>> + Send + 'static {
    let state = (Phase::Started, command, output);
    futures_util::stream::unfold(state, move |(phase, command, mut output)| async move {
        let (event, phase) = match phase {
            Phase::Started => (Ok(start(&command)), Phase::Running),
            Phase::Running => match output.recv().await {
                Some(data) => (Ok(data_event(data)), Phase::Running),
                None => (end(&command, follower), Phase::Over),
            },
            Phase::Over => return None,
        };
        Some((event, (phase, command, output)))
    })
}

/// Says that nothing happened.
pub(super) fn keepalive() -> ProcessEvent {
    ProcessEvent { keepalive: Some(Empty {}), ..ProcessEvent::default() }
}

fn start(command: &Command) -> ProcessEvent {
    let start = Some(StartEvent { pid: command.number() });
    ProcessEvent { start, ..ProcessEvent::default() }
}

fn data_event(data: DataEvent) -> ProcessEvent {
    ProcessEvent { data: Some(data), ..ProcessEvent::default() }
}

fn end(command: &Command, follower: Follower) -> Result<ProcessEvent, ConnectError> {
    match (command.end(), follower) {
        (Some(End::TimedOut(_)), Follower::Starter) => {
            Err(ConnectError::new(Code::DeadlineExceeded, "context deadline exceeded"))
        }
        (Some(end), _) => Ok(ProcessEvent { end: Some(end.event()), ..ProcessEvent::default() }),
        (None, _) => Err(ConnectError::internal("the command's output ended before the command")),
    }
}
