//! How a request reaches the guest daemon: the client's only dependency on the outside.

use async_trait::async_trait;
use courier_protocol::node::{Body, BoxError, NodeError, SharedNode};
use courier_types::SandboxId;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The sandbox is not there, or no longer. What was asked may have begun.
    #[error("the sandbox is gone")]
    Gone(#[source] BoxError),
    /// The guest did not answer in time, closed the channel or broke the protocol.
    #[error("the guest failed")]
    Guest(#[source] BoxError),
    /// The request did not get as far as the guest.
    #[error("the sandbox could not be reached")]
    Unreachable(#[source] BoxError),
}

/// Carries one request to the guest daemon of one sandbox and streams its answer.
///
/// The request's URI is a path and query only. An answer is there when its head is; its body streams.
/// Dropping the future or the body cancels the request.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request.
    async fn send(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, TransportError>;
}

/// A transport through the node that runs the sandbox.
pub struct NodeTransport {
    node: SharedNode,
    id: SandboxId,
}

impl NodeTransport {
    /// A transport to one sandbox of a node.
    #[must_use]
    pub const fn new(node: SharedNode, id: SandboxId) -> Self {
        Self { node, id }
    }
}

impl std::fmt::Debug for NodeTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTransport").field("id", &self.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for NodeTransport {
    async fn send(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, TransportError> {
        self.node.request(&self.id, request).await.map_err(|error| match error {
            NodeError::NotFound { .. } | NodeError::NotStarted { .. } => {
                TransportError::Gone(error.into())
            }
            NodeError::Guest { .. } => TransportError::Guest(error.into()),
            NodeError::UnknownBuild { .. }
            | NodeError::Full { .. }
            | NodeError::PortClosed { .. }
            | NodeError::Network { .. }
            | NodeError::Node(_) => TransportError::Unreachable(error.into()),
        })
    }
}
