//! One execution from its sandbox's creation to its destruction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_client::execution::{Conclusion, ExecutionError, ExecutionOutcome, ExecutionSpec};
use courier_client::{Fault, GuestClient, NodeTransport, Refusal};
use courier_protocol::node::NodeError;
use courier_protocol::v1::{
    CollectedFile, EndedBy, ExecutionAnswer, ExecutionEvent, LimitsBody, Timings,
};
use courier_store::SandboxRow;
use courier_types::{EndReason, SandboxId, Usage};
use tokio_util::sync::CancellationToken;

use super::collect::collect;
use super::output::Kept;
use super::plan::Plan;
use crate::app::App;
use crate::http::{ApiError, chain};
use crate::sandboxes;

/// How long to wait for the node's word on why a sandbox ended under its program.
const REPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the node may take to say what the sandbox has used.
const USAGE_TIMEOUT: Duration = Duration::from_secs(3);

/// What came out of the sandbox.
struct Ran {
    outcome: ExecutionOutcome,
    files: Vec<CollectedFile>,
    usage: Option<Usage>,
    end: Option<EndReason>,
}

/// Makes the sandbox, runs the program, brings everything back, kills the sandbox. `gone` is the
/// client's going.
pub(super) async fn perform(
    app: &Arc<App>,
    plan: Plan,
    gone: &CancellationToken,
    mut kept: Kept,
) -> Result<ExecutionAnswer, ApiError> {
    let begun = Instant::now();
    let row = sandboxes::create(app, plan.order).await.map_err(|error| ApiError::from(&*error))?;
    let create = begun.elapsed();
    let isolation = app.node_info.isolation.to_string();
    kept.events
        .send(ExecutionEvent::Started {
            sandbox_id: row.spec.id.to_string(),
            isolation: isolation.clone(),
        })
        .await;
    let ran = gone.run_until_cancelled(run(app, &row, plan.spec, &mut kept)).await;
    let total = begun.elapsed();
    kill(app, &row.spec.id).await;
    let ran = ran.ok_or_else(|| ApiError::request_timeout("the client hung up"))??;
    kept.flush().await;

    let (stdout, stderr) = kept.into_outputs(ran.outcome.stdout_cut, ran.outcome.stderr_cut);
    Ok(ExecutionAnswer {
        sandbox_id: row.spec.id.to_string(),
        ended: ended_by(ran.outcome.conclusion),
        exit_code: ran.outcome.exit_code,
        signal: ran.outcome.signal,
        sandbox_end: ran.end,
        stdout,
        stderr,
        files: ran.files,
        timings: Timings {
            create_ms: millis(create),
            run_ms: millis(ran.outcome.wall_time),
            total_ms: millis(total),
        },
        usage: ran.usage.map(Into::into),
        isolation,
        limits: LimitsBody::from(row.spec.limits),
    })
}

async fn run(
    app: &App,
    row: &SandboxRow,
    spec: ExecutionSpec,
    kept: &mut Kept,
) -> Result<Ran, ApiError> {
    let id = &row.spec.id;
    let client = GuestClient::new(Arc::new(NodeTransport::new(Arc::clone(&app.node), id.clone())));
    let mut outcome = match client.execute(spec, kept).await {
        Ok(outcome) => outcome,
        Err(error) => return Err(refusal(app, id, &error).await),
    };
    let files = collect(&client, &outcome.files_out).await;
    let mut usage = usage(app, id).await;
    let mut end = None;
    if matches!(outcome.conclusion, Conclusion::SandboxLost { .. }) {
        let ended = app.ended(id, REPORT_TIMEOUT).await;
        end = ended.as_ref().and_then(SandboxRow::end_reason);
        usage = ended.and_then(|row| row.usage).or(usage);
    }
    outcome.settle(&Usage::default(), &usage.unwrap_or_default(), end);
    Ok(Ran { outcome, files, usage, end })
}

/// What a sandbox has used so far; nothing when it is gone already, which its end will tell.
async fn usage(app: &App, id: &SandboxId) -> Option<Usage> {
    let read = tokio::time::timeout(USAGE_TIMEOUT, app.node.usage(id)).await;
    let failure = match read {
        Ok(Ok(usage)) => return Some(usage),
        Ok(Err(NodeError::NotFound { .. })) => return None,
        Ok(Err(error)) => chain(&error),
        Err(elapsed) => elapsed.to_string(),
    };
    tracing::warn!(sandbox = %id, failure, "what an execution used cannot be read");
    None
}

/// Why nothing ran, as an answer.
async fn refusal(app: &App, id: &SandboxId, error: &ExecutionError) -> ApiError {
    let text = chain(error);
    let source = match error {
        ExecutionError::FileName { .. } | ExecutionError::WorkingDirectory { .. } => {
            return ApiError::bad_request(text);
        }
        ExecutionError::WriteFile { source, .. } | ExecutionError::Start { source, .. } => source,
    };
    if source.is_sandbox_lost() {
        let ended = app.ended(id, REPORT_TIMEOUT).await;
        let why = ended.and_then(|row| row.end_reason()).map(|reason| format!(" ({reason})"));
        return ApiError::guest_failed(format!(
            "the sandbox ended before the program ran{}: {text}",
            why.unwrap_or_default()
        ));
    }
    match (source.refusal(), source.fault()) {
        (Some(Refusal::Exhausted), _) => {
            ApiError::unprocessable(format!("{text}: raise disk_mib or send less"))
        }
        (_, Fault::Caller) => ApiError::bad_request(text),
        (_, Fault::Guest) => ApiError::guest_failed(text),
        (_, Fault::Host) => ApiError::internal(source),
    }
}

/// The end of every execution. What fails here is the sweep's: the row says `killed` is desired.
async fn kill(app: &Arc<App>, id: &SandboxId) {
    if let Err(error) = sandboxes::kill(app, id).await {
        tracing::error!(sandbox = %id, error = chain(&error), "could not kill a sandbox yet");
    }
}

const fn ended_by(conclusion: Conclusion) -> EndedBy {
    match conclusion {
        Conclusion::Exited => EndedBy::Exit,
        Conclusion::Signalled => EndedBy::Signal,
        Conclusion::Timeout => EndedBy::Timeout,
        Conclusion::Memory => EndedBy::Memory,
        Conclusion::OutputLimit => EndedBy::Output,
        Conclusion::SandboxLost { .. } => EndedBy::SandboxLost,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
