//! Create, connect, look, extend, kill.

use std::sync::Arc;
use std::time::Duration;

use courier_types::{EndReason, ObservedState};
use serde_json::{Value, json};

use crate::fake_node::Creates;
use crate::world::{World, config};

#[tokio::test]
async fn a_created_sandbox_has_what_the_sdks_read() {
    let mut config = config();
    config.domain = Some("courier.test:8443".to_owned());
    let world = World::with(config).await;
    let body = json!({"templateID": "base", "timeout": 60, "metadata": {"a": "b c"},
        "envVars": {"X": "1"}, "allow_internet_access": true, "leaked": 1});
    let made = world.post("/v2/sandboxes", body).await.ok(201).json();
    let id = made["sandboxID"].as_str().unwrap();
    assert_eq!(made["envdVersion"], "0.6.13");
    assert_eq!(made["domain"], "courier.test:8443");
    assert_eq!(made["alias"], "base");
    assert!(made["clientID"].is_string() && made["templateID"].is_string());
    assert!(made["envdAccessToken"].as_str().unwrap().len() >= 32);

    let spec = world.node.spec(id);
    assert_eq!(spec.build, "base-1");
    assert_eq!(spec.env.get("X").map(String::as_str), Some("1"));
    assert_eq!(spec.access_token.unwrap().expose(), made["envdAccessToken"]);

    let detail = world.get(&format!("/sandboxes/{id}-client")).await.ok(200).json();
    assert_eq!(detail["state"], "running");
    assert_eq!(detail["metadata"], json!({"a": "b c"}));
    assert_eq!(detail["allowInternetAccess"], true);
    assert_eq!(detail["lifecycle"], json!({"autoResume": false, "onTimeout": "kill"}));
    assert_eq!(detail["memoryMB"], 512);
    assert_eq!(detail["envdAccessToken"], made["envdAccessToken"]);
    let seconds = |name: &str| detail[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!((seconds("endAt") - seconds("startedAt")).get_seconds(), 60);
}

#[tokio::test]
async fn v1_creates_are_open_unless_secure_and_live_15_seconds() {
    let world = World::new().await;
    for (body, secured) in [
        (json!({"templateID": "base"}), false),
        (json!({"templateID": "base", "secure": true}), true),
    ] {
        let made = world.post("/sandboxes", body).await.ok(201).json();
        assert_eq!(made["envdAccessToken"].is_string(), secured);
        let spec = world.node.spec(made["sandboxID"].as_str().unwrap());
        let left = spec.deadline.since(std::time::SystemTime::now().into());
        assert!(left <= Duration::from_secs(15) && left > Duration::from_secs(5), "{left:?}");
    }
}

#[tokio::test]
async fn connect_extends_and_never_shortens() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let before = world.node.spec(&id).deadline;
    let path = format!("/v2/sandboxes/{id}/connect");
    let again = world.post(&path, json!({"timeout": 1})).await.ok(200).json();
    assert_eq!(again["sandboxID"], id);
    assert!(again["envdAccessToken"].is_string());
    assert_eq!(world.node.spec(&id).deadline, before);
    world.post(&path, json!({"timeout": 900})).await.ok(200);
    assert!(world.node.spec(&id).deadline > before);
    // Without a body, and with an unknown field.
    world.call("POST", &path, None).await.ok(200);
    world.post(&path, json!({"memory": true, "x": 1})).await.ok(200);
    world.post(&format!("/sandboxes/{id}/connect"), json!({})).await.error(400, "timeout");
    world.post(&format!("/sandboxes/{id}/connect"), json!({"timeout": 9})).await.ok(200);
}

