//! TLS: who a client asks for, the sandbox's own CA, and verified TLS to the outside.

pub(crate) mod ca;
pub(crate) mod hello;
mod trust;

pub(crate) use trust::Alpn;
pub use trust::{TrustError, UpstreamTrust};
