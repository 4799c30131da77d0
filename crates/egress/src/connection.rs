//! One connection of the guest: what is spoken on it, for which name, and whether it may go on.

use std::net::SocketAddrV4;
use std::sync::Arc;

use courier_types::egress::HostName;

use crate::network::Context;
use crate::policy::Scheme;

/// A connection on which HTTP is spoken, in clear or in TLS that was opened.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    /// What it shares with the sandbox's other connections.
    pub(crate) context: Arc<Context>,
    /// In clear or in TLS.
    pub(crate) scheme: Scheme,
    /// Where the guest went, and so where we go.
    pub(crate) address: SocketAddrV4,
    /// The names for which our own answers gave the address.
    pub(crate) names: Vec<HostName>,
    /// The server name of the TLS that was opened; one of `names`.
    pub(crate) server_name: Option<HostName>,
}