#[tokio::test]
async fn set_timeout_may_shorten_and_refresh_only_extends() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let left = || world.node.spec(&id).deadline.since(std::time::SystemTime::now().into());
    let set = format!("/sandboxes/{id}/timeout");
    world.post(&set, json!({"timeout": 20})).await.ok(204);
    assert!(left() <= Duration::from_secs(20));
    let refresh = format!("/sandboxes/{id}/refreshes");
    world.post(&refresh, json!({"duration": 0})).await.ok(204);
    assert!(left() > Duration::from_secs(16));
    world.post(&refresh, json!({"duration": 600})).await.ok(204);
    assert!(left() > Duration::from_secs(590));
    world.post(&refresh, json!({"duration": 3601})).await.error(400, "3600");
    for timeout in [json!(-1), json!(1e18), json!("x"), json!(999_999_999)] {
        world.post(&set, json!({"timeout": timeout})).await.error(400, "imeout");
    }
    world.post(&set, json!({})).await.error(400, "timeout");
    world.post(&set, json!({"timeout": 0})).await.ok(204);
    assert!(left().is_zero());
    let patch = json!({"timeout_ms": 60_000});
    world.call("PATCH", &format!("/v1/sandboxes/{id}"), Some(&patch)).await.ok(200);
    assert!(left() > Duration::from_secs(50));
}

#[tokio::test]
async fn a_killed_sandbox_is_gone_and_killing_it_twice_says_so() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    assert!(world.node.alive().is_empty());
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.error(404, &id);
    world.get(&format!("/sandboxes/{id}")).await.error(404, "requested");
    world.post(&format!("/v2/sandboxes/{id}/connect"), json!({})).await.error(404, &id);
    world.post(&format!("/sandboxes/{id}/timeout"), json!({"timeout": 5})).await.error(404, &id);
    // Our own API tells how it ended, and does not mind a second kill.
    let ended = world.call("DELETE", &format!("/v1/sandboxes/{id}"), None).await.ok(200).json();
    assert_eq!((&ended["state"], &ended["reason"]), (&json!("killed"), &json!("requested")));
    assert_eq!(ended["access_token"], Value::Null);
}

#[tokio::test]
async fn what_the_node_reports_shows_and_stale_reports_do_not() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.node.tell(&id, ObservedState::Running, 5).await;
    world.node.tell(&id, ObservedState::Killing, 4).await;
    world.node.end(&id, EndReason::Memory, 6).await;
    world.wait_for_state(&id, "error").await;
    let ended = world.get(&format!("/v1/sandboxes/{id}")).await.ok(200).json();
    assert_eq!(ended["reason"], "memory");
    assert_eq!(ended["usage"]["memory_peak_bytes"], 2);
    assert_eq!(ended["detail"], "the technology's last words");
    // An end stays, whatever comes after it.
    world.node.end(&id, EndReason::Timeout, 7).await;
    let other = world.sandbox().await;
    world.node.end(&other, EndReason::Timeout, 1).await;
    world.wait_for_state(&other, "killed").await;
    assert_eq!(world.state(&id).await, ("error".to_owned(), "memory".to_owned()));
    world.get(&format!("/sandboxes/{id}")).await.error(404, "memory");
    let logs = world.get(&format!("/v2/sandboxes/{id}/logs?level=error")).await.ok(200).json();
    assert_eq!(logs["logs"][0]["fields"]["reason"], "memory");
}

