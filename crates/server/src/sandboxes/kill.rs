//! Destroying a sandbox, from every state, as often as somebody asks.

use std::sync::Arc;
use std::time::Duration;

use courier_protocol::node::NodeError;
use courier_store::{Ended, SandboxRow, StoreError};
use courier_types::{EndReason, SandboxId};

use crate::app::App;
use crate::clock;
use crate::http::ApiError;

/// How long a node may take to destroy a sandbox before the sweep takes over.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the node's report on an end may take after the end: it is sent before `kill` returns.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a sandbox may still be there. It will go: the row says `killed` is desired, and the sweep
/// repeats it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KillError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the node did not destroy the sandbox")]
    Node(#[from] NodeError),
    #[error("the node did not destroy the sandbox within {} seconds", KILL_TIMEOUT.as_secs())]
    TooSlow,
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<KillError> for ApiError {
    fn from(error: KillError) -> Self {
        Self::internal(&error)
    }
}

/// Kills a sandbox and returns when it is gone. Dropping the future does not stop the work.
pub(crate) async fn kill(app: &Arc<App>, id: &SandboxId) -> Result<Option<SandboxRow>, KillError> {
    let (own, id) = (Arc::clone(app), id.clone());
    let work = app.work.spawn(async move { kill_to_the_end(&own, &id).await });
    work.await.map_err(|_join| KillError::Interrupted)?
}

async fn kill_to_the_end(app: &App, id: &SandboxId) -> Result<Option<SandboxRow>, KillError> {
    if app.store.mark_killing(id).await? {
        destroy(app, id).await?;
        // It may have ended by itself just before: then the node's word on it counts.
        if let Some(row) = app.ended(id, REPORT_TIMEOUT).await {
            return Ok(Some(row));
        }
        let ended =
            Ended { reason: EndReason::Requested, at: clock::now(), detail: None, usage: None };
        if app.store.mark_ended(id, &ended).await? {
            app.telemetry.ended(ended.reason);
        }
    }
    Ok(app.store.find_sandbox(id).await?)
}

/// Has the node destroy a sandbox, without a word about it in the store.
pub(crate) async fn destroy(app: &App, id: &SandboxId) -> Result<(), KillError> {
    match tokio::time::timeout(KILL_TIMEOUT, app.node.kill(id)).await {
        Ok(Ok(()) | Err(NodeError::NotFound { .. })) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_elapsed) => Err(KillError::TooSlow),
    }
}
