//! The control plane: public API, authentication, admission, reconcilers.
//!
//! ```text
//! router ─ layers (panic, time limit) ─ authentication ─ e2b/*, v1/*   handlers: parse, delegate, answer
//!                                                            │
//!                                                       sandboxes/*     create, kill, deadlines
//!                                                       builds/*        builds of templates
//!                                                        │      │
//! reconcile/* ── start, reports, sweep, samples ───────▶ store  node
//! telemetry/* ── what all of these count and time, for `GET /metrics`
//! ```
//!
//! Always: a row is written before the node is asked to make anything; work that was begun ends,
//! whether or not the client that asked for it is still there; desired and observed are never one.

mod app;
mod auth;
mod bootstrap;
mod builds;
mod clock;
mod config;
mod e2b;
mod egress;
mod http;
mod openapi;
mod random;
mod reconcile;
mod router;
mod sandboxes;
mod secrets;
mod server;
mod telemetry;
mod templates;
mod v1;
mod vault;
mod volumes;

pub use auth::ApiKey;
pub use bootstrap::{DEFAULT_PROJECT, ensure_default_project, issue_api_key};
pub use config::{BuildEgress, Config, EgressDefault};
pub use egress::StoredSecrets;
pub use openapi::document as openapi_document;
pub use server::{Parts, Server, StartError};
pub use vault::{Vault, VaultError};
