//! The one place that waits for children.
//!
//! As pid 1 the daemon inherits every orphan of the sandbox, so nobody else may wait: whoever
//! starts a process does it under the reaper's lock and gets a promise of its exit.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl From<WaitStatus> for Exit {
    fn from(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // Only stops and continuations are left, and nobody asks the kernel for those.
            (None, None) => Self::Code(0),
        }
    }
}

/// Waits for every child, and tells those who asked.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    promises: Mutex<HashMap<Pid, oneshot::Sender<Exit>>>,
}

impl Reaper {
    /// Starts a process by `start`, and promises its exit.
    pub(crate) fn start<E>(
        &self,
        start: impl FnOnce() -> Result<Pid, E>,
    ) -> Result<(Pid, oneshot::Receiver<Exit>), E> {
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = start()?;
        let (promise, exit) = oneshot::channel();
        promises.insert(pid, promise);
        Ok((pid, exit))
    }

    /// Reaps for ever.
    ///
    /// # Errors
    /// Signals cannot be received; nothing would ever be reaped.
    pub(crate) async fn run(&self) -> io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.reap();
            children.recv().await;
        }
    }

    fn reap(&self) {
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(promise) = promises.remove(&pid) {
                        // Whoever asked may be gone.
                        let _unheard = promise.send(status.into());
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}
