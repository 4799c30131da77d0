//! Egress: the policy's one decision function, and what enforces it on the host's side of the fence.
//!
//! ```text
//! link (raw IP) ─▶ stack ─▶ DNS ──▶ policy ─▶ resolver, pins
//!                    └────▶ gate ─▶ policy ─▶ connection ─▶ TLS │ HTTP ─▶ policy ─▶ dialer
//!                                                                  └▶ broker (credentials)
//! ```
//!
//! What always holds: nothing reads the link before there is a policy; whatever ends here closes the
//! link, and without a link a sandbox has no network; what was decided is what is dialled and what
//! is logged.

mod broker;
mod connection;
mod dial;
mod dns;
mod flow;
mod http;
mod network;
pub mod policy;
mod source;
mod stack;
mod tls;
mod tunnel;

pub use dial::{PermitError, ProxyError, Reach, ReachError};
pub use dns::{ResolveError, Resolver, ResolverError};
pub use flow::{FlowLog, FlowReader};
pub use network::{HostSide, Network, NetworkError, Setup};
pub use source::{CredentialSource, SourceError};
pub use tls::{CaError, TrustError, UpstreamTrust};
pub use tunnel::{TunnelError, TunnelStream, Tunnels};
