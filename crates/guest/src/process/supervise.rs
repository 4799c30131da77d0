//! The task that owns a command from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::command::Command;
use super::pump::Source;
use super::status::End;
use crate::reaper::Exit;

/// How long the output of a killed command is waited for. A process that left its group may hold
/// the other end open for ever; a subscriber may read slowly.
const KILLED_OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// A started command, and what its supervisor needs.
pub(super) struct Started {
    pub(super) command: Arc<Command>,
    pub(super) exit: oneshot::Receiver<Exit>,
    pub(super) sources: Vec<Source>,
    pub(super) lifetime: Option<Duration>,
}

/// Runs until the command has ended and all its output is published; its lifetime, if it has one,
/// ends it by force.
pub(super) async fn supervise(started: Started) -> End {
    let Started { command, exit, sources, lifetime } = started;
    let mut pumps = JoinSet::new();
    for source in sources {
        pumps.spawn(source.pump(Arc::clone(&command)));
    }
    let deadline = lifetime.map(|lifetime| Instant::now() + lifetime);
    let mut timed_out = false;
    let mut exit = std::pin::pin!(exit);
    let status = tokio::select! {
        status = &mut exit => status,
        () = reached(deadline) => {
            timed_out = true;
            kill(&command);
            exit.await
        }
    };
    command.set_reaped();
    // Output ends when every process that inherited it has closed it, as in envd.
    let killed_before = timed_out || status == Ok(Exit::Signal(Signal::KILL.as_raw()));
    let drained = async { while pumps.join_next().await.is_some() {} };
    tokio::select! {
        () = drained => {}
        () = grace(&command, killed_before) => {}
        () = reached(deadline.filter(|_deadline| !timed_out)) => {
            timed_out = true;
            kill(&command);
        }
    }
    pumps.abort_all();
    // The reaper drops a promise only by keeping it.
    let exit = status.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
    let end = if timed_out { End::TimedOut(exit) } else { End::Exited(exit) };
    command.set_end(end);
    end
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn grace(command: &Command, killed_before: bool) {
    if !killed_before {
        command.killed.notified().await;
    }
    tokio::time::sleep(KILLED_OUTPUT_GRACE).await;
}

fn kill(command: &Command) {
    // There is nobody to tell: a process that cannot be killed is gone.
    let _gone = command.signal(Signal::KILL);
}