#[tokio::test]
async fn a_node_that_fails_leaves_an_ended_row_and_the_right_status() {
    let world = World::new().await;
    for (creates, status, retry) in [
        (Creates::Full, 503, "true"),
        (Creates::DoNotStart, 500, "false"),
        (Creates::LackTheBuild, 404, "false"),
        (Creates::Panic, 500, "false"),
    ] {
        world.node.creates(creates);
        let answer = world.post("/v2/sandboxes", json!({"templateID": "base"})).await;
        let answer = answer.error(status, "");
        assert_eq!(answer.header("should-retry"), Some(retry), "{creates:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
    world.node.creates(Creates::Work);
    assert!(world.node.alive().is_empty());
    let list = world.get("/v1/sandboxes").await.ok(200).json();
    let states: Vec<&str> = list["sandboxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["state"].as_str().unwrap())
        .collect();
    // The panic's row is the sweep's.
    assert_eq!(states, ["creating", "error", "error", "error"]);
    world.sandbox().await;
}

#[tokio::test]
async fn a_create_that_takes_too_long_is_given_up() {
    let mut config = config();
    config.create_timeout = Duration::from_millis(50);
    let world = World::with(config).await;
    world.node.creates(Creates::Wait);
    let answer = world.post("/v2/sandboxes", json!({"templateID": "base"})).await;
    answer.error(504, "not ready");
    let list = world.get("/v1/sandboxes").await.ok(200).json();
    assert_eq!(list["sandboxes"][0]["state"], "error");
    assert_eq!(list["sandboxes"][0]["reason"], "never_started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_can_be_killed_while_it_is_being_made() {
    let world = Arc::new(World::new().await);
    world.node.creates(Creates::Wait);
    let making = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.post("/v2/sandboxes", json!({"templateID": "base"})).await }
    });
    let id = wait_for_first(&world).await;
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    world.node.release();
    making.await.unwrap().error(409, "killed");
    assert!(world.node.alive().is_empty());
    assert_eq!(world.state(&id).await, ("killed".to_owned(), "requested".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_during_a_create_leaves_a_row_that_is_true() {
    let world = World::new().await;
    world.node.creates(Creates::Wait);
    let body = json!({"templateID": "base"});
    let request = world.request("POST", "/v2/sandboxes", Some(&body));
    {
        let making = world.begin(request);
        tokio::select! {
            answer = making => panic!("it cannot be made yet: {answer:?}"),
            _id = wait_for_first(&world) => {}
        }
    }
    let id = wait_for_first(&world).await;
    world.node.release();
    world.wait_for_state(&id, "running").await;
    assert_eq!(world.node.alive().len(), 1);
}

async fn wait_for_first(world: &World) -> String {
    loop {
        let list = world.get("/v1/sandboxes").await.ok(200).json();
        if let Some(id) = list["sandboxes"][0]["id"].as_str() {
            return id.to_owned();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_project_at_its_limit_gets_429_and_room_again_after_a_kill() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.sandbox().await);
    }
    let answer = world.post("/v2/sandboxes", json!({"templateID": "base"})).await.error(429, "5");
    assert_eq!(answer.header("retry-after"), Some("1"));
    world.call("DELETE", &format!("/sandboxes/{}", ids[0]), None).await.ok(204);
    world.sandbox().await;
}

#[tokio::test]
async fn a_draining_server_refuses_new_sandboxes_and_leaves_the_old_ones() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.server.begin_drain();
    let answer = world.post("/v2/sandboxes", json!({"templateID": "base"})).await;
    assert!(answer.error(503, "shutting down").header("retry-after").is_some());
    world.get("/health").await.ok(503);
    world.get(&format!("/sandboxes/{id}")).await.ok(200);
    let node = Arc::clone(&world.node);
    assert!(world.server.drain(Duration::from_secs(5)).await);
    assert_eq!(node.alive().len(), 1);
}

#[tokio::test]
async fn our_own_create_takes_limits_and_refuses_another_isolation() {
    let world = World::new().await;
    let body = json!({"limits": {"memory_mib": 256}, "timeout_ms": 1_000, "metadata": {"a": "1"}});
    let made = world.post("/v1/sandboxes", body).await.ok(201).json();
    assert_eq!(made["limits"]["memory_mib"], 256);
    assert_eq!(made["limits"]["pids"], 512);
    assert_eq!(made["isolation"], "fake");
    assert_eq!(made["template"], "base");
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.node.spec(id).limits.memory_mib(), 256);
    let shown = world.get(&format!("/v1/sandboxes/{id}")).await.ok(200).json();
    assert_eq!(shown["usage"]["cpu_micros"], 3);
    assert_eq!(shown["access_token"], made["access_token"]);
    world.post("/v1/sandboxes", json!({"isolation": "microvm"})).await.error(409, "fake");
    let list = world.get("/v1/sandboxes").await.ok(200).json();
    assert_eq!(list["sandboxes"][0]["access_token"], Value::Null);
}

#[tokio::test]
async fn what_this_installation_is_can_be_asked() {
    let world = World::new().await;
    let info = world.get("/v1/info").await.ok(200).json();
    assert_eq!(info["isolation"], "fake");
    assert_eq!(info["technology"], "fake 1");
    assert_eq!(info["limits"][0]["name"], "memory_mib");
    assert_eq!(info["sandboxes_max"], 5);
}
