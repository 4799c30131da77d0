//! Contexts: made, listed, restarted and removed, each with a state of its own.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::rig::{Server, event, of, text};

fn value(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_context_has_its_own_state_and_folder() {
    let server = Server::start().await;
    let (_, list) = server.request("GET", "/contexts", None).await;
    let languages: Vec<_> =
        value(&list).as_array().unwrap().iter().map(|one| one["language"].clone()).collect();
    assert_eq!(languages, ["python", "javascript"]);

    let folder = server.cwd.path().join("sub");
    std::fs::create_dir(&folder).unwrap();
    let (status, made) = server
        .request("POST", "/contexts", Some(json!({"cwd": folder, "language": "Python"})))
        .await;
    assert_eq!(status, StatusCode::OK, "{made}");
    let made = value(&made);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (made["language"].as_str(), made["cwd"].as_str()),
        (Some("python"), folder.to_str())
    );

    let run = |code: &str| server.execute(json!({"code": code, "context_id": id}));
    assert_eq!(text(&run("import os; x = 7; os.getcwd()").await), folder.to_str().unwrap());
    assert_eq!(server.python("'x' in globals()").await, "False");

    let (status, body) = server.request("POST", &format!("/contexts/{id}/restart"), None).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "null"));
    assert_eq!(
        text(&run("'x' in globals(), __import__('os').getcwd()").await),
        format!("(False, '{}')", folder.display())
    );

    let (status, _) = server.request("DELETE", &format!("/contexts/{id}"), None).await;
    assert_eq!(status, StatusCode::OK);
    for (method, path, body) in [
        ("DELETE", format!("/contexts/{id}"), None),
        ("POST", format!("/contexts/{id}/restart"), None),
        ("POST", "/execute".to_owned(), Some(json!({"code": "1", "context_id": id}))),
    ] {
        let (status, text) = server.request(method, &path, body).await;
        assert_eq!((status, text), (StatusCode::NOT_FOUND, format!("Context {id} not found")));
    }
}

#[tokio::test]
async fn executions_of_one_context_wait_for_each_other() {
    let server = Server::start().await;
    let body = |n: u8| {
        json!({"code": format!("import time; start = time.time(); time.sleep(0.5); spans = \
            globals().get('spans', []) + [(start, time.time())]; {n}")})
    };
    let (one, two) = tokio::join!(server.execute(body(1)), server.execute(body(2)));
    assert_eq!((text(&one), text(&two)), ("1".into(), "2".into()));
    let apart = server.python("a, b = sorted(spans); a[1] <= b[0]").await;
    assert_eq!(apart, "True");
}

#[tokio::test]
async fn a_restart_ends_what_runs_with_an_error() {
    let server = Server::start().await;
    let (_, list) = server.request("GET", "/contexts", None).await;
    let id = value(&list)[0]["id"].as_str().unwrap().to_owned();
    let mut running =
        server.begin(json!({"code": "print('go', flush=True)\nwhile True: pass"})).await;
    while event(&mut running).await["type"] != "stdout" {}
    let (status, _) = server.request("POST", &format!("/contexts/{id}/restart"), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(event(&mut running).await["name"], "ContextRestarting");
    assert_eq!(event(&mut running).await["type"], "end_of_execution");
    assert_eq!(server.python("1 + 1").await, "2");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_its_reason() {
    let server = Server::start().await;
    for (path, body, status, says) in [
        (
            "/execute",
            json!({"code": "1", "context_id": "a", "language": "python"}),
            400,
            "Only one of",
        ),
        ("/execute", json!({"code": "1", "language": "cobol"}), 400, "unsupported language"),
        ("/execute", json!({"code": "1", "language": "java"}), 500, "no kernel for this language"),
        ("/execute", json!({"code": "1", "env_vars": {"A=B": "x"}}), 400, "env_vars"),
        ("/execute", json!({"language": "python"}), 422, "code"),
        ("/contexts", json!({"cwd": "/no/such/folder"}), 400, "is not a folder"),
    ] {
        let (answered, text) = server.request("POST", path, Some(body.clone())).await;
        assert!(answered.as_u16() == status && text.contains(says), "{body}: {answered} {text}");
    }
    let events = server.execute(json!({"code": ""})).await;
    assert!(of(&events, "error").is_empty());
}
