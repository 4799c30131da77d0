//! Private tunnels: named ways to one private service each.

use std::io;

use async_trait::async_trait;
use courier_types::SandboxId;
use courier_types::egress::TunnelName;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a tunnel did not open.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No tunnel of that name, or not for this sandbox.
    #[error("there is no tunnel {name}")]
    Unknown {
        /// The name.
        name: TunnelName,
    },
    /// Its connector is not connected.
    #[error("the connector of tunnel {name} is not connected")]
    Disconnected {
        /// The name.
        name: TunnelName,
    },
    /// The service behind it does not answer.
    #[error("the service behind tunnel {name} does not answer")]
    Service {
        /// The name.
        name: TunnelName,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

/// A connection through a tunnel.
pub trait TunnelStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> TunnelStream for S {}

/// Opens tunnels.
#[async_trait]
pub trait Tunnels: Send + Sync + std::fmt::Debug + 'static {
    /// The port under which the tunnel is reachable inside; `None` when there is no such tunnel for
    /// this sandbox.
    fn port(&self, sandbox: &SandboxId, name: &TunnelName) -> Option<u16>;

    /// A new connection to the service behind it.
    async fn open(
        &self,
        sandbox: &SandboxId,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError>;
}

/// No tunnels.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct NoTunnels;

#[cfg(test)]
#[async_trait]
impl Tunnels for NoTunnels {
    fn port(&self, _sandbox: &SandboxId, _name: &TunnelName) -> Option<u16> {
        None
    }

    async fn open(
        &self,
        _sandbox: &SandboxId,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError> {
        Err(TunnelError::Unknown { name: name.clone() })
    }
}
