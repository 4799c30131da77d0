//! TLS: who a client asks for, the sandbox's own CA, and verified TLS to the outside.

pub(crate) mod ca;
pub(crate) mod hello;
mod trust;

pub use self::ca::CaError;
pub(crate) use self::trust::Alpn;
pub use self::trust::{TrustError, UpstreamTrust};
