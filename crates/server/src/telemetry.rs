//! What the server counts and times, for Prometheus.
//!
//! One [`Telemetry`] per server, with a registry of its own: two servers in one process, as in the
//! tests, never see each other's figures. What happens is recorded by methods named after the event;
//! what *is* (sandboxes, the node's room) is read when somebody asks (`scrape`).
//!
//! Always: no label has a value that a client chooses. Routes are those of the router, statuses and
//! methods are standard ones, and everything else is of a closed list, so that the number of series
//! is bounded by this source. `docs/metrics.md` tells operators what each means.
//!
//! Crate `prometheus`: a registry that is a value, Prometheus' own text format (every scraper and
//! `curl` reads it), and the usual figures of the process. `metrics` was refused for its one
//! recorder per process, `prometheus-client` for speaking OpenMetrics only.

mod cause;
mod requests;
mod scrape;
mod series;

use std::time::Duration;

use courier_types::EndReason;

pub(crate) use requests::observe;
pub(crate) use scrape::{__path_metrics, metrics};
use series::Series;

use crate::sandboxes::CreateError;

/// How a build of a template ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildOutcome {
    /// It can be used.
    Ready,
    /// One of its steps, its source or its start failed: its author's to mend.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// The server was shut down.
    Stopped,
    /// It took too long.
    TimedOut,
    /// The node or the server failed.
    Broken,
}

impl BuildOutcome {
    const ALL: [Self; 6] =
        [Self::Ready, Self::Failed, Self::Cancelled, Self::Stopped, Self::TimedOut, Self::Broken];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
        }
    }
}

/// The server's counters and histograms.
pub(crate) struct Telemetry {
    series: Series,
}

impl Telemetry {
    /// All of them at zero. `isolation` and `technology` are the node's.
    pub(crate) fn new(isolation: &str, technology: &str) -> Self {
        Self { series: Series::new(isolation, technology) }
    }

    /// A sandbox was made and is usable, so long after it was asked for.
    pub(crate) fn created(&self, took: Duration) {
        self.series.creates.inc();
        self.series.create_seconds.observe(took.as_secs_f64());
    }

    /// A sandbox that was asked for was not made.
    pub(crate) fn not_created(&self, error: &CreateError) {
        self.series.create_failures.with_label_values(&[cause::of(error)]).inc();
    }

    /// A sandbox has ended: call it once for each.
    pub(crate) fn ended(&self, reason: EndReason) {
        self.series.ends.with_label_values(&[reason.as_str()]).inc();
    }

    /// So many sandboxes were destroyed that no row owned.
    pub(crate) fn reaped(&self, count: usize) {
        self.series.reaped.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A build has come to its end, so long after it was started.
    pub(crate) fn built(&self, outcome: BuildOutcome, took: Duration) {
        let outcome = [outcome.as_str()];
        self.series.builds.with_label_values(&outcome).inc();
        self.series.build_seconds.with_label_values(&outcome).observe(took.as_secs_f64());
    }
}
