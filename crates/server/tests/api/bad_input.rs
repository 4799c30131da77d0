//! Requests that are wrong: each gets a typed answer, and nothing is made.

use axum::body::Body;
use futures_util::stream;
use serde_json::{Value, json};

use crate::world::World;

const CREATES: [&str; 3] = ["/v2/sandboxes", "/v1/sandboxes", "/v1/executions"];

async fn send_raw(
    world: &World,
    path: &str,
    content_type: Option<&str>,
    body: Body,
) -> crate::world::Answer {
    let mut request = world.request("POST", path, None);
    if let Some(content_type) = content_type {
        request.headers_mut().insert("Content-Type", content_type.parse().unwrap());
    }
    *request.body_mut() = body;
    world.send(request).await
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let world = World::new().await;
    let deep = format!("{{\"templateID\":{}", "[".repeat(10_000));
    let twice = r#"{"template":"a","template":"b","templateID":"a","templateID":"b"}"#;
    for body in ["", "not json", "{", "[]", "null", "7", "{\"a\":1e999}", &deep, twice, "{} {}"] {
        for path in CREATES {
            let shown: String = body.chars().take(20).collect();
            let json = Some("application/json");
            let answer = send_raw(&world, path, json, Body::from(body.to_owned())).await;
            assert_eq!(answer.status, 400, "{path} {shown}: {}", answer.text);
            answer.error(400, "body");
        }
    }
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_utf8_is_refused_with_the_place() {
    let world = World::new().await;
    for path in CREATES {
        let body = Body::from(&b"{\"a\":\"\xff\xfe\"}"[..]);
        let answer = send_raw(&world, path, Some("application/json; charset=utf-8"), body).await;
        answer.error(400, "not UTF-8 from byte 6");
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let world = World::new().await;
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        for path in CREATES {
            let answer = send_raw(&world, path, content_type, Body::from("{}")).await;
            answer.error(415, "application/json");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new().await;
    for (path, bytes) in [("/v2/sandboxes", 1024 * 1024), ("/v1/executions", 16 * 1024 * 1024)] {
        let body = Body::from(vec![b' '; bytes + 1]);
        send_raw(&world, path, Some("application/json"), body).await.error(413, "larger");
        let body = Body::from(vec![b' '; bytes]);
        send_raw(&world, path, Some("application/json"), body).await.error(400, "object");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_refused() {
    let world = World::new().await;
    let broken = Err(std::io::Error::other("the connection broke"));
    let pieces = stream::iter([Ok("{\"templateID\":\"ba"), broken]);
    let body = Body::from_stream(pieces);
    let answer = send_raw(&world, "/v2/sandboxes", Some("application/json"), body).await;
    answer.error(400, "cut off");
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn an_unknown_field_of_our_own_api_is_named() {
    let world = World::new().await;
    for (path, body) in [
        ("/v1/sandboxes", json!({"memory": 5})),
        ("/v1/sandboxes", json!({"limits": {"memory": 5}})),
        ("/v1/executions", json!({"language": "python", "code": "1", "memory": 5})),
        ("/v1/executions", json!({"code": "1", "files": [{"path": "a", "memory": 1}]})),
    ] {
        world.post(path, body).await.error(400, "`memory`");
    }
    world.get("/v1/sandboxes?memory=5").await.error(400, "memory");
}

#[tokio::test]
async fn an_unknown_or_malformed_template_is_named() {
    let world = World::new().await;
    for (template, status, part) in [
        ("no-such-template", 404, "no-such-template"),
        ("base:v9", 404, "base:v9"),
        ("other/base", 404, "other/base"),
        ("", 400, "empty"),
        ("../base", 400, "a name has only"),
        ("a/b/c", 400, "a name has only"),
        ("base:", 400, "a tag has only"),
        ("base\u{0}", 400, "a name has only"),
    ] {
        world.post("/v2/sandboxes", json!({"templateID": template})).await.error(status, part);
        let body = json!({"template": template, "code": "1", "language": "python"});
        world.post("/v1/executions", body).await.error(status, part);
    }
    for template in ["base", "BASE", "base:default", "default/base", "code-interpreter-v1"] {
        let made = world.post("/v2/sandboxes", json!({"templateID": template})).await.ok(201);
        assert_eq!(made.json()["alias"], "base");
    }
}

#[tokio::test]
async fn limits_and_timeouts_out_of_range_are_told_with_the_range() {
    let world = World::new().await;
    for (limits, part) in [
        (json!({"memory_mib": 1}), "64 to 1048576"),
        (json!({"pids": 0}), "16 to 32768"),
        (json!({"disk_mib": u64::MAX}), "16 to"),
        (json!({"cpu_millis": 1}), "100 to"),
        (json!({"open_files": 1}), "64 to"),
    ] {
        world.post("/v1/sandboxes", json!({"limits": limits})).await.error(400, part);
        let body = json!({"language": "python", "code": "1", "limits": limits});
        world.post("/v1/executions", body).await.error(400, part);
    }
    for timeout in [json!(0), json!(-5), json!(1e18), json!("60"), json!(3601)] {
        let body = json!({"templateID": "base", "timeout": timeout});
        world.post("/v2/sandboxes", body).await.error(400, "imeout");
    }
    world
        .post("/v1/executions", json!({"code": "1", "language": "sh", "timeout_ms": 0}))
        .await
        .error(400, "Timeout");
}

#[tokio::test]
async fn an_environment_or_metadata_that_cannot_be_is_refused() {
    let world = World::new().await;
    let huge = "x".repeat(300 * 1024);
    let many: Value = (0..600).map(|i| (format!("k{i}"), json!("v"))).collect();
    for (field, value, part) in [
        ("envVars", json!({"": "1"}), "environment variable"),
        ("envVars", json!({"a=b": "1"}), "environment variable"),
        ("envVars", json!({"a": "\u{0}"}), "NUL"),
        ("envVars", json!({"a": huge}), "environment"),
        ("envVars", many.clone(), "environment"),
        ("metadata", many, "metadata"),
        ("metadata", json!({"a": 1}), "string"),
    ] {
        let body = json!({"templateID": "base", field: value});
        world.post("/v2/sandboxes", body).await.error(400, part);
    }
}

#[tokio::test]
async fn what_would_be_silently_missing_is_refused_by_name() {
    let world = World::new().await;
    for (field, value) in [
        ("autoPause", json!(true)),
        ("autoResume", json!({"enabled": true})),
        ("iam", json!({"tokens": {"a": {"audience": "b", "tokenType": "JWT-SVID"}}})),
    ] {
        let body = json!({"templateID": "base", field: value});
        world.post("/v2/sandboxes", body).await.error(501, field);
    }
    let harmless = json!({"templateID": "base", "autoPause": false, "network": {"denyOut": ["0.0.0.0/0"]},
        "autoResume": {"enabled": false}, "volumeMounts": [], "mcp": null});
    world.post("/v2/sandboxes", harmless).await.ok(201);
}

#[tokio::test]
async fn endpoints_of_later_versions_say_so() {
    let world = World::new().await;
    let id = world.sandbox().await;
    for (method, path) in [
        ("POST", format!("/sandboxes/{id}/pause")),
        ("POST", format!("/sandboxes/{id}/fork")),
        ("POST", format!("/sandboxes/{id}/snapshots")),
        ("GET", "/snapshots".to_owned()),
        ("POST", "/v2/templates".to_owned()),
        ("GET", "/teams".to_owned()),
    ] {
        let answer = world.call(method, &path, None).await.error(501, "not in this version");
        assert_eq!(answer.header("should-retry"), Some("false"));
    }
}

#[tokio::test]
async fn a_path_method_or_sandbox_that_is_not_there_has_our_error_body() {
    let world = World::new().await;
    world.get("/not/there").await.error(404, "no such path");
    world.call("PATCH", "/v2/sandboxes", None).await.error(405, "method");
    for id in ["debug_sandbox_id", "..%2f..%2fetc", "i%00", "I00000000000000000000", "%ff"] {
        for (method, path) in [
            ("GET", format!("/sandboxes/{id}")),
            ("DELETE", format!("/sandboxes/{id}")),
            ("GET", format!("/v1/sandboxes/{id}")),
        ] {
            let answer = world.call(method, &path, None).await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {}", answer.text);
            assert_eq!(answer.json()["code"], u64::from(answer.status.as_u16()));
        }
    }
}
