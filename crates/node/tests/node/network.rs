//! A sandbox's network on its node: replaced, broken and brought up again.

use std::sync::Arc;
use std::time::Duration;

use courier_node::LocalNode;
use courier_protocol::node::{Node as _, NodeError};
use courier_types::egress::{ExplainRequest, Explanation, Layer, LayerSource, Layers, NetworkSpec};
use courier_types::{EndReason, ObservedState, SandboxId};
use tokio::time::Instant;

use crate::driver::{TestDriver, node, spec};
use crate::front::PATIENCE;
use crate::guest::Manner;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A network on which that host is allowed and no other.
fn allowing(host: &str) -> NetworkSpec {
    let policy = serde_json::from_str(&format!(r#"{{"rules":[{{"allow":"{host}"}}]}}"#)).unwrap();
    let egress = Layers(vec![Layer { source: LayerSource::Sandbox, policy }]);
    NetworkSpec { egress, ..NetworkSpec::default() }
}

async fn explain(node: &LocalNode, id: &SandboxId, host: &str) -> Result<Explanation, NodeError> {
    let request = serde_json::from_str::<ExplainRequest>(&format!(r#"{{"host":"{host}"}}"#));
    node.explain(id, request.unwrap()).await
}

/// Whether a host is allowed, as soon as the sandbox has a network that says so.
async fn is_allowed(node: &LocalNode, id: &SandboxId, host: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match explain(node, id, host).await {
            Ok(explanation) => return explanation.allowed,
            Err(error) => assert!(Instant::now() < deadline, "still no network: {error:?}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the sandbox has no network.
async fn away(node: &LocalNode, id: &SandboxId) {
    let deadline = Instant::now() + PATIENCE;
    while explain(node, id, "a.test").await.is_ok() {
        assert!(Instant::now() < deadline, "the network is still up");
        tokio::time::sleep(LOOK).await;
    }
}

async fn running(network: NetworkSpec) -> (Arc<TestDriver>, LocalNode, SandboxId) {
    let driver = Arc::new(TestDriver::new(Manner::Polite));
    let node = node(Arc::clone(&driver));
    let mut spec = spec(1, None);
    spec.network = network;
    node.create(spec.clone()).await.unwrap();
    (driver, node, spec.id)
}

#[tokio::test]
async fn a_replacement_is_in_force_when_it_is_answered() {
    let (_driver, node, id) = running(allowing("a.test")).await;
    assert!(explain(&node, &id, "a.test").await.unwrap().allowed);
    node.set_network(&id, allowing("b.test")).await.unwrap();
    assert!(!explain(&node, &id, "a.test").await.unwrap().allowed);
    assert!(explain(&node, &id, "b.test").await.unwrap().allowed);
}

#[tokio::test]
async fn a_policy_that_cannot_be_put_in_force_changes_nothing() {
    let (_driver, node, id) = running(allowing("a.test")).await;
    let refused = node.set_network(&id, allowing("169.254.169.254")).await;
    assert!(matches!(refused, Err(NodeError::Network { .. })), "{refused:?}");
    assert!(explain(&node, &id, "a.test").await.unwrap().allowed);
}

#[tokio::test]
async fn a_network_that_broke_comes_back_with_what_was_in_force() {
    let (driver, node, id) = running(allowing("a.test")).await;
    node.set_network(&id, allowing("b.test")).await.unwrap();
    driver.break_link(&id);
    away(&node, &id).await;
    assert!(is_allowed(&node, &id, "b.test").await);
    assert!(!explain(&node, &id, "a.test").await.unwrap().allowed);
}

#[tokio::test]
async fn what_replaces_a_network_that_is_away_is_in_force_when_it_is_back() {
    let (driver, node, id) = running(allowing("a.test")).await;
    driver.break_link(&id);
    away(&node, &id).await;
    node.set_network(&id, allowing("b.test")).await.unwrap();
    assert!(is_allowed(&node, &id, "b.test").await);
    assert!(!explain(&node, &id, "a.test").await.unwrap().allowed);
}

#[tokio::test]
async fn a_sandbox_whose_network_does_not_stay_ends() {
    let (driver, node, id) = running(allowing("a.test")).await;
    driver.cut_link(&id);
    let ended = async {
        loop {
            let report = node.next_report().await;
            if report.state.is_terminal() {
                return report;
            }
        }
    };
    let report = tokio::time::timeout(PATIENCE, ended).await.expect("an end");
    assert_eq!(report.state, ObservedState::Error { reason: EndReason::Crashed });
    assert!(report.detail.is_some_and(|detail| detail.contains("network")), "{:?}", report.id);
    assert_eq!(driver.count(), 0);
}

#[tokio::test]
async fn a_log_outlives_its_sandbox_and_whoever_follows_it_learns_of_the_end() {
    let (_driver, node, id) = running(allowing("a.test")).await;
    // A replacement is a record.
    node.set_network(&id, allowing("b.test")).await.unwrap();
    let page = node.flows(&id, 0, 10, PATIENCE).await.unwrap();
    let last = page.flows.last().unwrap().seq;
    let (followed, killed) = tokio::join!(node.flows(&id, last, 10, PATIENCE), node.kill(&id));
    killed.unwrap();
    assert!(matches!(followed, Err(NodeError::NotFound { .. })), "{followed:?}");
    assert_eq!(node.flows(&id, 0, 10, Duration::ZERO).await.unwrap(), page);
    assert_eq!(node.flows(&id, 0, 10, PATIENCE).await.unwrap(), page);
    let rest = node.flows(&id, last, 10, PATIENCE).await;
    assert!(matches!(rest, Err(NodeError::NotFound { .. })), "{rest:?}");
}
