//! The periodic sweep.

use std::time::{Duration, SystemTime};

use courier_types::{SandboxId, Timestamp};
use serde_json::json;

use crate::fake_node::Creates;
use crate::fake_volumes::Fails;
use crate::restart::{insert, spec};
use crate::world::{PATIENCE, World, config};

async fn sweeping() -> World {
    let mut config = config();
    config.sweep_every = Duration::from_millis(20);
    World::with(config).await
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[tokio::test]
async fn a_kill_that_failed_is_repeated() {
    let world = sweeping().await;
    let id = world.sandbox().await;
    world.node.kills_fail(true);
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.error(500, "failed");
    world.node.kills_fail(false);
    world.wait_for_state(&id, "killed").await;
    assert!(world.node.alive().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_deletion_failed_goes_and_its_name_is_free() {
    let world = sweeping().await;
    let name = || json!({"name": "data"});
    let made = world.post("/volumes", name()).await.ok(201).json();
    world.node.volumes.fail(Fails::Delete);
    let path = format!("/volumes/{}", made["volumeID"].as_str().unwrap());
    world.call("DELETE", &path, None).await.ok(500);
    world.post("/volumes", name()).await.error(409, "already");
    world.node.volumes.fail(Fails::Nothing);
    let freed = async {
        while world.post("/volumes", name()).await.status != 201 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.unwrap();
    assert_eq!(world.node.volumes.sizes().len(), 1);
}

#[tokio::test]
async fn a_create_that_panicked_is_ended() {
    let world = sweeping().await;
    world.node.creates(Creates::Panic);
    world.post("/v2/sandboxes", json!({"templateID": "base"})).await.error(500, "");
    let list = world.get("/v1/sandboxes").await.json();
    let id = list["sandboxes"][0]["id"].as_str().unwrap();
    world.wait_for_state(id, "error").await;
}

#[tokio::test]
async fn a_sandbox_that_the_node_forgot_is_lost_though_no_report_came() {
    let world = sweeping().await;
    let (lost, kept) = (world.sandbox().await, world.sandbox().await);
    world.node.lose(&lost);
    world.wait_for_state(&lost, "error").await;
    assert_eq!(world.state(&lost).await.1, "lost");
    assert_eq!(world.state(&kept).await.0, "running");
}

#[tokio::test]
async fn a_deadline_that_the_node_missed_is_enforced() {
    let world = sweeping().await;
    let mut spec = spec(5, Duration::ZERO);
    spec.deadline = Timestamp::from_micros(now().as_micros() - 60_000_000);
    insert(&world, &spec).await;
    world.node.plant(spec.clone());
    assert!(
        world.store.mark_running(&spec.id, now()).await.unwrap() || world.node.alive().is_empty()
    );
    world.wait_for_alive(0).await;
}

#[tokio::test]
async fn what_nobody_owns_is_destroyed_and_what_is_owned_stays() {
    let world = sweeping().await;
    let id = world.sandbox().await;
    world.node.plant(spec(6, Duration::from_mins(5)));
    world.wait_for_alive(1).await;
    assert_eq!(world.node.alive(), [id.parse::<SandboxId>().unwrap()]);
}

#[tokio::test]
async fn ended_sandboxes_are_forgotten_beyond_the_bound() {
    let mut config = config();
    config.sweep_every = Duration::from_millis(20);
    config.ended_kept_max = 1;
    let world = World::with(config).await;
    let alive = world.sandbox().await;
    for _ in 0..3 {
        let id = world.sandbox().await;
        world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    }
    let waited = async {
        loop {
            let list = world.get("/v1/sandboxes").await.ok(200).json();
            if list["sandboxes"].as_array().unwrap().len() == 2 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
    assert_eq!(world.state(&alive).await.0, "running");
}
