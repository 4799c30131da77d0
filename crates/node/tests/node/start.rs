//! What a build wants to be started: in a sandbox that is made, and in no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_node::LocalNode;
use courier_protocol::node::{Node as _, NodeError};
use courier_types::{EndReason, SandboxSpec};

use crate::commands;
use crate::driver::{TestDriver, node, spec};
use crate::front::PATIENCE;
use crate::guest::Manner;

fn playing() -> (Arc<TestDriver>, LocalNode) {
    let driver = Arc::new(TestDriver::new(Manner::Playing));
    (Arc::clone(&driver), node(driver))
}

fn wants(number: u8, start: Option<&str>, ready: Option<&str>) -> SandboxSpec {
    let mut spec = spec(number, None);
    spec.config.start = start.map(str::to_owned);
    spec.config.ready = ready.map(str::to_owned);
    spec
}

/// The whole chain of a create's failure.
async fn failure(node: &LocalNode, spec: SandboxSpec) -> String {
    let error = node.create(spec).await.unwrap_err();
    let NodeError::NotStarted { reason, source, .. } = error else { unreachable!("{error:?}") };
    assert_eq!(reason, EndReason::NeverStarted);
    let mut text = source.to_string();
    let mut next = source.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

#[tokio::test]
async fn a_sandbox_runs_when_its_ready_command_has_succeeded() {
    let (_driver, node) = playing();
    node.create(wants(1, Some("serve 1"), Some("third 1"))).await.unwrap();
    assert_eq!((commands::started("serve 1"), commands::started("third 1")), (1, 3));
}

#[tokio::test]
async fn a_start_command_alone_is_not_waited_for() {
    let (_driver, node) = playing();
    let made = node.create(wants(1, Some("serve 2"), None));
    tokio::time::timeout(PATIENCE, made).await.unwrap().unwrap();
    assert_eq!(commands::started("serve 2"), 1);
}

#[tokio::test]
async fn a_start_command_that_ends_well_has_left_its_service_behind() {
    let (_driver, node) = playing();
    node.create(wants(1, Some("ok"), Some("third 3"))).await.unwrap();
    assert_eq!(commands::started("third 3"), 3);
}

#[tokio::test]
async fn a_start_command_that_fails_ends_the_sandbox_and_its_output_is_told() {
    let (driver, node) = playing();
    let started = Instant::now();
    let text = failure(&node, wants(1, Some("fail"), Some("fail ready"))).await;
    assert_eq!(text, "the start command failed: exit status 3; it wrote:\nno such port");
    assert!(started.elapsed() < Duration::from_secs(5), "its end was waited for");
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn a_sandbox_that_is_not_ready_in_time_ends_and_says_how_the_last_attempt_did() {
    let (driver, node) = playing();
    let text = failure(&node, wants(1, Some("serve 4"), Some("fail 4"))).await;
    assert!(
        text.contains("within 1 s; it last ended with exit status 3; it wrote:\nno such port")
            && text.contains("listening"),
        "{text}"
    );
    assert!(commands::started("fail 4") > 1);
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_told_in_the_guests_words() {
    let (_driver, node) = playing();
    let text = failure(&node, wants(1, Some("unknown user"), None)).await;
    assert_eq!(text, "the start command could not be run: invalid username: 'nobody1'");
    let text = failure(&node, wants(2, None, Some("unknown user"))).await;
    assert_eq!(text, "the ready command could not be run: invalid username: 'nobody1'");
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_ready_command() {
    let (driver, node) = playing();
    let node = Arc::new(node);
    let creating = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.create(wants(1, None, Some("serve 5"))).await }
    });
    while commands::started("serve 5") == 0 {
        tokio::task::yield_now().await;
    }
    node.kill(&spec(1, None).id).await.unwrap();
    let created = creating.await.unwrap();
    let expected =
        matches!(created, Err(NodeError::NotStarted { reason: EndReason::Requested, .. }));
    assert!(expected, "{created:?}");
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn what_runs_already_is_not_started_again() {
    let (driver, first) = playing();
    let spec = wants(1, Some("serve 6"), Some("third 6"));
    first.create(spec.clone()).await.unwrap();
    drop(first);
    let second = node(Arc::clone(&driver));
    second.adopt(spec).await.unwrap();
    assert_eq!((commands::started("serve 6"), commands::started("third 6")), (1, 3));
}
