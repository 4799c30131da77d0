//! What an earlier server left of builds, and what no longer counts.

use std::sync::atomic::Ordering;
use std::time::Duration;

use courier_protocol::node::NodeError;
use courier_store::{BuildReason, FinishedBuild, StoreError};

use super::uploads::{self, SweepError};
use crate::app::App;
use crate::clock;
use crate::http::chain;

/// What the row of a build says whose server went away.
const INTERRUPTED: &str = "the server was stopped while the build was being made: build again";

/// What the row of a build says that nobody started.
const NEVER_STARTED: &str = "it was not started within 24 hours";

/// How long a build may wait to be started: an upload before that may take an hour.
const WAITING_MAX: Duration = Duration::from_hours(24);

/// Finished builds of a template that are kept though no tag names them and no sandbox runs from
/// them: enough to tag the one before last night's again, and a bound of the disk that they take.
const SUPERSEDED_MAX: u32 = 10;

/// At the start, before anything is served: what was being made is not any more.
pub(crate) async fn settle(app: &App) -> Result<(), StoreError> {
    let failed = app.store.fail_builds_under_way(INTERRUPTED, clock::now()).await?;
    if failed > 0 {
        tracing::warn!(failed, "builds of an earlier server were interrupted");
    }
    app.builds.leftovers.store(true, Ordering::Release);
    forget_unknown(app).await
}

/// One sweep.
pub(crate) async fn sweep(app: &App) -> Result<(), SweepError> {
    let now = clock::now();
    let before = clock::before(now, WAITING_MAX);
    app.store.expire_waiting_builds(before, NEVER_STARTED, now).await?;
    end_forgotten(app).await?;
    for build in app.store.superseded_builds(SUPERSEDED_MAX).await? {
        if app.store.delete_build(&build.id).await? && build.project_id.is_some() {
            remove(app, &build.reference).await;
        }
    }
    forget_unknown(app).await?;
    uploads::sweep(app).await
}

/// Ends builds that nobody makes: those whose end could not be written down.
async fn end_forgotten(app: &App) -> Result<(), StoreError> {
    for build in app.store.builds_under_way().await? {
        // One that has just been started is published before long; its row is newer than this.
        let fresh = clock::now().since(build.updated_at) < app.config.sweep_every;
        if app.builds.is_active(&build.id) || fresh {
            continue;
        }
        tracing::warn!(build = %build.id, "the sweep ends a build that nobody makes");
        let message = "the end of the build was lost: build again".to_owned();
        let reason = BuildReason { message, step: None };
        app.store.finish_build(&build.id, &FinishedBuild::Failed(reason), clock::now()).await?;
        app.builds.leftovers.store(true, Ordering::Release);
    }
    Ok(())
}

/// Has the node forget a build. Where it does not, the sweep goes on.
pub(crate) async fn remove(app: &App, reference: &str) {
    if let Err(error) = app.builder.remove(reference).await {
        tracing::error!(build = reference, error = chain(&error), "could not remove a build");
        app.builds.leftovers.store(true, Ordering::Release);
    }
}

/// Has the node forget the builds that no row knows, where there may be such. Not while anything is
/// being built: then the next sweep does.
async fn forget_unknown(app: &App) -> Result<(), StoreError> {
    let Ok(_nothing_is_being_made) = app.builds.gate.try_write() else { return Ok(()) };
    if !app.builds.leftovers.load(Ordering::Acquire) {
        return Ok(());
    }
    let keep = app.store.build_references().await?;
    let removed = app.builder.remove_except(&keep).await;
    app.builds.leftovers.store(removed.is_err(), Ordering::Release);
    report(removed);
    Ok(())
}

fn report(removed: Result<Vec<String>, NodeError>) {
    let (removed, error) = match removed {
        Ok(removed) if removed.is_empty() => return,
        Ok(removed) => (removed, None),
        Err(error) => (Vec::new(), Some(chain(&error))),
    };
    tracing::warn!(?removed, error, "removed builds that nobody knows");
}
