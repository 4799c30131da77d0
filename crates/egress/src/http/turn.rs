//! Whose turn it is on an HTTP/1 connection: the guest's, to send a request, or ours, to answer it.
//!
//! The guard in front of the parser and the proxy behind it share one: the guard lets the next
//! request through when the answer to the one before is complete, so that there is always at most
//! one request that somebody could disagree about.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::guard::Violation;

/// The turn of one connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    phase: Phase,
    violation: Option<Violation>,
    /// The guard's task, which waits for the turn to change.
    guard: Option<Waker>,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request may come.
    #[default]
    Asking,
    /// A request came and is not answered in full.
    Answering,
    /// The connection is no HTTP any more.
    Upgraded,
}

impl Turn {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the connection stands; `guard` is woken when that changes.
    pub(super) fn phase(&self, guard: &Waker) -> Phase {
        let mut shared = self.shared();
        let known = shared.guard.as_ref().is_some_and(|waker| waker.will_wake(guard));
        if !known {
            shared.guard = Some(guard.clone());
        }
        shared.phase
    }

    /// A request's head was let through.
    pub(super) fn begin(&self) {
        self.shared().phase = Phase::Answering;
    }

    /// The answer is complete, or will never be.
    pub(super) fn finish(&self) {
        self.change(Phase::Asking);
    }

    /// The request's upgrade takes place now.
    ///
    /// # Errors
    /// The guest sent something behind its request that it could not know to be wanted.
    pub(super) fn upgrade(&self) -> Result<(), Violation> {
        if let Some(violation) = self.violation() {
            return Err(violation);
        }
        self.change(Phase::Upgraded);
        Ok(())
    }

    /// Notes what was refused; true for the first, which stays.
    pub(super) fn refuse(&self, violation: Violation) -> bool {
        let mut shared = self.shared();
        let is_first = shared.violation.is_none();
        shared.violation.get_or_insert(violation);
        is_first
    }

    /// What was refused.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.shared().violation
    }

    fn change(&self, phase: Phase) {
        let waker = {
            let mut shared = self.shared();
            // Nothing leads back from an upgrade.
            if shared.phase != Phase::Upgraded {
                shared.phase = phase;
            }
            shared.guard.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
