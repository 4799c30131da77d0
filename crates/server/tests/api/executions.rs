//! One-shot executions.

use std::time::Duration;

use courier_types::EndReason;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::fake_node::{Creates, Program};
use crate::world::World;

fn snippet() -> Value {
    json!({"language": "python", "code": "print(1)"})
}

#[tokio::test]
async fn everything_comes_back_and_the_sandbox_is_gone() {
    let world = World::new().await;
    let mut body = snippet();
    body["files"] = json!([{"path": "in/a.txt", "text": "A"}, {"path": "b", "base64": "Qg=="}]);
    body["collect"] = json!(["out.txt"]);
    body["limits"] = json!({"memory_mib": 128});
    let answer = world.post("/v1/executions", body).await.ok(200).json();
    assert_eq!((&answer["ended"], &answer["exit_code"]), (&json!("exit"), &json!(3)));
    assert_eq!(
        answer["stdout"],
        json!({"text": "out\u{fffd}", "base64": "b3V0/w==", "truncated": false})
    );
    assert_eq!(answer["stderr"], json!({"text": "err", "truncated": false}));
    assert_eq!(answer["isolation"], "fake");
    assert_eq!(answer["limits"]["memory_mib"], 128);
    assert_eq!(answer["usage"]["memory_peak_bytes"], 2);
    assert_eq!(answer["files"][0]["path"], "out.txt");
    assert!(answer["files"][0]["error"].is_string());
    assert!(answer["timings"]["total_ms"].is_u64());
    assert!(world.node.alive().is_empty());
    let written: Vec<Vec<u8>> = world.node.written().into_values().collect();
    assert!([&b"A"[..], b"B", b"print(1)"].iter().all(|c| written.iter().any(|w| w == c)));
    let id = answer["sandbox_id"].as_str().unwrap();
    assert_eq!(world.state(id).await, ("killed".to_owned(), "requested".to_owned()));
}

#[tokio::test]
async fn output_beyond_the_bound_is_cut_and_says_so() {
    let world = World::new().await;
    let mut body = snippet();
    body["output_bytes_max"] = json!(2);
    let answer = world.post("/v1/executions", body).await.ok(200).json();
    assert_eq!(answer["stdout"], json!({"text": "ou", "truncated": true}));
    assert_eq!(answer["stderr"], json!({"text": "er", "truncated": true}));
}

#[tokio::test]
async fn a_file_of_the_request_can_be_the_program() {
    let world = World::new().await;
    let body = json!({"entry": "job.py", "files": [{"path": "job.py", "text": "import x"}]});
    world.post("/v1/executions", body).await.ok(200);
    let written = world.node.written();
    assert_eq!(written.len(), 1);
    assert!(written.keys().next().unwrap().contains("job.py"));
}

#[tokio::test]
async fn a_stream_has_one_event_per_line_and_the_answer_last() {
    let world = World::new().await;
    let answer = world.post("/v1/executions?stream=true", snippet()).await.ok(200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let events: Vec<Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "started");
    assert_eq!(
        events[1],
        json!({"event": "output", "stream": "stdout", "text": "out\u{fffd}", "base64": "b3V0/w=="})
    );
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["answer"]["exit_code"]), (&json!("ended"), &json!(3)));
    assert!(world.node.alive().is_empty());
    let mut request = world.request("POST", "/v1/executions", Some(&snippet()));
    request.headers_mut().insert("Accept", "application/x-ndjson".parse().unwrap());
    assert!(world.send(request).await.ok(200).text.lines().count() > 2);
}

