//! A sandbox's life on its node: made, killed, timed out, lost, adopted, reaped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use courier_node::{LocalNode, system_clock};
use courier_protocol::node::{Node as _, NodeError, Report};
use courier_types::{EndReason, ObservedState, SandboxId};

use crate::driver::{TestDriver, node, spec};
use crate::front::PATIENCE;
use crate::guest::Manner;

fn polite() -> (Arc<TestDriver>, LocalNode) {
    let driver = Arc::new(TestDriver::new(Manner::Polite));
    (Arc::clone(&driver), node(driver))
}

/// Reports up to the first that is terminal.
async fn history(node: &LocalNode) -> Vec<Report> {
    let mut reports = Vec::new();
    let read = async {
        while reports.last().is_none_or(|report: &Report| !report.state.is_terminal()) {
            reports.push(node.next_report().await);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a terminal report");
    reports
}

fn states(reports: &[Report]) -> Vec<ObservedState> {
    reports.iter().map(|report| report.state).collect()
}

#[tokio::test]
async fn a_sandbox_is_reported_from_its_making_to_its_end_in_rising_generations() {
    let (driver, node) = polite();
    let spec = spec(1, None);
    node.create(spec.clone()).await.unwrap();
    node.create(spec.clone()).await.unwrap();
    assert_eq!(driver.count(), 1);
    assert_eq!(node.usage(&spec.id).await.unwrap().memory_bytes, 42);
    node.kill(&spec.id).await.unwrap();
    node.kill(&spec.id).await.unwrap();
    assert_eq!(driver.destroyed.load(Ordering::SeqCst), 1);
    let reports = history(&node).await;
    assert_eq!(
        states(&reports),
        [
            ObservedState::Creating,
            ObservedState::Running,
            ObservedState::Killing,
            ObservedState::Killed { reason: EndReason::Requested },
        ]
    );
    assert!(reports.windows(2).all(|pair| pair[0].generation < pair[1].generation));
    assert_eq!(reports.last().unwrap().usage.unwrap().cpu_micros, 7);
}

#[tokio::test]
async fn an_ended_sandbox_cannot_be_made_again() {
    let (driver, node) = polite();
    node.create(spec(1, None)).await.unwrap();
    node.kill(&spec(1, None).id).await.unwrap();
    let again = node.create(spec(1, None)).await;
    assert!(matches!(again, Err(NodeError::NotFound { .. })), "{again:?}");
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn a_kill_while_the_machine_is_being_made_leaves_nothing() {
    let mut driver = TestDriver::new(Manner::Polite);
    driver.make_time = Duration::from_millis(200);
    let driver = Arc::new(driver);
    let node = Arc::new(node(Arc::clone(&driver)));
    let creating = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.create(spec(1, None)).await }
    });
    assert_eq!(node.next_report().await.state, ObservedState::Creating);
    node.kill(&spec(1, None).id).await.unwrap();
    let created = creating.await.unwrap();
    let expected =
        matches!(created, Err(NodeError::NotStarted { reason: EndReason::Requested, .. }));
    assert!(expected, "{created:?}");
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn a_create_that_nobody_waits_for_finishes_and_is_reported() {
    let mut driver = TestDriver::new(Manner::Polite);
    driver.make_time = Duration::from_millis(100);
    let driver = Arc::new(driver);
    let node = node(Arc::clone(&driver));
    let abandoned = tokio::time::timeout(Duration::from_millis(10), node.create(spec(1, None)));
    assert!(abandoned.await.is_err());
    assert_eq!(node.next_report().await.state, ObservedState::Creating);
    let next = tokio::time::timeout(PATIENCE, node.next_report()).await.unwrap();
    assert_eq!(next.state, ObservedState::Running);
    node.kill_all().await.unwrap();
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn the_node_ends_a_sandbox_at_its_deadline_and_at_a_moved_one() {
    let (driver, node) = polite();
    let mut short = spec(1, None);
    short.deadline = system_clock()().plus(Duration::from_millis(300));
    node.create(short).await.unwrap();
    let last = history(&node).await.pop().unwrap();
    assert_eq!(last.state, ObservedState::Killed { reason: EndReason::Timeout });

    let long = spec(2, None);
    node.create(long.clone()).await.unwrap();
    let soon = system_clock()().plus(Duration::from_millis(200));
    node.set_deadline(&long.id, soon).await.unwrap();
    assert!(*driver.deadlines.lock().unwrap().get(&long.id).unwrap() > soon);
    let last = history(&node).await.pop().unwrap();
    assert_eq!(last.state, ObservedState::Killed { reason: EndReason::Timeout });
    assert_eq!(driver.count(), 0);
    let late = node.set_deadline(&long.id, soon).await;
    assert!(matches!(late, Err(NodeError::NotFound { .. })));
}

#[tokio::test]
async fn a_machine_that_dies_is_destroyed_and_reported_as_the_driver_found_it() {
    for (found, expected) in [
        (EndReason::Crashed, ObservedState::Error { reason: EndReason::Crashed }),
        (EndReason::Memory, ObservedState::Error { reason: EndReason::Memory }),
        (EndReason::Timeout, ObservedState::Killed { reason: EndReason::Timeout }),
    ] {
        let (driver, node) = polite();
        let spec = spec(1, None);
        node.create(spec.clone()).await.unwrap();
        driver.crash(&spec.id, found);
        let last = history(&node).await.pop().unwrap();
        assert_eq!(last.state, expected);
        assert_eq!(driver.count(), 0);
        let usage = node.usage(&spec.id).await;
        assert!(matches!(usage, Err(NodeError::NotFound { .. })));
    }
}

#[tokio::test]
async fn another_node_adopts_a_running_sandbox_and_says_that_a_missing_one_is_gone() {
    let (driver, first) = polite();
    let spec = spec(1, None);
    first.create(spec.clone()).await.unwrap();
    drop(first);
    assert_eq!(driver.count(), 1, "letting go of a node leaves its machines");
    let second = node(Arc::clone(&driver));
    second.adopt(spec.clone()).await.unwrap();
    let missing = second.adopt(crate::driver::spec(9, None)).await;
    assert!(matches!(missing, Err(NodeError::NotFound { .. })), "{missing:?}");
    second.kill(&spec.id).await.unwrap();
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn what_nobody_keeps_is_reaped_whether_a_task_owns_it_or_not() {
    let (driver, first) = polite();
    for number in 1..=3 {
        first.create(spec(number, None)).await.unwrap();
    }
    drop(first);
    let second = node(Arc::clone(&driver));
    let keep = [SandboxId::from_random([2; 20])];
    second.adopt(spec(2, None)).await.unwrap();
    let reaped = second.reap_except(&keep).await.unwrap();
    assert_eq!(reaped.len(), 2);
    assert_eq!(driver.count(), 1);
    second.kill(&SandboxId::from_random([7; 20])).await.unwrap();
}

#[tokio::test]
async fn an_unknown_build_and_one_sandbox_too_many_are_refused_before_anything_is_made() {
    let (driver, node) = polite();
    let mut unknown = spec(1, None);
    unknown.build = "../base".to_owned();
    let refused = node.create(unknown).await.unwrap_err();
    assert_eq!(refused.to_string(), "build \"../base\" is not on this node");
    for number in 1..=8 {
        node.create(spec(number, None)).await.unwrap();
    }
    let full = node.create(spec(9, None)).await.unwrap_err();
    assert_eq!(full.to_string(), "the node has no room: 8 sandboxes run here, and 8 are allowed");
    node.kill(&spec(1, None).id).await.unwrap();
    node.create(spec(9, None)).await.unwrap();
    node.kill_all().await.unwrap();
    assert_eq!(driver.count(), 0);
}

/// What befalls a sandbox in the storm, by a random number.
async fn befall(driver: &TestDriver, node: &LocalNode, id: &SandboxId, fate: u8) {
    tokio::time::sleep(Duration::from_millis(u64::from(fate % 8))).await;
    match fate / 64 {
        0 => node.kill(id).await.unwrap(),
        1 => driver.crash(id, EndReason::Crashed),
        2 => driver.hang_up(id),
        _ => {
            let now = system_clock()();
            // Gone already, or about to be made: both are fine in a storm.
            let _answer = node.set_deadline(id, now).await;
        }
    }
    node.kill(id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_kills_crashes_and_deadlines_ends_each_sandbox_once_and_leaves_nothing() {
    let mut driver = TestDriver::new(Manner::Polite);
    driver.make_time = Duration::from_millis(3);
    let driver = Arc::new(driver);
    let node = Arc::new(node(Arc::clone(&driver)));
    for round in 0..30_u8 {
        let fates = rand::random::<[u8; 8]>();
        let sandboxes = (0..8_u8).zip(fates).map(|(number, fate)| {
            let (driver, node) = (Arc::clone(&driver), Arc::clone(&node));
            tokio::spawn(async move {
                let mut spec = spec(1, None);
                let mut random = [0; 20];
                random[..2].copy_from_slice(&[round, number]);
                spec.id = SandboxId::from_random(random);
                let id = spec.id.clone();
                let (_created, ()) =
                    tokio::join!(node.create(spec), befall(&driver, &node, &id, fate));
                assert!(node.guard(&id).is_none());
            })
        });
        for sandbox in sandboxes.collect::<Vec<_>>() {
            tokio::time::timeout(PATIENCE, sandbox)
                .await
                .unwrap_or_else(|_| unreachable!("round {round} hangs: fates {fates:?}"))
                .unwrap_or_else(|error| unreachable!("fates {fates:?}: {error}"));
        }
        assert_eq!(driver.count(), 0, "fates {fates:?}");
    }
    let mut ends = std::collections::BTreeMap::new();
    while let Ok(report) = tokio::time::timeout(Duration::from_millis(50), node.next_report()).await
    {
        if report.state.is_terminal() {
            *ends.entry(report.id).or_insert(0) += 1;
        }
    }
    assert!(ends.values().all(|count| *count == 1));
    assert!(ends.len() > 30, "{}", ends.len());
}
