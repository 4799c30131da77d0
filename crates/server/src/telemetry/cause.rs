//! Why a sandbox was not made, as one word of a closed list.

use courier_protocol::node::NodeError;
use courier_store::StoreError;

use crate::sandboxes::CreateError;

/// Every word that [`of`] says.
pub(super) const ALL: [&str; 12] = [
    "conflict",
    "draining",
    "guest",
    "interrupted",
    "killed",
    "limit",
    "no_build",
    "no_room",
    "node",
    "not_started",
    "store",
    "timeout",
];

/// The word for it.
pub(super) const fn of(error: &CreateError) -> &'static str {
    match error {
        CreateError::Draining => "draining",
        CreateError::Store(error) => of_store(error),
        CreateError::Node(error) => of_node(error),
        CreateError::TooSlow { .. } => "timeout",
        CreateError::Killed { .. } => "killed",
        CreateError::ReplayedFailure { .. } => "conflict",
        CreateError::Interrupted => "interrupted",
    }
}

const fn of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::TooManySandboxes { .. } => "limit",
        StoreError::IdempotencyMismatch
        | StoreError::NoSecret { .. }
        | StoreError::NoVolume { .. } => "conflict",
        _ => "store",
    }
}

const fn of_node(error: &NodeError) -> &'static str {
    match error {
        NodeError::Full { .. } => "no_room",
        NodeError::UnknownBuild { .. } => "no_build",
        NodeError::NotStarted { .. } => "not_started",
        NodeError::Guest { .. } => "guest",
        NodeError::NotFound { .. }
        | NodeError::PortClosed { .. }
        | NodeError::Network { .. }
        | NodeError::Node(_) => "node",
    }
}
