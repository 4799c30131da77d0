//! The server with real kernels, as its clients see it. The kernels are those of `scripts/setup`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "everything here is a test or its helper")]

mod contexts;
mod executions;
mod hostile;
mod rig;
mod sdk;
