//! Idempotency keys.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::fake_node::Creates;
use crate::world::{Answer, World};

async fn create(world: &World, key: &str, body: &Value) -> Answer {
    let mut request = world.request("POST", "/v2/sandboxes", Some(body));
    request.headers_mut().insert("Idempotency-Key", key.parse().unwrap());
    world.send(request).await
}

#[tokio::test]
async fn the_same_request_under_the_same_key_makes_one_sandbox() {
    let world = World::new().await;
    let body = json!({"templateID": "base"});
    let first = create(&world, "key-1", &body).await.ok(201).json();
    assert_eq!(create(&world, "key-1", &body).await.ok(201).json(), first);
    assert_eq!(world.node.alive().len(), 1);
    // Killed meanwhile: still the same answer, and no second sandbox.
    let id = first["sandboxID"].as_str().unwrap();
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    assert_eq!(create(&world, "key-1", &body).await.ok(201).json(), first);
    assert!(world.node.alive().is_empty());
    create(&world, "key-1", &json!({"templateID": "base", "timeout": 9}))
        .await
        .error(422, "new one");
    create(&world, "key-2", &body).await.ok(201);
}

#[tokio::test]
async fn a_failed_create_frees_its_key() {
    let world = World::new().await;
    let body = json!({"templateID": "base"});
    world.node.creates(Creates::Full);
    create(&world, "key", &body).await.error(503, "room");
    world.node.creates(Creates::Work);
    create(&world, "key", &body).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_waits_for_the_first_request() {
    let world = Arc::new(World::new().await);
    world.node.creates(Creates::Wait);
    let body = json!({"templateID": "base"});
    let begin = || {
        let (world, body) = (Arc::clone(&world), body.clone());
        tokio::spawn(async move { create(&world, "key", &body).await })
    };
    let (first, second) = (begin(), begin());
    while world.get("/v1/sandboxes").await.json()["sandboxes"][0].is_null() {
        tokio::task::yield_now().await;
    }
    world.node.release();
    let (first, second) = (first.await.unwrap().ok(201), second.await.unwrap().ok(201));
    assert_eq!(first.json(), second.json());
    assert_eq!(world.node.alive().len(), 1);
}

#[tokio::test]
async fn a_malformed_key_is_refused() {
    let world = World::new().await;
    let body = json!({"templateID": "base"});
    for key in ["", "UPPER", "a b", &"a".repeat(256)] {
        create(&world, key, &body).await.error(400, "Idempotency-Key");
    }
    assert!(world.node.alive().is_empty());
}
