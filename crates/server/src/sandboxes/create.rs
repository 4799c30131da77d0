//! Making a sandbox.
//!
//! ```text
//! row (running / creating) ─▶ node.create ─▶ running
//!                                │  └ killed meanwhile ─▶ node.kill ─▶ killed: requested
//!                                └ failed ─▶ node.kill ─▶ error: never started (row stays visible)
//! ```
//!
//! All of it is one task of its own: the client may go at any point and the row ends as it should.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_protocol::node::NodeError;
use courier_store::{
    AliveLimit, Ended, Idempotency, Insertion, NewSandboxRow, SandboxRow, StoreError, StoredSpec,
};
use courier_types::{EndReason, SandboxId, SandboxSpec};

use super::{CreateOrder, DataPlane, SealedSpec, destroy, secret_names};
use crate::app::App;
use crate::http::{ApiError, chain};
use crate::{clock, random};

/// How long an idempotency key is remembered.
pub(crate) const IDEMPOTENCY_KEPT_FOR: Duration = Duration::from_hours(24);

/// Seconds after which a full node is worth another try.
const FULL_RETRY_SECS: u16 = 5;

/// Seconds after which a draining server has been replaced, usually.
const DRAINING_RETRY_SECS: u16 = 10;

/// Why a sandbox was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("the server is shutting down and takes no new sandboxes")]
    Draining,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the node did not make the sandbox")]
    Node(#[from] NodeError),
    #[error("sandbox {id} was not ready within {} seconds", limit.as_secs())]
    TooSlow { id: SandboxId, limit: Duration },
    #[error("sandbox {id} was killed while it was being made")]
    Killed { id: SandboxId },
    #[error("the request that made sandbox {id} failed")]
    ReplayedFailure { id: SandboxId },
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<&CreateError> for ApiError {
    fn from(error: &CreateError) -> Self {
        match error {
            CreateError::Draining => Self::unavailable(error.to_string(), DRAINING_RETRY_SECS),
            CreateError::Store(StoreError::TooManySandboxes { alive }) => {
                Self::too_many(format!("{alive} sandboxes at once are the most: kill one first"), 1)
            }
            CreateError::Store(StoreError::IdempotencyMismatch) => Self::unprocessable(
                "this Idempotency-Key was used for another request: use a new one",
            ),
            CreateError::Store(StoreError::NoSecret { .. }) => Self::conflict(
                "a secret that the environment refers to was deleted just now; nothing was made",
            ),
            CreateError::Store(StoreError::NoVolume { .. }) => {
                Self::conflict("a volume was deleted just now; nothing was made")
            }
            CreateError::Store(store) => Self::internal(store),
            CreateError::Node(NodeError::Full { what }) => {
                Self::unavailable(format!("no room for another sandbox: {what}"), FULL_RETRY_SECS)
            }
            CreateError::Node(NodeError::UnknownBuild { build }) => Self::not_found(format!(
                "build {build:?} of the template is not on this machine: build the template first"
            )),
            CreateError::Node(error @ NodeError::NotStarted { .. }) => {
                Self::not_started(format!("Failed to place sandbox: {}", chain(error)))
            }
            CreateError::Node(error @ NodeError::Guest { .. }) => {
                Self::not_started(format!("Failed to place sandbox: {}", chain(error)))
            }
            CreateError::Node(
                node @ (NodeError::NotFound { .. }
                | NodeError::PortClosed { .. }
                | NodeError::Network { .. }
                | NodeError::Node(_)),
            ) => Self::internal(node),
            CreateError::TooSlow { .. } => Self::gateway_timeout(error.to_string()),
            CreateError::Killed { .. } | CreateError::ReplayedFailure { .. } => {
                Self::conflict(error.to_string())
            }
            CreateError::Interrupted => Self::internal(error),
        }
    }
}

/// Makes a sandbox and returns when it is usable. Dropping the future does not stop the work.
pub(crate) async fn create(
    app: &Arc<App>,
    order: CreateOrder,
) -> Result<SandboxRow, Arc<CreateError>> {
    let work = app.work.spawn(create_to_the_end(Arc::clone(app), order));
    work.await.unwrap_or_else(|_join| Err(failed(app, CreateError::Interrupted)))
}

/// Counts a failure. Those who ask for what is being made already are told it, and not counted.
fn failed(app: &App, error: CreateError) -> Arc<CreateError> {
    app.telemetry.not_created(&error);
    Arc::new(error)
}

async fn create_to_the_end(
    app: Arc<App>,
    order: CreateOrder,
) -> Result<SandboxRow, Arc<CreateError>> {
    let begun = Instant::now();
    if app.is_draining() {
        return Err(failed(&app, CreateError::Draining));
    }
    let (new, sealed, idempotency) = row_of(&app, order);
    let _gate = app.create_gate.read().await;
    let under_way = app.begin_create(&new.spec.id);
    let limit = AliveLimit(app.config.sandboxes_max);
    let inserted = app.store.insert_sandbox(&new, limit, idempotency.as_ref()).await;
    match inserted.map_err(|error| failed(&app, error.into()))? {
        Insertion::Inserted => {
            let outcome = make(&app, sealed.with(&new.spec)).await;
            let outcome = outcome.map_err(|error| failed(&app, error));
            under_way.finish(outcome.clone());
            outcome?;
            app.telemetry.created(begun.elapsed());
            usable_row(&app, &new.spec.id).await
        }
        Insertion::Replayed(id) => {
            drop(under_way);
            app.created(&id).await.unwrap_or(Ok(()))?;
            usable_row(&app, &id).await
        }
    }
}

/// The row of a sandbox that has been usable.
async fn usable_row(app: &App, id: &SandboxId) -> Result<SandboxRow, Arc<CreateError>> {
    let row = app.store.find_sandbox(id).await.map_err(CreateError::Store)?;
    row.filter(|row| row.started_at.is_some())
        .ok_or_else(|| Arc::new(CreateError::ReplayedFailure { id: id.clone() }))
}

/// Asks the node, and leaves the row in a state that is true.
async fn make(app: &App, spec: SandboxSpec) -> Result<(), CreateError> {
    let id = spec.id.clone();
    // Who has said what shall run at first waits for that as well.
    let limit = match (&spec.config.start, &spec.config.ready) {
        (None, None) => app.config.create_timeout,
        (Some(_), _) | (None, Some(_)) => app.config.create_timeout_started,
    };
    let made = match tokio::time::timeout(limit, app.node.create(spec)).await {
        Ok(made) => made.map_err(CreateError::Node),
        Err(_elapsed) => Err(CreateError::TooSlow { id: id.clone(), limit }),
    };
    let error = match made {
        Ok(()) => match app.store.mark_running(&id, clock::now()).await {
            Ok(true) => return Ok(()),
            Ok(false) => CreateError::Killed { id: id.clone() },
            Err(error) => CreateError::Store(error),
        },
        Err(error) => error,
    };
    undo(app, &id, &error).await;
    Err(error)
}

/// Destroys what a failed create may have left, and ends its row. Where that fails, the row stays
/// `killing`, and the sweep goes on.
async fn undo(app: &App, id: &SandboxId, error: &CreateError) {
    let reason = match error {
        CreateError::Killed { .. } => EndReason::Requested,
        CreateError::Node(NodeError::NotStarted { reason, .. }) => *reason,
        _ => EndReason::NeverStarted,
    };
    let ended = Ended { reason, at: clock::now(), detail: Some(chain(error)), usage: None };
    let undone = async {
        app.store.mark_killing(id).await?;
        destroy(app, id).await?;
        Ok::<_, super::KillError>(app.store.mark_never_started(id, &ended).await?)
    };
    match undone.await {
        Ok(true) => app.telemetry.ended(reason),
        Ok(false) => {}
        Err(failure) => {
            tracing::error!(sandbox = %id, error = chain(&failure), "could not undo a failed create");
        }
    }
}

fn row_of(app: &App, order: CreateOrder) -> (NewSandboxRow, SealedSpec, Option<Idempotency>) {
    let now = clock::now();
    let idempotency = order.idempotency.map(|key| Idempotency {
        key: key.key,
        request_hash: key.request_hash,
        valid_since: clock::before(now, IDEMPOTENCY_KEPT_FOR),
    });
    let (id, project_id) = (random::sandbox_id(), order.project.id);
    let mut sealed = order.sealed;
    sealed.network.project = Some(project_id.clone());
    let volumes = sealed.volumes.iter().map(|mount| (mount.volume.clone(), mount.path.clone()));
    let new = NewSandboxRow {
        purpose: order.purpose,
        template_id: order.template.id,
        template_name: order.template.names.into_iter().next(),
        metadata: order.metadata,
        created_at: now,
        sealed: sealed.seal(app, &project_id, &id),
        secret_names: secret_names(&sealed.network),
        tokens: order.tokens,
        volumes: volumes.collect(),
        spec: StoredSpec {
            id,
            build: order.build.reference,
            limits: order.limits,
            deadline: now.plus(order.timeout),
            access_token: match order.data_plane {
                DataPlane::Guarded => Some(random::access_token()),
                DataPlane::Open => None,
            },
            template: order.reference,
        },
        project_id,
    };
    (new, sealed, idempotency)
}
