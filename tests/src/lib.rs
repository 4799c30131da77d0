//! Support for the end-to-end tests.
//!
//! Every test drives the real binaries with the real isolation: nothing here is a stand-in, and
//! nothing is skipped. What a test needs and this machine lacks fails the test, with the command
//! that mends it. Each file of `tests/` is one program that starts what it shares once, runs its
//! tests, stops everything and compares the host with how it was.

// What fails here fails a test, and must say where.
#![expect(clippy::panic, reason = "a helper of a test reports by panicking")]
#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

pub mod baseline;
pub mod connect;
pub mod dns;
pub mod environment;
pub mod git_server;
pub mod host;
pub mod http;
pub mod internet;
pub mod program;
pub mod registry;
pub mod rig;
pub mod sandbox;
pub mod sdk;
pub mod server;
pub mod suite;
pub mod wait;
