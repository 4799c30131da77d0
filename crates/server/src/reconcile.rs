//! From desired to observed, again and again.
//!
//! - [`start()`]: once, before anything is served: every row that has not ended is adopted or ended.
//! - reports: what the node says goes into the store.
//! - samples: usage, every few seconds.
//! - sweep: what the others missed, with a grace period.

mod reports;
mod samples;
mod start;
mod sweep;

use std::sync::Arc;

pub(crate) use samples::{Sample, Samples};
pub(crate) use start::start;

use crate::app::App;

/// How many sandboxes the node is asked about at once.
const NODE_CALLS_AT_ONCE: usize = 16;

/// Starts the loops; they end with `app.stop`.
pub(crate) fn spawn(app: &Arc<App>) {
    app.loops.spawn(reports::run(Arc::clone(app)));
    app.loops.spawn(samples::run(Arc::clone(app)));
    app.loops.spawn(sweep::run(Arc::clone(app)));
}
