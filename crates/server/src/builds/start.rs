//! Starting a build that waits.

use std::sync::Arc;

use courier_protocol::e2b::StartTemplateBuild;
use courier_protocol::node::BuildOrder;
use courier_store::{BuildRow, ProjectRow, StartedBuild, StoreError};
use courier_types::{BuildConfig, BuildId, Limits, LimitsRequest, SandboxSpec};

use super::egress::{self, BuildNetwork};
use super::make::{self, Job};
use super::plan::{Plan, plan};
use crate::app::App;
use crate::http::ApiError;
use crate::sandboxes::secret_names;
use crate::{clock, random};

/// What the sandbox of a build's steps has at least, whatever sandboxes made from the build have:
/// compilers and package managers want more than what they make.
const STEPS_AT_LEAST: LimitsRequest = LimitsRequest {
    memory_mib: Some(1_024),
    cpu_millis: Some(2_000),
    pids: Some(1_024),
    disk_mib: Some(8_192),
    open_files: None,
};

/// Seconds after which one of a project's builds has ended, maybe.
const BUSY_RETRY_SECS: u16 = 30;

/// Seconds after which a draining server has been replaced, usually.
const DRAINING_RETRY_SECS: u16 = 10;

/// Starts a build; returns when that is written down. Dropping the future does not stop it.
pub(crate) async fn start(
    app: &Arc<App>,
    project: &ProjectRow,
    (build, template): (&BuildRow, String),
    asked: StartTemplateBuild,
) -> Result<(), ApiError> {
    if app.is_draining() {
        let message = "the server is shutting down and takes no new builds";
        return Err(ApiError::unavailable(message, DRAINING_RETRY_SECS));
    }
    let plan = plan(app, project, asked).await?;
    let network = egress::network(app, project, plan.source.egress.as_ref()).await?;
    let sandbox = sandbox(app, build, template, network);
    let started = StartedBuild {
        sandbox_id: sandbox.id.clone(),
        secret_names: secret_names(&sandbox.network),
        egress: plan.source.egress.clone(),
    };
    let job = job(project, build, plan, sandbox);
    let own = Arc::clone(app);
    let work = app.work.spawn(async move { begin(&own, job, &started).await });
    work.await.map_err(|join| ApiError::internal(&join))?
}

/// Writes down that a build is being made, and has it made: both, whether or not its client waits.
async fn begin(app: &Arc<App>, job: Job, started: &StartedBuild) -> Result<(), ApiError> {
    let max = app.config.builds_max;
    match app.store.start_build(&job.id, started, max, clock::now()).await {
        Ok(true) => {
            app.work.spawn(make::run(Arc::clone(app), job));
            Ok(())
        }
        Ok(false) => Err(not_waiting(app, &job.id).await?),
        Err(error @ StoreError::TooManyBuilds { .. }) => {
            Err(ApiError::too_many(error.to_string(), BUSY_RETRY_SECS))
        }
        Err(error) => Err(error.into()),
    }
}

/// What is said of a build that does not wait.
async fn not_waiting(app: &App, id: &BuildId) -> Result<ApiError, StoreError> {
    Ok(match app.store.find_build(id).await? {
        Some(row) => ApiError::bad_request(format!(
            "build '{}' is {}: only one that waits can be started",
            row.id,
            row.state.as_str()
        )),
        None => ApiError::not_found(format!("build '{id}' not found")),
    })
}

fn job(project: &ProjectRow, build: &BuildRow, plan: Plan, sandbox: SandboxSpec) -> Job {
    Job {
        id: build.id.clone(),
        project: project.id.clone(),
        digests: plan.digests,
        order: BuildOrder {
            source: plan.source.source,
            steps: plan.steps,
            start: plan.start,
            ready: plan.ready,
            force: plan.force,
            sandbox,
        },
    }
}

/// The sandbox of the steps. Its deadline is set when its turn comes.
fn sandbox(
    app: &App,
    build: &BuildRow,
    template: String,
    BuildNetwork { network, env, files }: BuildNetwork,
) -> SandboxSpec {
    SandboxSpec {
        id: random::sandbox_id(),
        build: build.reference.clone(),
        limits: limits(build.limits),
        deadline: clock::now().plus(app.config.build_timeout),
        env,
        access_token: Some(random::access_token()),
        template,
        network,
        files,
        config: BuildConfig::default(),
        volumes: Vec::new(),
    }
}

fn limits(asked: Limits) -> Limits {
    let own = LimitsRequest::from(asked);
    LimitsRequest {
        memory_mib: own.memory_mib.max(STEPS_AT_LEAST.memory_mib),
        cpu_millis: own.cpu_millis.max(STEPS_AT_LEAST.cpu_millis),
        pids: own.pids.max(STEPS_AT_LEAST.pids),
        disk_mib: own.disk_mib.max(STEPS_AT_LEAST.disk_mib),
        open_files: own.open_files,
    }
    .try_into()
    .expect("the larger of two values of a range lies in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_at_least_what_builds_need_and_more_where_more_was_asked_for() {
        let small = limits(Limits::default());
        assert_eq!((small.memory_mib(), small.disk_mib(), small.pids()), (1_024, 8_192, 1_024));
        let large = LimitsRequest { memory_mib: Some(4_096), ..LimitsRequest::default() };
        assert_eq!(limits(large.try_into().unwrap()).memory_mib(), 4_096);
    }
}
