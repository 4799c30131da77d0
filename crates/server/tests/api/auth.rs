//! Keys.

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_missing_wrong_or_malformed_key_is_refused_with_the_body_that_sdks_read() {
    let world = World::new().await;
    let wrong = format!("e2b_{}", "0".repeat(40));
    let long = "x".repeat(10_000);
    for key in [None, Some(""), Some("x"), Some(&*wrong), Some(&*long)] {
        for (method, path) in [
            ("GET", "/v2/sandboxes"),
            ("POST", "/v2/sandboxes"),
            ("DELETE", "/sandboxes/i00000000000000000000"),
            ("POST", "/v1/executions"),
            ("GET", "/v1/info"),
            ("POST", "/sandboxes/x/pause"),
        ] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(key) = key {
                request = request.header("X-API-Key", key);
            }
            world.send(request.body(Body::empty()).unwrap()).await.error(401, "key");
        }
    }
}

#[tokio::test]
async fn a_key_works_as_a_header_and_as_a_bearer_token() {
    let world = World::new().await;
    world.get("/v2/sandboxes").await.ok(200);
    let bearer = Request::builder()
        .uri("/v2/sandboxes")
        .header("Authorization", format!("Bearer {}", world.key));
    world.send(bearer.body(Body::empty()).unwrap()).await.ok(200);
}

#[tokio::test]
async fn somebody_elses_sandbox_looks_like_none_at_all() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let foreign = world.foreign_key().await;
    for (method, path) in [
        ("GET", format!("/sandboxes/{id}")),
        ("DELETE", format!("/sandboxes/{id}")),
        ("POST", format!("/sandboxes/{id}/timeout")),
        ("POST", format!("/v2/sandboxes/{id}/connect")),
        ("GET", format!("/sandboxes/{id}/logs")),
        ("GET", format!("/sandboxes/{id}/metrics")),
        ("GET", format!("/v1/sandboxes/{id}")),
        ("DELETE", format!("/v1/sandboxes/{id}")),
    ] {
        let missing = path.replace(&id, "i00000000000000000000");
        let mut answers = Vec::new();
        for path in [&path, &missing] {
            let mut request = world.request(method, path, Some(&json!({"timeout": 60})));
            request.headers_mut().insert("X-API-KEY", foreign.parse().unwrap());
            answers.push(world.send(request).await.error(404, "not found").text);
        }
        assert_eq!(answers[0].replace(&id, "i00000000000000000000"), answers[1]);
    }
    let mut request = world.request("GET", "/v2/sandboxes", None);
    request.headers_mut().insert("X-API-KEY", foreign.parse().unwrap());
    assert_eq!(world.send(request).await.ok(200).json(), json!([]));
    world.get(&format!("/sandboxes/{id}")).await.ok(200);
}

#[tokio::test]
async fn a_revoked_key_is_refused() {
    let world = World::new().await;
    let key = world.store.list_api_keys().await.unwrap().remove(0);
    let now = std::time::SystemTime::now().into();
    assert!(world.store.revoke_api_key(&key.id, now).await.unwrap());
    assert!(!world.store.revoke_api_key(&key.id, now).await.unwrap());
    world.get("/v2/sandboxes").await.error(401, "revoked");
}

#[tokio::test]
async fn health_and_the_document_want_no_key() {
    let world = World::new().await;
    for (path, status) in [("/health", 204), ("/v1/openapi.json", 200), ("/openapi.json", 200)] {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        world.send(request).await.ok(status);
    }
}
