//! Moving the time at which a sandbox is killed.

use std::time::Duration;

use courier_protocol::node::NodeError;
use courier_store::{SandboxRow, StoreError};
use courier_types::Timestamp;

use crate::app::App;
use crate::clock;
use crate::http::ApiError;

/// How long a node may take to note a deadline.
const SET_DEADLINE_TIMEOUT: Duration = Duration::from_secs(10);

/// How the deadline moves, from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadlineChange {
    /// To there, sooner or later than before.
    Set(Duration),
    /// To there, unless it is later already.
    Extend(Duration),
}

/// Why a deadline was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeadlineError {
    #[error("the sandbox has just ended")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the node did not note the deadline")]
    Node(#[from] NodeError),
    #[error("the node did not note the deadline in time")]
    TooSlow,
}

impl From<DeadlineError> for ApiError {
    fn from(error: DeadlineError) -> Self {
        match error {
            DeadlineError::Gone | DeadlineError::Node(NodeError::NotFound { .. }) => {
                Self::not_found("Sandbox not found: it has just ended")
            }
            DeadlineError::Store(_) | DeadlineError::Node(_) | DeadlineError::TooSlow => {
                Self::internal(&error)
            }
        }
    }
}

/// Moves a usable sandbox's deadline: first in the store, from where a restarted server takes it,
/// then on the node. Returns the one that holds.
pub(crate) async fn move_deadline(
    app: &App,
    row: &SandboxRow,
    change: DeadlineChange,
) -> Result<Timestamp, DeadlineError> {
    let id = &row.spec.id;
    let _one_at_a_time = app.deadlines.lock().await;
    let current = app.store.find_sandbox(id).await?.ok_or(DeadlineError::Gone)?.spec.deadline;
    let now = clock::now();
    let target = match change {
        DeadlineChange::Set(span) => now.plus(span),
        DeadlineChange::Extend(span) => now.plus(span).max(current),
    };
    if target != current {
        if !app.store.set_end_at(id, target).await? {
            return Err(DeadlineError::Gone);
        }
        let noted = app.node.set_deadline(id, target);
        tokio::time::timeout(SET_DEADLINE_TIMEOUT, noted)
            .await
            .map_err(|_elapsed| DeadlineError::TooSlow)??;
    }
    Ok(target)
}
