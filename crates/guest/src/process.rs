//! `process.Process`: commands and terminals.
//!
//! ```text
//!   Start ──▶ running ──▶ exited (reaped) ──▶ ended (all output published) ──30 s──▶ forgotten
//! ```
//!
//! A command belongs to the sandbox, not to the request that started it. Its output goes to whoever
//! is subscribed, and waits for the slowest of them; without subscribers it is dropped.

mod command;
mod events;
mod input;
mod plan;
mod pump;
mod service;
mod spawn;
mod status;
mod supervise;
mod table;
mod terminal;

pub(crate) use service::serve;
pub(crate) use spawn::{Cwd, Launch, launch};
pub(crate) use table::Commands;
pub(crate) use terminal::Terminal;
