//! A sandbox of a build: nobody's but the build's, and gone with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courier_client::{ClientError, GuestClient, NodeTransport};
use courier_lifecycle::sandbox::{Origin, State};
use courier_protocol::node::{BuildError, Node as _, NodeError};
use courier_types::{EndReason, SandboxId, SandboxSpec, Usage};

use super::log::Log;
use super::text;
use crate::failure::Failure;
use crate::local::LocalNode;
use crate::sandbox::{Handle, Making, Purpose};

/// Longest wait for a sandbox that seems lost to be destroyed, and its end to be known.
const FATE_DEADLINE: Duration = Duration::from_secs(5);

/// A disk that is so full, in per cent, is what made a command fail.
const DISK_FULL_PERCENT: u64 = 95;

/// Ends a sandbox when the build goes, whether or not it is made yet.
struct Guard {
    node: Arc<LocalNode>,
    id: SandboxId,
    has_ended: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let (node, id) = (Arc::clone(&self.node), self.id.clone());
        // Without a runtime the process ends: the next start of the server reaps what it left.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = node.kill(&id).await {
                    tracing::error!(sandbox = %id, error = text::chain(&error), "a build's sandbox stays");
                }
            });
        }
    }
}

/// A sandbox of a build that runs. Dropping it ends it.
pub(super) struct BuildSandbox {
    guard: Guard,
    handle: Arc<Handle>,
    guest: GuestClient,
}

impl BuildSandbox {
    /// Makes one of an image. What its start and ready commands do wrong is the build's failure.
    pub(super) async fn make(
        node: &Arc<LocalNode>,
        spec: SandboxSpec,
        image: PathBuf,
        (start_deadline, log): (Duration, &Log),
    ) -> Result<Self, BuildError> {
        let id = spec.id.clone();
        let guard = Guard { node: Arc::clone(node), id: id.clone(), has_ended: false };
        let (origin, purpose) = (Origin::Fresh, Purpose::Build);
        let making = Making { origin, image, purpose, start_deadline };
        let handle = node.make(spec, making).await.map_err(|error| not_made(error, log))?;
        let transport = NodeTransport::new(Arc::clone(node) as _, id);
        let guest = GuestClient::new(Arc::new(transport));
        Ok(Self { guard, handle, guest })
    }

    /// The way inside, as root.
    pub(super) fn root(&self) -> GuestClient {
        self.guest.as_user(Some("root"))
    }

    /// The way inside, as a user.
    pub(super) fn guest(&self, user: &str) -> GuestClient {
        self.guest.as_user(Some(user))
    }

    /// Ends it when what it was for is over, well or not; returns when nothing of it is left.
    pub(super) async fn end_with<T>(
        mut self,
        result: Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let killed = self.guard.node.kill(&self.guard.id).await;
        self.guard.has_ended = killed.is_ok();
        // The first failure is the cause.
        let value = result?;
        killed?;
        Ok(value)
    }

    /// What it has used so far; nothing where that cannot be read.
    pub(super) async fn usage(&self) -> Usage {
        self.guard.node.usage(&self.guard.id).await.unwrap_or_default()
    }

    /// What ran short since then, where something did, as the end of a message.
    pub(super) async fn shortage(&self, before: &Usage) -> Option<String> {
        let (limits, after) = (self.handle.spec.limits, self.usage().await);
        if after.oom_kills > before.oom_kills {
            let most = limits.memory_mib();
            return Some(format!("the build's memory ({most} MiB) ran out: give it more"));
        }
        let disk_bytes = u64::from(limits.disk_mib()) << 20;
        if after.disk_bytes.saturating_mul(100) >= disk_bytes.saturating_mul(DISK_FULL_PERCENT) {
            let most = limits.disk_mib();
            return Some(format!("the build's disk ({most} MiB) is full: give it more"));
        }
        None
    }

    /// A call's failure as that of the build: what the guest refused is told in its words, and a
    /// sandbox that ended says why.
    pub(super) async fn explain(&self, what: &str, error: ClientError, log: &Log) -> BuildError {
        if let ClientError::Refused { message, .. } = &error {
            return log.failed(format!("{what}: {message}"));
        }
        if error.is_sandbox_lost()
            && let Some(fate) = self.fate().await
        {
            return log.failed(format!("{what}: {fate}"));
        }
        let id = self.guard.id.clone();
        BuildError::Node(NodeError::Guest { id, source: error.into() })
    }

    /// How it ended, if it did.
    async fn fate(&self) -> Option<String> {
        let mut view = self.handle.view.clone();
        let ended = view.wait_for(|view| matches!(view.state, State::Ended(_)));
        let view = tokio::time::timeout(FATE_DEADLINE, ended).await.ok()?.ok()?.clone();
        let State::Ended(reason) = view.state else { return None };
        let limits = self.handle.spec.limits;
        Some(match reason {
            EndReason::Memory => {
                let most = limits.memory_mib();
                format!("the build's sandbox ran out of memory ({most} MiB): give it more")
            }
            EndReason::Timeout => "the build did not end within its time".to_owned(),
            EndReason::Requested
            | EndReason::Crashed
            | EndReason::GuestLost
            | EndReason::Lost
            | EndReason::NeverStarted => {
                let failure = view.failure.map(|failure| format!(": {}", failure.chain()));
                format!("the build's sandbox ended ({reason}){}", failure.unwrap_or_default())
            }
        })
    }
}

/// A sandbox that did not start: the build's fault where its own commands failed.
fn not_made(error: NodeError, log: &Log) -> BuildError {
    if let NodeError::NotStarted { source, .. } = &error
        && let Some(failure) = source.downcast_ref::<Failure>()
        && let Some(start) = failure.start()
    {
        return log.failed(text::chain(start));
    }
    BuildError::Node(error)
}
