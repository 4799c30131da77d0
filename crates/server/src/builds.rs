//! Builds of templates.
//!
//! ```text
//! request ─▶ waiting ─ uploads ─ start ─▶ building ─▶ one task: log, node ─┬▶ ready, tags move
//!                 └─ expired, cancelled                                    └▶ error, with its step
//! ```
//!
//! Always: a build's row says `building` before the node hears of it, and its log is written before
//! its end is. What is `building` while nobody makes it becomes an error, at the start and by the
//! sweep. The credentials of a registry and what the steps do are in memory only.

mod active;
mod cancel;
mod context;
mod egress;
mod log;
mod make;
mod plan;
mod request;
mod settle;
mod shape;
mod source;
mod start;
mod steps;
mod tickets;
mod turns;
mod uploads;

pub(crate) use active::Builds;
pub(crate) use cancel::cancel;
pub(crate) use request::{TAGS_MAX, parse_tags, request};
pub(crate) use settle::{remove, settle, sweep};
pub(crate) use start::start;
pub(crate) use steps::is_hash;
pub(crate) use tickets::{Ticket, ticket};
pub(crate) use uploads::{UPLOAD_TIMEOUT, Upload, Uploads, find as find_upload, receive};
