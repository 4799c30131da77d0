//! Usage of every running sandbox, sampled, in a bounded ring each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courier_store::SandboxRow;
use courier_types::{SandboxId, Timestamp, Usage};
use futures_util::{StreamExt as _, stream};
use tokio::time::MissedTickBehavior;

use super::NODE_CALLS_AT_ONCE;
use crate::app::App;
use crate::clock;
use crate::http::chain;

/// Time between two samples of one sandbox.
const EVERY: Duration = Duration::from_secs(5);

/// Samples that are kept of one sandbox: one hour.
const KEPT: usize = 720;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    pub(crate) usage: Usage,
    /// Cores in use on average since the sample before.
    pub(crate) cores: f64,
}

/// The rings, by sandbox; as many as there are running sandboxes.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<HashMap<SandboxId, VecDeque<Sample>>>);

impl Samples {
    /// The samples of a sandbox, oldest first.
    pub(crate) fn of(&self, id: &SandboxId) -> Vec<Sample> {
        self.lock().get(id).map(|ring| ring.iter().copied().collect()).unwrap_or_default()
    }

    /// The newest sample of a sandbox.
    pub(crate) fn newest(&self, id: &SandboxId) -> Option<Sample> {
        self.lock().get(id).and_then(|ring| ring.back().copied())
    }

    fn add(&self, id: &SandboxId, at: Timestamp, usage: Usage) {
        let mut rings = self.lock();
        let ring = rings.entry(id.clone()).or_default();
        let cores = ring.back().map_or(0.0, |last| cores_between(*last, at, usage));
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(Sample { at, usage, cores });
    }

    fn keep_only(&self, alive: &[SandboxRow]) {
        self.lock().retain(|id, _ring| alive.iter().any(|row| row.spec.id == *id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, VecDeque<Sample>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cores_between(last: Sample, at: Timestamp, usage: Usage) -> f64 {
    let wall = at.since(last.at).as_secs_f64();
    let cpu = Duration::from_micros(usage.cpu_micros.saturating_sub(last.usage.cpu_micros));
    if wall > 0.0 { cpu.as_secs_f64() / wall } else { 0.0 }
}

pub(crate) async fn run(app: Arc<App>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while app.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if app.stop.run_until_cancelled(sample_all(&app)).await.is_none() {
            return;
        }
    }
}

async fn sample_all(app: &App) {
    let alive = match app.store.list_alive().await {
        Ok(alive) => alive,
        Err(error) => {
            tracing::error!(error = chain(&error), "could not list what to sample");
            return;
        }
    };
    app.samples.keep_only(&alive);
    stream::iter(alive.iter().filter(|row| row.is_usable()))
        .for_each_concurrent(NODE_CALLS_AT_ONCE, |row| sample_one(app, &row.spec.id))
        .await;
}

async fn sample_one(app: &App, id: &SandboxId) {
    match tokio::time::timeout(EVERY, app.node.usage(id)).await {
        Ok(Ok(usage)) => app.samples.add(id, clock::now(), usage),
        Ok(Err(error)) => no_sample(id, &chain(&error)),
        Err(_elapsed) => no_sample(id, "the node did not answer in time"),
    }
}

fn no_sample(id: &SandboxId, why: &str) {
    tracing::debug!(sandbox = %id, why, "no sample of a sandbox");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest_samples_and_tells_the_cores_in_use() {
        let samples = Samples::default();
        let id = SandboxId::from_random([1; 20]);
        for second in 0..=i64::try_from(KEPT).unwrap() {
            let usage =
                Usage { cpu_micros: u64::try_from(second).unwrap() * 500_000, ..Usage::default() };
            samples.add(&id, Timestamp::from_micros(second * 1_000_000), usage);
        }
        let kept = samples.of(&id);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].at, Timestamp::from_micros(1_000_000));
        assert!((samples.newest(&id).unwrap().cores - 0.5).abs() < 1e-9);
    }
}
