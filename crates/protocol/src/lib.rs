//! Every wire contract of CodeCourier.
//!
//! - [`e2b`]: E2B's control-plane REST API.
//! - [`v1`]: our own REST API.
//! - [`envd`]: the guest's data plane, as E2B's SDKs speak it (processes, files, signatures).
//! - [`node`]: what the server asks of a node.
//! - [`secret`]: values of secrets on their way in.
//! - [`percent`]: the encoding of addresses.
//!
//! Nothing here does I/O, reads a clock or logs. Everything that comes from a guest or a client is
//! bounded here, by a named constant, before it is believed.

pub mod e2b;
pub mod envd;
pub mod node;
pub mod percent;
pub mod secret;
pub mod v1;
