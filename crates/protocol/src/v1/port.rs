//! A connection to a port of a sandbox through the API: for `courier sandbox open`.
//!
//! `GET /v1/sandboxes/ID/ports/PORT` with `Upgrade: courier-port` is answered with 101, and from then
//! on the bytes of the connection are those to and from the server inside.

use courier_types::SandboxId;

/// The protocol that a connection upgrades to (RFC 9110, section 7.8).
pub const PORT_PROTOCOL: &str = "courier-port";

/// The path at which a connection is asked for.
#[must_use]
pub fn port_path(id: &SandboxId, port: u16) -> String {
    format!("/v1/sandboxes/{id}/ports/{port}")
}
