//! Volumes on a node: storage that outlives sandboxes. What is in them is reached from sandboxes
//! only.

use async_trait::async_trait;
use courier_types::VolumeId;

use super::BoxError;

/// Why a node did not do something with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No such volume here.
    #[error("volume {id} is not on this node")]
    NotFound {
        /// The id.
        id: VolumeId,
    },
    /// A sandbox has it. Nothing was changed.
    #[error("volume {id} is in use")]
    InUse {
        /// The id.
        id: VolumeId,
        /// By what.
        #[source]
        source: BoxError,
    },
    /// The node has no room. Nothing was made.
    #[error("the node has no room: {what}")]
    Full {
        /// What is short, with figures.
        what: String,
    },
    /// The sandboxes of this node cannot have volumes.
    #[error("the isolation of this node has no volumes")]
    Unsupported,
    /// The node itself failed.
    #[error("the node failed")]
    Node(#[source] BoxError),
}

/// Volumes of a node. A sandbox gets them with its spec.
///
/// Every call may be repeated. Dropping a returned future does not undo what it began.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes an empty volume of a fixed size in MiB; one of that id that is there stays as it is.
    /// Returns once it would survive a crash of the host.
    async fn make(&self, id: &VolumeId, size_mib: u32) -> Result<(), VolumeError>;

    /// Deletes a volume and all that is in it; refused while a sandbox has it.
    async fn delete(&self, id: &VolumeId) -> Result<(), VolumeError>;

    /// All volumes of this server, in order of id.
    async fn list(&self) -> Result<Vec<VolumeId>, VolumeError>;
}
