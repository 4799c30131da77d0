//! Private tunnels, and how connectors come to the server.
//!
//! ```text
//! connector ── POST /v1/tunnels/NAME/connector?port=N, Upgrade: courier-tunnel ──▶ server
//!           ◀── 101 ──
//! connector ◀── HTTP/2 on the same connection: one CONNECT per connection of a sandbox ── server
//! ```
//!
//! After the 101 the roles turn round: the server is the client of HTTP/2, the connector serves it.

use courier_types::egress::TunnelName;
use serde::{Deserialize, Serialize};

/// The protocol that a connector upgrades to (RFC 9110, section 7.8).
pub const CONNECTOR_PROTOCOL: &str = "courier-tunnel";

/// Where tunnels are reachable inside: `NAME.tunnel.internal`.
pub const TUNNEL_DOMAIN: &str = "tunnel.internal";

/// Most connections through one connector at once: more than a pool of database connections has.
pub const TUNNEL_STREAMS_MAX: u16 = 128;

/// What either side may have on its way in one connection through a connector, in bytes.
pub const TUNNEL_WINDOW_BYTES: u32 = 128 * 1_024;

/// What either side may have on its way in all of them: no connection can take another's share, and
/// a connector costs its peer no more memory than this, 16 MiB.
pub const TUNNEL_WINDOWS_BYTES: u32 = TUNNEL_STREAMS_MAX as u32 * TUNNEL_WINDOW_BYTES;

/// Most bytes of the header of a CONNECT or of its answer: they say next to nothing.
pub const TUNNEL_HEADER_BYTES: u32 = 8 * 1_024;

/// The path at which a connector takes its name, with the query.
#[must_use]
pub fn connector_path(name: &TunnelName, port: u16) -> String {
    format!("/v1/tunnels/{name}/connector?port={port}")
}

/// Answer of `GET /v1/tunnels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelList {
    /// The tunnels that a policy may name, in order of their names.
    pub tunnels: Vec<Tunnel>,
}

/// A private tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tunnel {
    /// Its name.
    pub name: String,
    /// Where it is reachable inside.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// Who leads to the service.
    pub kind: TunnelBy,
    /// False where its connector is not connected: what goes there is refused until it is again.
    pub connected: bool,
    /// Since when that is so, RFC 3339; absent where it always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// Who leads to the service behind a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TunnelBy {
    /// The server's node: the operator has configured it.
    Node,
    /// A connector that runs near the service.
    Connector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_asks_for_its_name_and_port() {
        let path = connector_path(&"DB".parse().unwrap(), 5_432);
        assert_eq!(path, "/v1/tunnels/db/connector?port=5432");
    }
}