#[tokio::test]
async fn a_stream_that_cannot_begin_is_a_plain_error() {
    let world = World::new().await;
    world.node.creates(Creates::Full);
    world.post("/v1/executions?stream=true", snippet()).await.error(503, "room");
    world.post("/v1/executions", snippet()).await.error(503, "room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_takes_the_sandbox_with_it() {
    let world = World::new().await;
    world.node.programs(Program::Hangs);
    // Plain: the connection's task is dropped.
    {
        let request = world.request("POST", "/v1/executions", Some(&snippet()));
        let waiting = world.begin(request);
        tokio::select! {
            answer = waiting => panic!("the program hangs: {answer:?}"),
            () = world.wait_for_alive(1) => {}
        }
    }
    world.wait_for_alive(0).await;
    // Streamed: the body is dropped after the first line.
    let request = world.request("POST", "/v1/executions?stream=true", Some(&snippet()));
    let mut response = world.begin(request).await;
    assert!(response.body_mut().frame().await.unwrap().unwrap().is_data());
    assert_eq!(world.node.alive().len(), 1);
    drop(response);
    world.wait_for_alive(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_during_the_create_leaves_no_sandbox() {
    let world = World::new().await;
    world.node.creates(Creates::Wait);
    {
        let request = world.request("POST", "/v1/executions", Some(&snippet()));
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
    world.node.release();
    let list = world.get("/v1/sandboxes").await.json();
    let id = list["sandboxes"][0]["id"].as_str().unwrap();
    world.wait_for_state(id, "killed").await;
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_program_that_outlives_its_time_is_told_as_timeout() {
    let world = World::new().await;
    world.node.programs(Program::Hangs);
    let mut body = snippet();
    body["timeout_ms"] = json!(50);
    let answer = world.post("/v1/executions", body).await.ok(200).json();
    assert_eq!((&answer["ended"], &answer["exit_code"]), (&json!("timeout"), &Value::Null));
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn a_sandbox_that_ends_under_its_program_tells_why() {
    let world = World::new().await;
    world.node.programs(Program::KillsItsSandbox);
    let answer = world.post("/v1/executions", snippet()).await.ok(200).json();
    assert_eq!(answer["ended"], "memory");
    assert_eq!(answer["sandbox_end"], EndReason::Memory.as_str());
    assert_eq!(answer["usage"]["memory_peak_bytes"], 2);
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_before_a_sandbox_is_made() {
    let world = World::new().await;
    for (body, part) in [
        (json!({"language": "cobol", "code": "x"}), "python"),
        (json!({"code": "x"}), "language"),
        (json!({"language": "python"}), "either code or entry"),
        (json!({"language": "python", "code": "x", "entry": "y"}), "either code or entry"),
        (json!({"language": "python", "entry": "y"}), "one of files"),
        (json!({"entry": "../y.py", "files": [{"path": "../y.py", "text": ""}]}), "home folder"),
        (json!({"language": "sh", "code": "x", "files": [{"path": "a"}]}), "text or base64"),
        (json!({"language": "sh", "code": "x", "files": [{"path": "a", "base64": "?"}]}), "\"a\""),
        (json!({"language": "sh", "code": "x", "files": [{"path": "", "text": ""}]}), "no path"),
        (
            json!({"language": "sh", "code": "x", "files": [{"path": "a\u{0}", "text": ""}]}),
            "no path",
        ),
        (json!({"language": "sh", "code": "x", "args": ["\u{0}"]}), "NUL"),
        (json!({"language": "sh", "code": "x", "output_bytes_max": 0}), "output_bytes_max"),
        (json!({"language": "sh", "code": "x", "timeout_ms": 3_600_001}), "Timeout"),
    ] {
        world.post("/v1/executions", body).await.error(400, part);
    }
    world.post("/v1/executions?streem=true", snippet()).await.error(400, "streem");
    let list = world.get("/v1/sandboxes").await.ok(200).json();
    assert_eq!(list["sandboxes"], json!([]));
}

#[tokio::test]
async fn draining_waits_for_an_execution() {
    let world = World::new().await;
    world.node.programs(Program::Hangs);
    let request = world.request("POST", "/v1/executions?stream=true", Some(&snippet()));
    let response = world.begin(request).await;
    assert!(!world.server.drain(Duration::from_millis(50)).await);
    drop(response);
}
