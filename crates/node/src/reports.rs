//! The bounded queue of reports to the server.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use courier_protocol::node::Report;
use courier_types::SandboxId;
use tokio::sync::Notify;

/// Most reports that wait: four for each of a thousand sandboxes.
const REPORTS_LIMIT: usize = 4_096;

/// Reports that wait for the server, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    queue: Mutex<VecDeque<Report>>,
    arrived: Notify,
}

impl Reports {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Report>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a report. When the queue is full, one that a newer of the same sandbox has made stale
    /// goes, else the oldest: the server's reconciler asks for what it missed.
    pub(crate) fn push(&self, report: Report) {
        let mut queue = self.queue();
        if queue.len() >= REPORTS_LIMIT {
            let stale = oldest_stale(&queue, &report.id);
            queue.remove(stale.unwrap_or(0));
        }
        queue.push_back(report);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Waits for the oldest report. Cancel safe.
    pub(crate) async fn next(&self) -> Report {
        loop {
            // `notify_one` stores a permit, so a report pushed between the two lines is not missed.
            if let Some(report) = self.queue().pop_front() {
                return report;
            }
            self.arrived.notified().await;
        }
    }
}

/// Index of the oldest report that a newer one, or one of `arriving`, makes stale.
fn oldest_stale(queue: &VecDeque<Report>, arriving: &SandboxId) -> Option<usize> {
    let mut newer: HashSet<&SandboxId> = HashSet::from([arriving]);
    queue
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, report)| !newer.insert(&report.id))
        .last()
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use courier_types::{Generation, ObservedState, Timestamp};

    use super::*;

    fn report(sandbox: u8, generation: u64) -> Report {
        Report {
            id: SandboxId::from_random([sandbox; 20]),
            generation: Generation(generation),
            state: ObservedState::Running,
            at: Timestamp::from_micros(0),
            usage: None,
            detail: None,
        }
    }

    #[tokio::test]
    async fn reports_come_oldest_first_and_once() {
        let reports = Reports::default();
        reports.push(report(1, 1));
        reports.push(report(2, 2));
        assert_eq!(reports.next().await.generation, Generation(1));
        assert_eq!(reports.next().await.generation, Generation(2));
    }

    #[tokio::test]
    async fn an_overflow_drops_a_stale_report_and_keeps_the_newest_of_each_sandbox() {
        let reports = Reports::default();
        reports.push(report(1, 0));
        for generation in 1..=5_000 {
            reports.push(report(2, generation));
        }
        assert_eq!(reports.queue().len(), REPORTS_LIMIT);
        assert_eq!(reports.next().await.id, SandboxId::from_random([1; 20]));
        let newest = reports.queue().back().unwrap().generation;
        assert_eq!(newest, Generation(5_000));
    }
}
