//! Private tunnels: which there are, and how a connector's connection is handed to the node.

use async_trait::async_trait;
use courier_types::egress::TunnelName;
use courier_types::{ProjectId, Timestamp};

use super::{BoxError, ByteStream};

/// A tunnel that sandboxes of a project may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTunnel {
    /// Its name; reachable inside as `NAME.tunnel.internal`.
    pub name: TunnelName,
    /// The port under which it is reachable there.
    pub port: u16,
    /// Who leads to the service.
    pub kind: TunnelKind,
}

/// Who leads to the service behind a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelKind {
    /// The node itself, for every project.
    Node,
    /// A connector that runs near the service, for its own project.
    Connector {
        /// Whether it is connected.
        connected: bool,
        /// Since when it is, or is not.
        since: Timestamp,
    },
}

/// Which tunnels there are.
pub trait TunnelNames: Send + Sync + 'static {
    /// Those that sandboxes of the project may be given, in order of their names.
    fn offered(&self, project: &ProjectId) -> Vec<OfferedTunnel>;
}

/// Takes connectors.
pub trait TunnelHub: TunnelNames {
    /// Takes a name for a connector, before it is told that it is welcome. The name is free again
    /// when the slot is dropped.
    ///
    /// # Errors
    /// The name is taken, or there is no room.
    fn reserve(
        &self,
        project: &ProjectId,
        name: &TunnelName,
        port: u16,
    ) -> Result<Box<dyn TunnelSlot>, ReserveError>;
}

/// A name that is taken for one connector.
#[async_trait]
pub trait TunnelSlot: Send + 'static {
    /// Lets sandboxes through the connector for as long as it stays. Dropping the future ends the
    /// connector's connection and everything that goes through it.
    async fn serve(self: Box<Self>, stream: Box<dyn ByteStream>) -> Result<(), ConnectorError>;
}

/// Why a connector gets no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The operator of the node has a tunnel of that name.
    #[error("tunnel {name} is one of the server's own: choose another name")]
    Operators {
        /// The name.
        name: TunnelName,
    },
    /// Another connector has it.
    #[error("tunnel {name} has a connector already")]
    Connected {
        /// The name.
        name: TunnelName,
    },
    /// There are too many.
    #[error("there are {limit} connectors already, and there may be no more")]
    Full {
        /// How many there may be.
        limit: usize,
    },
}

/// Why a connector's connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// It did not speak the protocol, or was cut off.
    #[error("the connection of the connector broke")]
    Connection(#[source] BoxError),
}
