//! A server that goes at any step, and the next one that settles what it left.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use courier_store::{AliveLimit, Ended, Insertion, NewSandboxRow, Purpose, Sealed, StoredSpec};
use courier_types::{EndReason, Limits, ObservedState, SandboxId, SandboxSpec, Timestamp};
use serde_json::json;

use crate::fake_node::{Creates, Program};
use crate::world::World;

fn now() -> Timestamp {
    SystemTime::now().into()
}

pub(crate) fn spec(number: u8, lives: Duration) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::from_random([number; 20]),
        build: "base-1".to_owned(),
        limits: Limits::default(),
        deadline: now().plus(lives),
        env: std::collections::BTreeMap::new(),
        access_token: None,
        template: "base".to_owned(),
        network: courier_types::egress::NetworkSpec::default(),
        files: Vec::new(),
        config: courier_types::BuildConfig::default(),
        volumes: Vec::new(),
    }
}

/// A row as a create leaves it at its first step.
pub(crate) async fn insert(world: &World, spec: &SandboxSpec) {
    let project = courier_server::ensure_default_project(&world.store).await.unwrap();
    let template = world.store.find_template(&project.id, "base").await.unwrap().unwrap();
    let row = NewSandboxRow {
        project_id: project.id,
        purpose: Purpose::Client,
        template_id: template.id,
        template_name: None,
        metadata: std::collections::BTreeMap::new(),
        created_at: now(),
        spec: StoredSpec {
            id: spec.id.clone(),
            build: spec.build.clone(),
            limits: spec.limits,
            deadline: spec.deadline,
            access_token: spec.access_token.clone(),
            template: spec.template.clone(),
        },
        sealed: Sealed::new("of another key".to_owned()),
        secret_names: Vec::new(),
        tokens: Vec::new(),
        volumes: Vec::new(),
    };
    let inserted = world.store.insert_sandbox(&row, AliveLimit(100), None).await.unwrap();
    assert_eq!(inserted, Insertion::Inserted);
}

const LONG: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_running_sandbox_is_adopted() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let before = world.get(&format!("/sandboxes/{id}")).await.ok(200).json();
    let world = world.crash_and_restart().await;
    assert_eq!(world.get(&format!("/sandboxes/{id}")).await.ok(200).json(), before);
    assert_eq!(world.node.alive().len(), 1);
    // A node that has just started counts its generations afresh.
    world.node.end(&id, EndReason::Timeout, 1).await;
    world.wait_for_state(&id, "killed").await;
}

#[tokio::test]
async fn a_sandbox_that_died_meanwhile_is_lost() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.node.lose(&id);
    let world = world.crash_and_restart().await;
    assert_eq!(world.state(&id).await, ("error".to_owned(), "lost".to_owned()));
}

