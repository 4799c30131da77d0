//! What handlers and reconcilers share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use courier_protocol::node::{NodeInfo, Presets, SharedBuilder, SharedNode, TunnelHub};
use courier_store::{SandboxRow, Store};
use courier_types::SandboxId;
use tokio::sync::{Notify, OwnedMutexGuard, RwLock, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::builds::{Builds, Uploads};
use crate::reconcile::Samples;
use crate::sandboxes::CreateError;
use crate::telemetry::Telemetry;
use crate::volumes::Contents;
use crate::{Config, Parts, Vault};

/// What a create came to; none while it is under way.
pub(crate) type Outcome = Option<Result<(), Arc<CreateError>>>;

/// The server's insides.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) node: SharedNode,
    pub(crate) builder: SharedBuilder,
    pub(crate) vault: Vault,
    pub(crate) presets: Arc<dyn Presets>,
    pub(crate) tunnels: Arc<dyn TunnelHub>,
    pub(crate) node_info: NodeInfo,
    /// Builds under way.
    pub(crate) builds: Arc<Builds>,
    /// Archives of builds.
    pub(crate) uploads: Uploads,
    /// Volumes whose content is being asked for.
    pub(crate) contents: Contents,
    /// Samples of usage, by sandbox.
    pub(crate) samples: Samples,
    /// What is counted and timed.
    pub(crate) telemetry: Telemetry,
    /// A folder on the disk that the server's data is on.
    pub(crate) data: PathBuf,
    /// Creates under way, by sandbox. Bounded by the projects' limits.
    creates: Mutex<HashMap<SandboxId, watch::Receiver<Outcome>>>,
    /// Creates hold it for reading; whoever destroys what nobody owns holds it for writing.
    pub(crate) create_gate: RwLock<()>,
    /// Held from writing a deadline down to telling the node, so that the two agree.
    pub(crate) deadlines: tokio::sync::Mutex<()>,
    /// Held from writing a sandbox's network down to the node's having it in force, so that the two
    /// agree.
    pub(crate) networks: SandboxLocks,
    /// Rings when a sandbox has ended.
    pub(crate) ends: Notify,
    /// Work that ends though its client has gone.
    pub(crate) work: TaskTracker,
    /// The reconcilers.
    pub(crate) loops: TaskTracker,
    /// The end of the reconcilers.
    pub(crate) stop: CancellationToken,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(config: Config, parts: Parts, node_info: NodeInfo) -> Self {
        let Parts { store, node, builder, vault, presets, tunnels, uploads } = parts;
        Self {
            builds: Arc::new(Builds::new(config.builds_at_once)),
            data: uploads.parent().unwrap_or(&uploads).to_owned(),
            uploads: Uploads::new(uploads),
            telemetry: Telemetry::new(node_info.isolation.as_str(), &node_info.technology),
            config,
            store,
            node,
            builder,
            vault,
            presets,
            tunnels,
            node_info,
            contents: Contents::default(),
            samples: Samples::default(),
            creates: Mutex::default(),
            create_gate: RwLock::default(),
            deadlines: tokio::sync::Mutex::default(),
            networks: SandboxLocks::default(),
            ends: Notify::new(),
            work: TaskTracker::new(),
            loops: TaskTracker::new(),
            stop: CancellationToken::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// True once the server takes no new sandboxes and builds.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on the server takes no new sandboxes and builds; those builds end that are under
    /// way, for they may take longer than anybody waits for a server to stop.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
        self.builds.stop.cancel();
    }

    /// Publishes that a create is under way, until the guard goes.
    pub(crate) fn begin_create(self: &Arc<Self>, id: &SandboxId) -> CreateUnderWay {
        let (publish, watch) = watch::channel(None);
        self.lock_creates().insert(id.clone(), watch);
        CreateUnderWay { app: Arc::clone(self), id: id.clone(), publish }
    }

    /// Waits for the create of that sandbox; none where none is under way.
    pub(crate) async fn created(&self, id: &SandboxId) -> Outcome {
        let mut watch = self.lock_creates().get(id).cloned()?;
        watch.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }

    /// Waits until a sandbox has ended; none where it has not, after `limit`.
    pub(crate) async fn ended(&self, id: &SandboxId, limit: Duration) -> Option<SandboxRow> {
        let wait = async {
            loop {
                let rung = self.ends.notified();
                let row = self.store.find_sandbox(id).await.ok()??;
                if row.ended_at.is_some() {
                    return Some(row);
                }
                rung.await;
            }
        };
        tokio::time::timeout(limit, wait).await.ok().flatten()
    }

    /// True while a create of that sandbox is under way.
    pub(crate) fn is_being_created(&self, id: &SandboxId) -> bool {
        self.lock_creates().contains_key(id)
    }

    fn lock_creates(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<SandboxId, watch::Receiver<Outcome>>> {
        self.creates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lock per sandbox: a node that is slow with one of them keeps nobody else waiting. A lock is
/// there while somebody holds it or waits for it.
#[derive(Default)]
pub(crate) struct SandboxLocks(Mutex<HashMap<SandboxId, Weak<tokio::sync::Mutex<()>>>>);

impl SandboxLocks {
    /// Waits for the lock of a sandbox.
    pub(crate) async fn lock(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        self.of(id).lock_owned().await
    }

    fn of(&self, id: &SandboxId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_id, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// A create that is under way.
pub(crate) struct CreateUnderWay {
    app: Arc<App>,
    id: SandboxId,
    publish: watch::Sender<Outcome>,
}

impl CreateUnderWay {
    /// Tells everybody who waits.
    pub(crate) fn finish(self, outcome: Result<(), Arc<CreateError>>) {
        self.publish.send_replace(Some(outcome));
    }
}

impl Drop for CreateUnderWay {
    fn drop(&mut self) {
        self.app.lock_creates().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_one_sandboxs_and_goes_with_its_last_holder() {
        let locks = SandboxLocks::default();
        let (a, b) = (SandboxId::from_random([1; 20]), SandboxId::from_random([2; 20]));
        let held = locks.lock(&a).await;
        let waiting = locks.of(&a);
        assert!(waiting.try_lock().is_err(), "it is held");
        let other = locks.lock(&b).await;
        drop(held);
        assert!(waiting.try_lock().is_ok(), "it is free");
        drop((waiting, other));
        drop(locks.lock(&a).await);
        assert_eq!(locks.0.lock().unwrap().len(), 1, "only the last one is still known");
    }
}
