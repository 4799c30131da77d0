//! What the server asks of nodes: the whole of their contract, so that the two can be one process
//! today and two machines tomorrow.
//!
//! Order: calls about one sandbox take effect in the order in which they are made. Repetition:
//! every call may be repeated; `create` of an id that exists, `kill` of one that is gone, succeed.
//! Cancellation: dropping a returned future does not undo what it began; the node finishes or undoes
//! it, and reports.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use courier_types::{
    EndReason, Generation, Isolation, ObservedState, SandboxId, SandboxSpec, Timestamp, Usage,
};
use http_body_util::combinators::UnsyncBoxBody;

/// An error that carries its own chain.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body of a request to, or an answer from, a guest.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What a node is made of, for placement and for answers.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Isolation of the sandboxes that it makes.
    pub isolation: Isolation,
    /// Name and version of the technology, for people: `runsc 0.0~20240729`.
    pub technology: String,
    /// Builds that it can start at once (references as in [`SandboxSpec::build`]).
    pub builds: Vec<String>,
}

/// A state that a node reports.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of which sandbox.
    pub id: SandboxId,
    /// Reports with a lower generation than one seen before are stale.
    pub generation: Generation,
    /// What the node saw.
    pub state: ObservedState,
    /// When it saw it.
    pub at: Timestamp,
    /// What the sandbox had used by then, where it could be read.
    pub usage: Option<Usage>,
    /// Detail for people, e.g. the end of the isolation technology's own log.
    pub detail: Option<String>,
}

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The build is not on this node.
    #[error("build {build:?} is not on this node")]
    UnknownBuild {
        /// The reference that was asked for.
        build: String,
    },
    /// No such sandbox here, or no longer.
    #[error("sandbox {id} is not running here")]
    NotFound {
        /// The id.
        id: SandboxId,
    },
    /// The node has no room: try later or elsewhere. Nothing ran.
    #[error("the node has no room: {what}")]
    Full {
        /// What is short, with figures.
        what: String,
    },
    /// The sandbox ended instead of becoming ready. Nothing of the user's ran.
    #[error("sandbox {id} did not start ({reason})")]
    NotStarted {
        /// The id.
        id: SandboxId,
        /// Why it ended.
        reason: EndReason,
        /// What failed, as a chain.
        #[source]
        source: BoxError,
    },
    /// The guest closed its channel, did not answer in time or broke the protocol. Whether the
    /// request took effect is unknown.
    #[error("the guest of sandbox {id} failed")]
    Guest {
        /// The id.
        id: SandboxId,
        /// What it did.
        #[source]
        source: BoxError,
    },
    /// The node itself failed.
    #[error("the node failed")]
    Node(#[source] BoxError),
}

/// The node side of the server. Object safe; shared as [`SharedNode`].
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// What this node is.
    async fn info(&self) -> Result<NodeInfo, NodeError>;

    /// Makes a sandbox and returns when its guest daemon answers.
    async fn create(&self, spec: SandboxSpec) -> Result<(), NodeError>;

    /// Takes over a sandbox that outlived an earlier server, or says that it is gone
    /// ([`NodeError::NotFound`]).
    async fn adopt(&self, spec: SandboxSpec) -> Result<(), NodeError>;

    /// Destroys everything on this node that belongs to this server and is not in `keep`; returns
    /// what it destroyed.
    async fn reap_except(&self, keep: &[SandboxId]) -> Result<Vec<SandboxId>, NodeError>;

    /// Sets the time at which the node destroys the sandbox by itself.
    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), NodeError>;

    /// Destroys a sandbox; returns when no process of it is left. Gone already is success.
    async fn kill(&self, id: &SandboxId) -> Result<(), NodeError>;

    /// What a sandbox has used so far.
    async fn usage(&self, id: &SandboxId) -> Result<Usage, NodeError>;

    /// Sends one request to the guest daemon (envd protocol) and streams its answer. The request is
    /// trusted: authorisation has happened. Only the path, query, headers and body matter.
    async fn request(
        &self,
        id: &SandboxId,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeError>;

    /// Waits for the next report. One consumer; a report is delivered once, oldest first. When the
    /// bounded queue overflows, the oldest are merged into the newest of the same sandbox.
    async fn next_report(&self) -> Report;
}

/// A node, shared.
pub type SharedNode = Arc<dyn Node>;
