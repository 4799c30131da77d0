//! The public API over a fake node: what clients send, what they get, and what is left.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of a test fails the test by panicking"
)]

mod auth;
mod bad_input;
mod builds;
mod document;
mod egress;
mod executions;
mod fake_builder;
mod fake_node;
mod fake_parts;
mod fake_volumes;
mod idempotency;
mod lifecycle;
mod lists;
mod logs;
mod metrics;
mod network;
mod ports;
mod restart;
mod secrets;
mod sweep;
mod tags;
mod templates;
mod tokens;
mod tunnels;
mod uploads;
mod volumes;
mod world;
