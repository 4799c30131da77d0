//! All commands of the sandbox.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::process::{ProcessInfo, ProcessSelector};
use tokio::time::Instant;

use super::command::Command;
use super::supervise::{Started, supervise};
use crate::reaper::Reaper;

/// Most commands that run at a time; a sandbox's limit of processes is usually lower.
const COMMANDS_MAX: usize = 4_096;

/// How long one can still connect to a command that has ended; envd's value.
const ENDED_KEPT: Duration = Duration::from_secs(30);

/// Most commands that have ended and are kept.
const ENDED_MAX: usize = 1_024;

/// All commands of the sandbox, and the reaper that waits for them.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    pub(crate) reaper: Reaper,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// In the order of their start.
    running: Vec<Arc<Command>>,
    /// In the order of their end.
    ended: VecDeque<(Instant, Arc<Command>)>,
}

impl Commands {
    /// Refuses when there are too many already.
    pub(super) fn check_room(&self) -> Result<(), ConnectError> {
        if self.tables().running.len() < COMMANDS_MAX {
            return Ok(());
        }
        let why = format!("{COMMANDS_MAX} commands run already: wait for some or kill some");
        Err(ConnectError::new(Code::ResourceExhausted, why))
    }

    /// Takes a started command and follows it to its end.
    pub(super) fn adopt(context: &Arc<crate::context::Context>, started: Started) {
        let context = Arc::clone(context);
        let command = Arc::clone(&started.command);
        context.commands().tables().running.push(Arc::clone(&command));
        tokio::spawn(async move {
            supervise(started).await;
            context.commands().retire(command);
        });
    }

    /// The running commands.
    pub(super) fn list(&self) -> Vec<ProcessInfo> {
        let tables = self.tables();
        tables.running.iter().filter(|command| command.end().is_none()).map(|c| c.info()).collect()
    }

    /// A running command.
    pub(super) fn running(
        &self,
        selector: Option<&ProcessSelector>,
    ) -> Result<Arc<Command>, ConnectError> {
        let wanted = Wanted::of(selector)?;
        let tables = self.tables();
        let found = tables.running.iter().rev().find(|c| wanted.is(c) && c.end().is_none());
        found.cloned().ok_or_else(|| wanted.not_found())
    }

    /// A command that runs or has ended a moment ago.
    pub(super) fn recent(
        &self,
        selector: Option<&ProcessSelector>,
    ) -> Result<Arc<Command>, ConnectError> {
        let wanted = Wanted::of(selector)?;
        let mut tables = self.tables();
        tables.forget(Instant::now());
        let ended = tables.ended.iter().map(|(_since, command)| command);
        let found = ended.chain(&tables.running).rev().find(|command| wanted.is(command));
        found.cloned().ok_or_else(|| wanted.not_found())
    }

    /// Kills every command, when the sandbox ends without the daemon being its pid 1.
    pub(crate) fn kill_all(&self) {
        for command in &self.tables().running {
            // Those that are gone are what we want.
            let _gone = command.signal(rustix::process::Signal::KILL);
        }
    }

    fn retire(&self, command: Arc<Command>) {
        let mut tables = self.tables();
        let now = Instant::now();
        tables.running.retain(|running| !Arc::ptr_eq(running, &command));
        tables.forget(now);
        if tables.ended.len() >= ENDED_MAX {
            tables.ended.pop_front();
        }
        tables.ended.push_back((now, command));
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn forget(&mut self, now: Instant) {
        while self.ended.front().is_some_and(|(since, _)| now - *since > ENDED_KEPT) {
            self.ended.pop_front();
        }
    }
}

/// What a selector asks for.
enum Wanted<'a> {
    Pid(u32),
    Tag(&'a str),
}

impl<'a> Wanted<'a> {
    fn of(selector: Option<&'a ProcessSelector>) -> Result<Self, ConnectError> {
        match selector {
            Some(ProcessSelector { pid: Some(pid), .. }) => Ok(Self::Pid(*pid)),
            Some(ProcessSelector { tag: Some(tag), .. }) => Ok(Self::Tag(tag)),
            Some(_) | None => {
                Err(ConnectError::invalid_argument("name the process by `pid` or by `tag`"))
            }
        }
    }

    fn is(&self, command: &Command) -> bool {
        match self {
            Self::Pid(pid) => command.number() == *pid,
            Self::Tag(tag) => command.tag.as_deref() == Some(*tag),
        }
    }

    fn not_found(&self) -> ConnectError {
        ConnectError::not_found(match self {
            Self::Pid(pid) => format!("process with pid {pid} not found"),
            Self::Tag(tag) => format!("process with tag {tag} not found"),
        })
    }
}
