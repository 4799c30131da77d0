//! The series themselves: names, labels, buckets.

use courier_types::{EndReason, ObservedState};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::{BuildOutcome, cause};

/// Seconds of answers and creates: from a look into the database (1 ms) to the longest create (60 s).
const ANSWER_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Seconds of builds: from one whose steps are all cached to the longest that is allowed.
const BUILD_BUCKETS: [f64; 9] = [1.0, 5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0];

/// Why registering works.
const ONE_NAME: &str = "no two series here have one name";

/// Every reason of an end.
const REASONS: [EndReason; 7] = [
    EndReason::Requested,
    EndReason::Timeout,
    EndReason::Memory,
    EndReason::Crashed,
    EndReason::GuestLost,
    EndReason::Lost,
    EndReason::NeverStarted,
];

/// States of sandboxes that have not ended.
pub(super) const ALIVE: [&str; 3] = ["creating", "killing", "running"];

/// Handles of all series; the registry gathers them.
pub(super) struct Series {
    pub(super) registry: Registry,
    pub(super) creates: IntCounter,
    pub(super) create_failures: IntCounterVec,
    pub(super) create_seconds: Histogram,
    pub(super) ends: IntCounterVec,
    pub(super) reaped: IntCounter,
    pub(super) builds: IntCounterVec,
    pub(super) build_seconds: HistogramVec,
    pub(super) requests: IntCounterVec,
    pub(super) request_seconds: HistogramVec,
    pub(super) sandboxes: IntGaugeVec,
    pub(super) builds_under_way: IntGauge,
    pub(super) disk_free: IntGauge,
    pub(super) disk_total: IntGauge,
    pub(super) node: NodeSeries,
}

/// What the node says of itself.
pub(super) struct NodeSeries {
    pub(super) sandboxes: IntGauge,
    pub(super) sandboxes_max: IntGauge,
    pub(super) memory_limits: IntGauge,
    pub(super) memory_limits_max: IntGauge,
    pub(super) memory_available: IntGauge,
    pub(super) memory_total: IntGauge,
}

/// The word for a state, `None` for those of the ended.
pub(super) const fn alive_state(state: ObservedState) -> Option<&'static str> {
    match state {
        ObservedState::Creating => Some("creating"),
        ObservedState::Running => Some("running"),
        ObservedState::Killing => Some("killing"),
        ObservedState::Killed { .. } | ObservedState::Error { .. } => None,
    }
}

impl Series {
    pub(super) fn new(isolation: &str, technology: &str) -> Self {
        let into = Filling::new();
        let series = Self {
            creates: into.counter("courier_sandboxes_created_total", "Sandboxes that were made."),
            create_failures: into.counters(
                "courier_sandbox_create_failures_total",
                "Sandboxes that were asked for and not made, by cause.",
                &["cause"],
            ),
            create_seconds: into.one(Histogram::with_opts(
                HistogramOpts::new(
                    "courier_sandbox_create_duration_seconds",
                    "From the order of a sandbox that was made to its being usable.",
                )
                .buckets(ANSWER_BUCKETS.to_vec()),
            )),
            ends: into.counters(
                "courier_sandboxes_ended_total",
                "Sandboxes that have ended, by reason.",
                &["reason"],
            ),
            reaped: into.counter(
                "courier_sandboxes_reaped_total",
                "Sandboxes that nobody owned and that were destroyed: leaks.",
            ),
            builds: into.counters(
                "courier_template_builds_total",
                "Builds of templates that have ended, by outcome.",
                &["outcome"],
            ),
            build_seconds: into.histograms(
                "courier_template_build_duration_seconds",
                "From the start of a build, its wait for a turn included, to its end.",
                (&["outcome"], &BUILD_BUCKETS),
            ),
            requests: into.counters(
                "courier_http_requests_total",
                "Answered requests to the API.",
                &["method", "route", "status"],
            ),
            request_seconds: into.histograms(
                "courier_http_request_duration_seconds",
                "From a request's head to its answer's head.",
                (&["method", "route"], &ANSWER_BUCKETS),
            ),
            sandboxes: into.one(IntGaugeVec::new(
                Opts::new("courier_sandboxes", "Sandboxes that have not ended, by state."),
                &["state"],
            )),
            builds_under_way: into.gauge(
                "courier_template_builds_active",
                "Builds under way, those in line included.",
            ),
            disk_free: into.gauge(
                "courier_data_disk_free_bytes",
                "Room on the disk of the server's data folder for an ordinary user.",
            ),
            disk_total: into.gauge(
                "courier_data_disk_size_bytes",
                "Size of the disk of the server's data folder.",
            ),
            node: NodeSeries::new(&into),
            registry: into.0,
        };
        series.begin(isolation, technology);
        series
    }

    /// What is known from the beginning: every series of a closed list is there at zero, so that a
    /// first failure shows as an increase.
    fn begin(&self, isolation: &str, technology: &str) {
        for cause in cause::ALL {
            self.create_failures.with_label_values(&[cause]);
        }
        for reason in REASONS {
            self.ends.with_label_values(&[reason.as_str()]);
        }
        for outcome in BuildOutcome::ALL {
            self.builds.with_label_values(&[outcome.as_str()]);
        }
        let info = Opts::new("courier_build_info", "Always 1; its labels say what runs here.")
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("isolation", isolation)
            .const_label("technology", technology);
        register(&self.registry, IntGauge::with_opts(info)).set(1);
        self.registry.register(Box::new(ProcessCollector::for_self())).expect(ONE_NAME);
    }
}

impl NodeSeries {
    fn new(into: &Filling) -> Self {
        Self {
            sandboxes: into.gauge(
                "courier_node_sandboxes",
                "Sandboxes on the node, those of builds included.",
            ),
            sandboxes_max: into
                .gauge("courier_node_sandboxes_max", "Sandboxes that the node takes at once."),
            memory_limits: into.gauge(
                "courier_node_memory_limits_bytes",
                "What the memory limits of the node's sandboxes add up to.",
            ),
            memory_limits_max: into.gauge(
                "courier_node_memory_limits_max_bytes",
                "What those may add up to before the node takes no more sandboxes.",
            ),
            memory_available: into.gauge(
                "courier_node_memory_available_bytes",
                "The host's memory that could be used now without swapping.",
            ),
            memory_total: into.gauge("courier_node_memory_total_bytes", "The host's memory."),
        }
    }
}

/// A registry that is being filled.
struct Filling(Registry);

impl Filling {
    fn new() -> Self {
        Self(Registry::new())
    }

    fn one<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        register(&self.0, made)
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.one(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.one(IntGauge::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.one(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, shape: (&[&str], &[f64])) -> HistogramVec {
        let (labels, buckets) = shape;
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.one(HistogramVec::new(options, labels))
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect("the names, labels and buckets of this source are valid");
    registry.register(Box::new(made.clone())).expect(ONE_NAME);
    made
}
