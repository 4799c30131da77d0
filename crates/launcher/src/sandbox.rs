//! A sandbox as all threads see it: they ask for things here and wait for the phase to change. Only
//! its keeper makes, watches and ends it.
//!
//! ```text
//! Starting ──▶ Running ──▶ Ended
//!     └──────▶ Failed
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::process::Pid;

use crate::cgroup::Cgroup;
use crate::checked::{Mount, Name};
use crate::host::Host;
use crate::keeper;
use crate::registry::Owner;
use crate::walls;
use crate::wire::{Ended, Limits, Refusal, Usage};

/// Stack of a keeper's thread, which calls little.
const STACK: usize = 256 * 1024;

/// One sandbox, as all threads see it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Its id.
    pub(crate) id: Name,
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the keeper.
    wake: OwnedFd,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    wanted: Wanted,
}

/// What was asked of a sandbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// When it ends, in microseconds since the Unix epoch.
    pub(crate) deadline_micros: i64,
    /// True when it shall end now.
    pub(crate) destroy: bool,
}

/// Where a sandbox stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Being made.
    Starting,
    /// Its Sentry runs.
    Running(Running),
    /// It never ran; nothing is left.
    Failed(Refusal),
    /// It ran; nothing is left but this.
    Ended(Ended),
}

/// What a running sandbox is reached by.
#[derive(Debug)]
pub(crate) struct Running {
    /// The host's end of the channel.
    pub(crate) channel: OwnedFd,
    /// The host's end of the network link.
    pub(crate) link: OwnedFd,
    /// The box, pid 1 of the sandbox's pid namespace.
    pub(crate) pidfd: OwnedFd,
    /// The same, for its paths in /proc.
    pub(crate) pid: Pid,
    /// Where it is accounted.
    pub(crate) cgroup: Cgroup,
}

/// The descriptors that a client gets.
#[derive(Debug)]
pub(crate) struct MachineFds {
    /// The host's end of the channel.
    pub(crate) channel: OwnedFd,
    /// Becomes readable when the sandbox is gone.
    pub(crate) gone: OwnedFd,
    /// The host's end of the network link.
    pub(crate) link: OwnedFd,
}

/// What a sandbox is made from.
#[derive(Debug)]
pub(crate) struct Order {
    /// Its owner.
    pub(crate) owner: Owner,
    /// The caps.
    pub(crate) limits: Limits,
    /// The image, open for reading only.
    pub(crate) image: OwnedFd,
    /// The owner's volumes, and where they go.
    pub(crate) volumes: Vec<Mount>,
}

impl Sandbox {
    /// A sandbox that is about to be made.
    pub(crate) fn new(id: Name, deadline_micros: i64) -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wanted = Wanted { deadline_micros, destroy: false };
        let state = State { phase: Phase::Starting, wanted };
        Ok(Self { id, state: Mutex::new(state), changed: Condvar::new(), wake })
    }

    /// Starts the keeper.
    pub(crate) fn keep(self: &Arc<Self>, host: &Arc<Host>, order: Order) -> io::Result<()> {
        let (sandbox, host) = (Arc::clone(self), Arc::clone(host));
        let work = move || keeper::keep(&sandbox, &host, order);
        std::thread::Builder::new().name(self.id.to_string()).stack_size(STACK).spawn(work)?;
        Ok(())
    }

    /// Waits until it has started, and gives its descriptors.
    pub(crate) fn machine(&self) -> Result<MachineFds, Refusal> {
        let mut state = self.lock();
        while matches!(state.phase, Phase::Starting) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &state.phase {
            Phase::Running(running) => {
                let duplicate = |fd: &OwnedFd| {
                    fd.try_clone().map_err(|error| Refusal::host("duplicate a descriptor", &error))
                };
                Ok(MachineFds {
                    channel: duplicate(&running.channel)?,
                    gone: duplicate(&running.pidfd)?,
                    link: duplicate(&running.link)?,
                })
            }
            Phase::Failed(refusal) => Err(refusal.clone()),
            Phase::Starting | Phase::Ended(_) => Err(Refusal::NotFound),
        }
    }

    /// Moves the deadline.
    pub(crate) fn set_deadline(&self, micros: i64) -> Result<(), Refusal> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Failed(_) | Phase::Ended(_)) {
            return Err(Refusal::NotFound);
        }
        state.wanted.deadline_micros = micros;
        self.wake();
        Ok(())
    }

    /// What it has used so far, or in all.
    pub(crate) fn usage(&self) -> Result<Usage, Refusal> {
        match &self.lock().phase {
            Phase::Starting => Ok(Usage::default()),
            Phase::Running(running) => Ok(running.usage()),
            Phase::Failed(_) => Err(Refusal::NotFound),
            Phase::Ended(ended) => Ok(ended.usage),
        }
    }

    /// Asks for its end, without waiting.
    pub(crate) fn ask_to_end(&self) {
        self.lock().wanted.destroy = true;
        self.wake();
    }

    /// Waits until nothing is left of it; tells how it ended, or why it never started.
    pub(crate) fn wait_for_end(&self) -> Result<Ended, Refusal> {
        let mut state = self.lock();
        loop {
            match &state.phase {
                Phase::Starting | Phase::Running(_) => {}
                Phase::Failed(refusal) => return Err(refusal.clone()),
                Phase::Ended(ended) => return Ok(ended.clone()),
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// True when the guest has closed its end of the channel.
    pub(crate) fn guest_has_left(&self) -> bool {
        let state = self.lock();
        let Phase::Running(running) = &state.phase else { return false };
        let mut polled = [PollFd::new(&running.channel, PollFlags::RDHUP)];
        let now = rustix::time::Timespec::default();
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// True when nothing but the record is left.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.lock().phase, Phase::Failed(_) | Phase::Ended(_))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked of it now.
    pub(crate) fn wanted(&self) -> Wanted {
        self.lock().wanted
    }

    /// Becomes readable when something else is asked of it.
    pub(crate) fn wakes(&self) -> &OwnedFd {
        &self.wake
    }

    /// Takes note of a wake.
    pub(crate) fn woken(&self) {
        // Empty is what it shall be.
        let _empty = rustix::io::read(&self.wake, &mut [0_u8; 8]);
    }

    /// Goes on to the next phase; only its keeper says so.
    pub(crate) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_all();
    }

    fn wake(&self) {
        // It only fails when the counter is full, and then the keeper is awake anyway.
        let _full = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Running {
    fn usage(&self) -> Usage {
        let root = format!("/proc/{}/root", self.pid.as_raw_nonzero());
        let disk_bytes = walls::disk_bytes(root.as_ref()).unwrap_or_default();
        Usage { disk_bytes, ..self.cgroup.usage() }
    }
}
