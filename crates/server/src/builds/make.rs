//! One build, from its turn to its end: a task of its own.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_protocol::node::{BuildError, BuildOrder, BuildStage, BuildWatcher, Built, NodeError};
use courier_store::{BuildReason, FinishedBuild};
use courier_types::{BuildId, ProjectId};
use futures_util::FutureExt as _;

use super::active::BuildUnderWay;
use super::cancel::CANCELLED;
use super::context::Context;
use super::log::{self, LogInlet};
use super::remove;
use crate::app::App;
use crate::clock;
use crate::http::chain;
use crate::telemetry::BuildOutcome;

/// How long the node may hold on to a build's log after the build's end.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the end of a build is tried to be written down; after that the sweep writes one.
const TRIES: u32 = 30;

/// How long to wait between two of them.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longest reason in bytes: a command line and some words.
const REASON_MAX: usize = 8 * 1024;

/// A build to make.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: BuildId,
    pub(super) project: ProjectId,
    /// Digests of the archives that its steps name.
    pub(super) digests: BTreeSet<String>,
    pub(super) order: BuildOrder,
}

/// Makes a build whose row says `building`, and writes its end down.
pub(super) async fn run(app: Arc<App>, job: Job) {
    let begun = Instant::now();
    let (id, reference) = (job.id.clone(), job.order.sandbox.build.clone());
    let under_way = begin(&app, &job).await;
    let _node_may_have_it = app.builds.gate.read().await;
    let (inlet, outlet) = log::log();
    let writing = {
        let (app, id) = (Arc::clone(&app), id.clone());
        tokio::spawn(async move { outlet.write(&app, &id).await })
    };
    let made = AssertUnwindSafe(make(&app, job, &under_way, &inlet)).catch_unwind().await;
    drop(inlet);
    let made = made.unwrap_or(Err(Failure::Panicked));
    app.telemetry.built(outcome(&made), begun.elapsed());
    let finished = finished(&id, made);
    let written = tokio::time::timeout(LOG_TIMEOUT, writing).await;
    // The node has logged what the build itself did wrong.
    if let (FinishedBuild::Failed(BuildReason { message, step: None }), Ok(Ok(number))) =
        (&finished, written)
    {
        let step = BuildStage::Finalize.to_string();
        log::append_failure(&app, &id, number, (step, message.clone())).await;
    }
    let first = finish(&app, &id, &finished).await;
    if matches!(finished, FinishedBuild::Ready { .. }) && !first {
        // It was deleted or cancelled meanwhile.
        remove(&app, &reference).await;
    }
    drop(under_way);
}

/// Publishes that a build is being made. From then on the sweep leaves its sandbox alone.
async fn begin(app: &App, job: &Job) -> BuildUnderWay {
    let _no_sweep_between = app.create_gate.read().await;
    app.builds.begin(&job.id, &job.order.sandbox.id)
}

/// Why a build was not made.
#[derive(Debug)]
enum Failure {
    Cancelled,
    Stopped,
    TooSlow(Duration),
    Panicked,
    Build(BuildError),
}

async fn make(
    app: &Arc<App>,
    job: Job,
    under_way: &BuildUnderWay,
    inlet: &LogInlet,
) -> Result<Built, Failure> {
    let turn = async {
        if app.builds.permits.available_permits() == 0 {
            inlet.say(BuildStage::Base, "waiting until another build has ended");
        }
        // The semaphore is never closed.
        app.builds.permits.acquire().await.ok()
    };
    let _permit = until_cancelled(app, under_way, turn).await?;
    let mut order = job.order;
    let limit = app.config.build_timeout;
    order.sandbox.deadline = clock::now().plus(limit);
    let watcher: Arc<dyn BuildWatcher> = Arc::new(Context {
        app: Arc::clone(app),
        project: job.project,
        log: inlet.clone(),
        digests: job.digests,
    });
    let built = tokio::time::timeout(limit, app.builder.build(order, watcher));
    match until_cancelled(app, under_way, built).await? {
        Ok(built) => built.map_err(Failure::Build),
        Err(_elapsed) => Err(Failure::TooSlow(limit)),
    }
}

/// Waits for something, unless the build shall end before.
async fn until_cancelled<T>(
    app: &App,
    under_way: &BuildUnderWay,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = under_way.cancel.cancelled() => Err(Failure::Cancelled),
        () = app.builds.stop.cancelled() => Err(Failure::Stopped),
        done = work => Ok(done),
    }
}

const fn outcome(made: &Result<Built, Failure>) -> BuildOutcome {
    match made {
        Ok(_) => BuildOutcome::Ready,
        Err(Failure::Cancelled) => BuildOutcome::Cancelled,
        Err(Failure::Stopped) => BuildOutcome::Stopped,
        Err(Failure::TooSlow(_)) => BuildOutcome::TimedOut,
        Err(Failure::Build(BuildError::Failed { .. })) => BuildOutcome::Failed,
        Err(Failure::Panicked | Failure::Build(BuildError::Node(_))) => BuildOutcome::Broken,
    }
}

fn finished(id: &BuildId, made: Result<Built, Failure>) -> FinishedBuild {
    let (message, step) = match made {
        Ok(Built { config, size_bytes, image_digest }) => {
            return FinishedBuild::Ready { config, size_bytes, image_digest };
        }
        Err(Failure::Cancelled) => (CANCELLED.to_owned(), None),
        Err(Failure::Stopped) => (
            "the server was shut down while the build was being made: build again".to_owned(),
            None,
        ),
        Err(Failure::TooSlow(limit)) => {
            (format!("the build took longer than {} minutes", limit.as_secs() / 60), None)
        }
        Err(Failure::Panicked) => ("the server failed; its log says why".to_owned(), None),
        Err(Failure::Build(BuildError::Failed { stage, message })) => {
            (message, Some(stage.to_string()))
        }
        Err(Failure::Build(BuildError::Node(error))) => (of_node(id, &error), None),
    };
    let mut message = message;
    message.truncate(message.floor_char_boundary(REASON_MAX));
    FinishedBuild::Failed(BuildReason { message, step })
}

/// What the author of a build is told of a node's failure.
fn of_node(id: &BuildId, error: &NodeError) -> String {
    match error {
        NodeError::Full { what } => format!("no room for the build: {what}"),
        NodeError::UnknownBuild { build } => format!(
            "build {build:?} of the template that it starts from is not on this machine: build \
             that template first"
        ),
        NodeError::NotFound { .. }
        | NodeError::NotStarted { .. }
        | NodeError::Guest { .. }
        | NodeError::PortClosed { .. }
        | NodeError::Network { .. }
        | NodeError::Node(_) => {
            tracing::error!(build = %id, error = chain(error), "the node could not make a build");
            "the node failed; the server's log says why".to_owned()
        }
    }
}

/// Writes an end down. False where there was one before, or the store refused to the last.
async fn finish(app: &App, id: &BuildId, finished: &FinishedBuild) -> bool {
    for _try in 0..TRIES {
        match app.store.finish_build(id, finished, clock::now()).await {
            Ok(first) => return first,
            Err(error) => {
                tracing::error!(build = %id, error = chain(&error), "could not end a build");
            }
        }
        let waited = tokio::time::sleep(RETRY_AFTER);
        if app.stop.run_until_cancelled(waited).await.is_none() {
            return false;
        }
    }
    false
}
