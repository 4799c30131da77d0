//! Code that does not end, dies, or writes without measure, and clients that go away.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::rig::{Server, event, of, stdout, text};

/// What the official SDKs' own tests allow.
const INTERRUPT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn code_stops_when_its_client_goes_away_and_its_state_stays() {
    let server = Server::start().await;
    for (language, code, check) in [
        ("python", "x = 42; print('go', flush=True)\nwhile True: pass", "x"),
        ("javascript", "var x = 42; console.log('go'); await new Promise(() => {})", "x"),
    ] {
        let mut running = server.begin(json!({"code": code, "language": language})).await;
        while event(&mut running).await["type"] != "stdout" {}
        let gone = Instant::now();
        drop(running);
        let events = server.execute(json!({"code": check, "language": language})).await;
        assert_eq!(text(&events), "42", "{language}");
        assert!(gone.elapsed() < INTERRUPT, "{language}: {:?}", gone.elapsed());
    }
}

#[tokio::test]
async fn code_that_ignores_interrupts_is_ended_with_its_kernel() {
    let server = Server::start().await;
    let stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
        print('go', flush=True)\nwhile True: pass";
    let mut running = server.begin(json!({"code": stubborn})).await;
    while event(&mut running).await["type"] != "stdout" {}
    drop(running);
    assert_eq!(server.python("1 + 1").await, "2");
}

#[tokio::test]
async fn a_kernel_that_dies_is_an_error_and_a_new_kernel() {
    let server = Server::start().await;
    let events = server.execute(json!({"code": "import os; os._exit(1)"})).await;
    assert_eq!(of(&events, "error")[0]["name"], "ContextRestarting");
    assert_eq!(server.python("1 + 1").await, "2");
    let events = server.execute(json!({"code": "process.exit(1)", "language": "js"})).await;
    assert_eq!(of(&events, "error")[0]["name"], "ContextRestarting");
    let events = server.execute(json!({"code": "1 + 1", "language": "js"})).await;
    assert_eq!(text(&events), "2");
}

#[tokio::test]
async fn a_hundred_megabytes_arrive() {
    let server = Server::start().await;
    let events = server.execute(json!({"code": "print('x' * 100_000_000)"})).await;
    assert!(of(&events, "error").is_empty());
    assert_eq!(stdout(&events).len(), 100_000_001);
}

#[tokio::test]
async fn the_process_that_serves_is_started_again() {
    let server = Server::start().await;
    let watcher = server.process.id();
    let children = format!("/proc/{watcher}/task/{watcher}/children");
    let serving: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(serving).unwrap(), Signal::KILL).unwrap();
    server.ready().await;
    assert_eq!(server.python("1 + 1").await, "2");
}

#[tokio::test]
async fn variables_go_even_when_the_client_goes() {
    let server = Server::start().await;
    let code = "import os; print('go', flush=True)\nwhile True: pass";
    let mut running = server.begin(json!({"code": code, "env_vars": {"OWN": "x"}})).await;
    while event(&mut running).await["type"] != "stdout" {}
    drop(running);
    assert_eq!(server.python("os.environ.get('OWN', 'gone')").await, "gone");
}

#[tokio::test]
async fn a_message_that_no_memory_holds_ends_no_service() {
    let server = Server::start().await;
    // The kernel's own sockets announce a frame of 32 TiB.
    let announce = "import os, socket\nfor fd in range(3, 100):\n    try:\n        \
        end = socket.socket(fileno=os.dup(fd))\n        end.getpeername()\n        \
        os.write(fd, b'\\x02' + (2 ** 45).to_bytes(8, 'big') + b'x' * 100)\n    \
        except OSError: pass";
    // Whether its answer comes to an end, is broken off or never comes is all the same.
    let mut running = server.begin(json!({"code": announce})).await;
    while running.frame().await.is_some_and(|frame| frame.is_ok()) {}
    server.ready().await;
    assert_eq!(server.python("1 + 1").await, "2");
}
