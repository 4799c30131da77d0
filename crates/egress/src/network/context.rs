//! What the connections of one sandbox share.

use std::sync::Arc;

use courier_types::SandboxId;

use crate::flow::FlowLog;
use crate::tls::UpstreamTrust;
use crate::tls::ca::SandboxCa;
use crate::tunnel::Tunnels;

/// What the connections of one sandbox share.
#[derive(Debug)]
pub(crate) struct Context {
    /// Whose it is.
    pub(crate) sandbox: SandboxId,
    /// What is written about it.
    pub(crate) flows: FlowLog,
    /// Its own CA.
    pub(crate) ca: SandboxCa,
    /// Whom it believes outside.
    pub(crate) trust: UpstreamTrust,
    /// Its private tunnels.
    pub(crate) tunnels: Arc<dyn Tunnels>,
}