#[tokio::test]
async fn a_sandbox_whose_network_cannot_be_unsealed_is_not_adopted_without_it() {
    let world = World::new().await;
    let spec = spec(8, LONG);
    insert(&world, &spec).await;
    assert!(world.store.mark_running(&spec.id, now()).await.unwrap());
    world.node.plant(spec.clone());
    let world = world.crash_and_restart().await;
    let state = world.state(spec.id.as_str()).await;
    assert_eq!(state, ("error".to_owned(), "lost".to_owned()));
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_create_that_was_interrupted_before_the_node_knew_of_it_never_started() {
    let world = World::new().await;
    let spec = spec(1, LONG);
    insert(&world, &spec).await;
    let world = world.crash_and_restart().await;
    let state = world.state(spec.id.as_str()).await;
    assert_eq!(state, ("error".to_owned(), "never_started".to_owned()));
}

#[tokio::test]
async fn a_create_that_was_interrupted_before_the_row_said_running_leaves_no_sandbox() {
    let world = World::new().await;
    let spec = spec(2, LONG);
    insert(&world, &spec).await;
    world.node.plant(spec.clone());
    let world = world.crash_and_restart().await;
    let state = world.state(spec.id.as_str()).await;
    assert_eq!(state, ("error".to_owned(), "never_started".to_owned()));
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_kill_that_was_interrupted_before_the_node_knew_of_it_is_finished() {
    let world = World::new().await;
    let id = world.sandbox().await;
    assert!(world.store.mark_killing(&id.parse().unwrap()).await.unwrap());
    let world = world.crash_and_restart().await;
    assert_eq!(world.state(&id).await, ("killed".to_owned(), "requested".to_owned()));
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_kill_that_was_interrupted_after_the_node_did_it_is_finished() {
    let world = World::new().await;
    let id = world.sandbox().await;
    assert!(world.store.mark_killing(&id.parse().unwrap()).await.unwrap());
    world.node.lose(&id);
    let world = world.crash_and_restart().await;
    assert_eq!(world.state(&id).await, ("killed".to_owned(), "requested".to_owned()));
}

#[tokio::test]
async fn a_deadline_that_passed_meanwhile_fires_at_the_start() {
    let world = World::new().await;
    let spec = spec(3, Duration::ZERO);
    insert(&world, &spec).await;
    assert!(world.store.mark_running(&spec.id, now()).await.unwrap());
    world.node.plant(spec.clone());
    let world = world.crash_and_restart().await;
    let state = world.state(spec.id.as_str()).await;
    assert_eq!(state, ("killed".to_owned(), "timeout".to_owned()));
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_sandbox_without_a_row_is_destroyed() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.node.plant(spec(4, LONG));
    let world = world.crash_and_restart().await;
    assert_eq!(world.node.alive(), [id.parse::<SandboxId>().unwrap()]);
}

#[tokio::test]
async fn a_node_that_cannot_destroy_leaves_the_row_for_the_sweep() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.node.kills_fail(true);
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.error(500, "failed");
    assert_eq!(world.state(&id).await.0, "killing");
    let world = world.crash_and_restart().await;
    assert_eq!(world.state(&id).await.0, "killing");
    world.node.kills_fail(false);
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    assert_eq!(world.state(&id).await, ("killed".to_owned(), "requested".to_owned()));
    assert!(world.node.alive().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_during_a_create_leaves_what_the_next_one_settles() {
    let world = World::new().await;
    world.node.creates(Creates::Wait);
    {
        let body = json!({"templateID": "base"});
        let request = world.request("POST", "/v2/sandboxes", Some(&body));
        let waiting = world.begin(request);
        let made = async {
            while world.get("/v1/sandboxes").await.json()["sandboxes"][0].is_null() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = waiting => panic!("the create waits: {answer:?}"),
            () = made => {}
        }
    }
    let list = world.get("/v1/sandboxes").await.json();
    let id = list["sandboxes"][0]["id"].as_str().unwrap().to_owned();
    let node = Arc::clone(&world.node);
    let world = world.crash_and_restart().await;
    assert_eq!(world.state(&id).await, ("error".to_owned(), "never_started".to_owned()));
    // What the old server still wanted from the node does not come back to life for clients.
    node.release();
    assert_eq!(world.state(&id).await.0, "error");
}

#[tokio::test]
async fn the_first_end_stays_and_a_later_one_only_adds_what_it_knows() {
    let world = World::new().await;
    let id: SandboxId = world.sandbox().await.parse().unwrap();
    let ended = |reason, usage| Ended { reason, at: now(), detail: None, usage };
    let usage = Some(crate::fake_node::usage());
    assert!(world.store.mark_ended(&id, &ended(EndReason::Requested, None)).await.unwrap());
    assert!(!world.store.mark_ended(&id, &ended(EndReason::Memory, usage)).await.unwrap());
    let row = world.store.find_sandbox(&id).await.unwrap().unwrap();
    assert_eq!(row.observed, ObservedState::Killed { reason: EndReason::Requested });
    assert_eq!(row.usage, usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_of_an_execution_goes_with_the_server_that_ran_it() {
    let world = World::new().await;
    world.node.programs(Program::Hangs);
    let body = json!({"language": "sh", "code": "x"});
    let request = world.request("POST", "/v1/executions?stream=true", Some(&body));
    let response = world.begin(request).await;
    let id = world.node.alive()[0].to_string();
    let world = world.crash_and_restart().await;
    assert_eq!(world.state(&id).await, ("error".to_owned(), "lost".to_owned()));
    assert!(world.node.alive().is_empty());
    drop(response);
}
