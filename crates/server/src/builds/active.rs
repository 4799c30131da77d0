//! The builds that this process is making.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courier_types::{BuildId, SandboxId};
use tokio::sync::{RwLock, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long the end of a cancelled build is waited for: its sandbox is destroyed by then, or the
/// node goes on doing that by itself.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

/// One of them.
#[derive(Debug, Clone)]
struct Active {
    /// The sandbox of its steps, which no row of a sandbox owns.
    sandbox: SandboxId,
    /// Asks for its end.
    cancel: CancellationToken,
    /// Its end is written down.
    ended: CancellationToken,
}

/// All of them. Bounded by the projects' limits.
pub(crate) struct Builds {
    active: Mutex<HashMap<BuildId, Active>>,
    /// As many as may be made at once; the others wait.
    pub(crate) permits: Semaphore,
    /// Builds hold it for reading while the node may have something of them that no row says is
    /// there; whoever has the node forget what nobody knows holds it for writing.
    pub(crate) gate: RwLock<()>,
    /// The node may keep builds that nobody knows.
    pub(crate) leftovers: AtomicBool,
    /// The end of all of them: the server is shutting down.
    pub(crate) stop: CancellationToken,
}

impl Builds {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            active: Mutex::default(),
            permits: Semaphore::new(at_once),
            gate: RwLock::default(),
            leftovers: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }
    }

    /// Publishes that a build is being made, until the guard goes.
    pub(crate) fn begin(self: &Arc<Self>, id: &BuildId, sandbox: &SandboxId) -> BuildUnderWay {
        let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
        let active =
            Active { sandbox: sandbox.clone(), cancel: cancel.clone(), ended: ended.clone() };
        self.lock().insert(id.clone(), active);
        BuildUnderWay { builds: Arc::clone(self), id: id.clone(), cancel, ended }
    }

    /// Ends a build and waits until its end is written down. False where it is not being made.
    pub(crate) async fn cancel(&self, id: &BuildId) -> bool {
        let Some(active) = self.lock().get(id).cloned() else { return false };
        active.cancel.cancel();
        let _late = tokio::time::timeout(CANCEL_TIMEOUT, active.ended.cancelled()).await;
        true
    }

    /// True while a build is being made.
    pub(crate) fn is_active(&self, id: &BuildId) -> bool {
        self.lock().contains_key(id)
    }

    /// The sandboxes of all builds.
    pub(crate) fn sandboxes(&self) -> Vec<SandboxId> {
        self.lock().values().map(|active| active.sandbox.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BuildId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that is being made.
pub(crate) struct BuildUnderWay {
    builds: Arc<Builds>,
    id: BuildId,
    /// Somebody wants its end.
    pub(crate) cancel: CancellationToken,
    ended: CancellationToken,
}

impl Drop for BuildUnderWay {
    fn drop(&mut self) {
        self.builds.lock().remove(&self.id);
        self.ended.cancel();
    }
}
