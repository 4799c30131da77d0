//! The periodic sweep: it repeats kills that failed, ends what a lost report would have ended,
//! destroys what nobody owns, and forgets what ended long ago. Each with a grace period, so that it
//! never races the ordinary ways.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use courier_protocol::node::NodeError;
use courier_store::{Ended, SandboxRow};
use courier_types::{DesiredState, EndReason, ObservedState, SandboxId, Timestamp};
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::http::chain;
use crate::sandboxes::{IDEMPOTENCY_KEPT_FOR, KillError, destroy};
use crate::{builds, clock, volumes};

/// How long after its deadline a sandbox is the sweep's: the node is expected to be in time.
const DEADLINE_GRACE: Duration = Duration::from_secs(10);

/// How long the node may take to say what a sandbox uses.
const USAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sandboxes that the node did not know at the sweep before.
#[derive(Debug, Default)]
pub(crate) struct Suspects(HashSet<SandboxId>);

pub(crate) async fn run(app: Arc<App>) {
    let mut suspects = Suspects::default();
    let every = app.config.sweep_every;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while app.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        report(sweep(&app, &mut suspects).await);
        report(builds::sweep(&app).await);
        report(volumes::sweep(&app).await);
    }
}

/// Logs why a sweep failed.
fn report<E: std::error::Error + 'static>(swept: Result<(), E>) {
    if let Err(error) = swept {
        tracing::error!(error = chain(&error), "a sweep failed; the next one goes on");
    }
}

/// One sweep.
pub(crate) async fn sweep(app: &App, suspects: &mut Suspects) -> Result<(), KillError> {
    let now = clock::now();
    let mut unknown = HashSet::new();
    for row in app.store.list_alive().await? {
        if let Some(reason) = overdue(app, &row, now) {
            end(app, &row, reason).await?;
        } else if row.is_usable() && node_forgot(app, &row).await {
            if suspects.0.contains(&row.spec.id) {
                end(app, &row, EndReason::Lost).await?;
            } else {
                unknown.insert(row.spec.id);
            }
        }
    }
    suspects.0 = unknown;
    reap(app).await?;
    prune(app, now).await?;
    Ok(())
}

/// Why a row is the sweep's to end, where it is.
fn overdue(app: &App, row: &SandboxRow, now: Timestamp) -> Option<EndReason> {
    if app.is_being_created(&row.spec.id) {
        return None;
    }
    match (row.desired, row.observed) {
        (DesiredState::Killed, _) => Some(EndReason::Requested),
        (DesiredState::Running, ObservedState::Creating) => Some(EndReason::NeverStarted),
        (DesiredState::Running, _) => {
            (row.spec.deadline.plus(DEADLINE_GRACE) <= now).then_some(EndReason::Timeout)
        }
    }
}

async fn node_forgot(app: &App, row: &SandboxRow) -> bool {
    let usage = tokio::time::timeout(USAGE_TIMEOUT, app.node.usage(&row.spec.id)).await;
    matches!(usage, Ok(Err(NodeError::NotFound { .. })))
}

async fn end(app: &App, row: &SandboxRow, reason: EndReason) -> Result<(), KillError> {
    let id = &row.spec.id;
    tracing::warn!(sandbox = %id, %reason, "the sweep ends a sandbox");
    app.store.mark_killing(id).await?;
    destroy(app, id).await?;
    let ended = Ended { reason, at: clock::now(), detail: None, usage: None };
    if app.store.mark_ended(id, &ended).await? {
        app.telemetry.ended(reason);
    }
    Ok(())
}

/// Destroys what the node has and no row owns. Not while anything is being made: then the next
/// sweep does.
async fn reap(app: &App) -> Result<(), KillError> {
    let Ok(_nothing_is_being_made) = app.create_gate.try_write() else { return Ok(()) };
    let mut owned: Vec<SandboxId> =
        app.store.list_alive().await?.into_iter().map(|row| row.spec.id).collect();
    owned.extend(app.builds.sandboxes());
    let reaped = app.node.reap_except(&owned).await?;
    app.telemetry.reaped(reaped.len());
    for id in reaped {
        tracing::warn!(sandbox = %id, "destroyed a sandbox that nobody owned");
    }
    Ok(())
}

async fn prune(app: &App, now: Timestamp) -> Result<(), KillError> {
    let before = clock::before(now, app.config.ended_kept_for);
    let keys_before = clock::before(now, IDEMPOTENCY_KEPT_FOR);
    app.store.prune(before, app.config.ended_kept_max, keys_before, now).await?;
    Ok(())
}
