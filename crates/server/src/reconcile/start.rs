//! The first reconciliation, before anything is served: what an earlier server left is adopted or
//! ended, and what no row owns is destroyed.

use courier_protocol::node::NodeError;
use courier_store::{Ended, Purpose, SandboxRow, StoreError};
use courier_types::{DesiredState, EndReason, ObservedState, SandboxId};
use futures_util::{StreamExt as _, stream};

use super::NODE_CALLS_AT_ONCE;
use crate::app::App;
use crate::builds;
use crate::clock;
use crate::http::chain;
use crate::sandboxes::{SealedSpec, SealedSpecError, destroy};
use crate::volumes;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartReconcileError {
    #[error("cannot read or write what sandboxes there are")]
    Store(#[from] StoreError),
    #[error("the node cannot destroy what nobody owns")]
    Node(#[from] NodeError),
}

/// What to do with a row that an earlier server left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The node takes it over, if it is still there.
    Adopt,
    /// It goes.
    End(EndReason),
}

fn fate(row: &SandboxRow, now: courier_types::Timestamp) -> Fate {
    match (row.desired, row.observed) {
        (DesiredState::Killed, _) if row.started_at.is_some() => Fate::End(EndReason::Requested),
        (DesiredState::Killed, _) | (DesiredState::Running, ObservedState::Creating) => {
            Fate::End(EndReason::NeverStarted)
        }
        (DesiredState::Running, _) if row.spec.deadline <= now => Fate::End(EndReason::Timeout),
        (DesiredState::Running, _) => match row.purpose {
            Purpose::Client => Fate::Adopt,
            // Whoever waited for the execution, or for a volume's content, has been gone since the
            // old server went.
            Purpose::Execution | Purpose::Volume => Fate::End(EndReason::Lost),
        },
    }
}

/// Reconciles every row that has not ended; returns what the node has adopted.
pub(crate) async fn start(app: &App) -> Result<Vec<SandboxId>, StartReconcileError> {
    app.store.reset_generations().await?;
    builds::settle(app).await?;
    let rows = app.store.list_alive().await?;
    let settled: Vec<Result<Option<SandboxId>, StoreError>> = stream::iter(&rows)
        .map(|row| settle(app, row))
        .buffer_unordered(NODE_CALLS_AT_ONCE)
        .collect()
        .await;
    let adopted: Vec<SandboxId> =
        settled.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let reaped = app.node.reap_except(&adopted).await?;
    app.telemetry.reaped(reaped.len());
    volumes::settle(app).await?;
    if !rows.is_empty() || !reaped.is_empty() {
        let (found, reaped) = (rows.len(), reaped.len());
        tracing::info!(found, adopted = adopted.len(), reaped, "took over from an earlier server");
    }
    Ok(adopted)
}

async fn settle(app: &App, row: &SandboxRow) -> Result<Option<SandboxId>, StoreError> {
    let id = &row.spec.id;
    let reason = match fate(row, clock::now()) {
        Fate::End(reason) => reason,
        Fate::Adopt => match adopt(app, row).await? {
            Ok(()) => {
                app.store.mark_running(id, clock::now()).await?;
                return Ok(Some(id.clone()));
            }
            Err(reason) => reason,
        },
    };
    end(app, id, reason).await?;
    Ok(None)
}

/// Has the node take a sandbox over, with the network that it had; or says why it cannot be.
async fn adopt(app: &App, row: &SandboxRow) -> Result<Result<(), EndReason>, StoreError> {
    let id = &row.spec.id;
    let adopted = match SealedSpec::read(app, &row.project_id, id).await {
        Ok(sealed) => app.node.adopt(sealed.with(&row.spec)).await,
        Err(SealedSpecError::Store(error)) => return Err(error),
        Err(error) => return Ok(Err(not_adopted(id, &error, EndReason::Lost))),
    };
    Ok(match adopted {
        Ok(()) => Ok(()),
        Err(NodeError::NotFound { .. }) => Err(EndReason::Lost),
        Err(error) => Err(not_adopted(id, &error, EndReason::GuestLost)),
    })
}

/// Logs why a sandbox is not adopted; returns how it ends.
fn not_adopted(
    id: &SandboxId,
    error: &(dyn std::error::Error + 'static),
    reason: EndReason,
) -> EndReason {
    tracing::error!(sandbox = %id, error = chain(error), "could not adopt a sandbox");
    reason
}

/// Destroys a sandbox and ends its row. Where the node fails, the row stays `killing` for the sweep.
async fn end(app: &App, id: &SandboxId, reason: EndReason) -> Result<(), StoreError> {
    app.store.mark_killing(id).await?;
    if let Err(error) = destroy(app, id).await {
        tracing::error!(sandbox = %id, error = chain(&error), "could not destroy a sandbox");
        return Ok(());
    }
    let detail = Some("settled when the server started again".to_owned());
    let ended = Ended { reason, at: clock::now(), detail, usage: None };
    let first = if reason == EndReason::NeverStarted {
        app.store.mark_never_started(id, &ended).await?
    } else {
        app.store.mark_ended(id, &ended).await?
    };
    if first {
        app.telemetry.ended(reason);
    }
    Ok(())
}
