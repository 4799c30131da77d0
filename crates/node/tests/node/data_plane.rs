//! The data plane over TCP: who comes in, what crosses the fence, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use courier_node::LocalNode;
use courier_protocol::envd::signature::{Grant, Operation, sign};
use courier_protocol::node::Node as _;
use courier_types::{AccessToken, SandboxId};

use crate::driver::{TestDriver, node, spec};
use crate::front::{Ask, PATIENCE, ask, read_all, read_until, send, serve};
use crate::guest::{BROKEN_BODIES, Manner};

const TOKEN: (&str, &str) = ("X-Access-Token", "right");

async fn rig() -> (Arc<LocalNode>, SocketAddr, SandboxId) {
    let driver = Arc::new(TestDriver::new(Manner::Polite));
    let node = Arc::new(node(driver));
    let spec = spec(1, Some("right"));
    node.create(spec.clone()).await.unwrap();
    let address = serve(Arc::clone(&node)).await;
    (node, address, spec.id)
}

fn show<'a>(id: &'a SandboxId, headers: &'a [(&'a str, &'a str)]) -> Ask<'a> {
    Ask { line: "POST /process.Process/Show?a=b", id, headers, body: "hello" }
}

#[tokio::test]
async fn without_the_right_token_nothing_but_health_answers() {
    let (_node, address, id) = rig().await;
    for headers in [&[][..], &[("X-Access-Token", "wrong")], &[("X-Access-Token", "")]] {
        let answer = ask(address, show(&id, headers)).await;
        assert_eq!(answer.status, 401);
        let expected = r#"{"code":401,"message":"unauthorized access, please provide a valid access token or method signing if supported"}"#;
        assert_eq!(answer.body, expected);
    }
    let health = Ask { line: "GET /health", id: &id, headers: &[], body: "" };
    assert_eq!(ask(address, health).await.status, 204);
}

#[tokio::test]
async fn a_guest_sees_the_request_and_none_of_its_secrets() {
    let (_node, address, id) = rig().await;
    let basic = format!("Basic {}", STANDARD.encode("root:hunter2"));
    let headers = [
        TOKEN,
        ("Cookie", "session=secret"),
        ("X-Api-Key", "e2b_secret"),
        ("E2b-Sandbox-Id", "x"),
        ("X-Forwarded-For", "10.1.2.3"),
        ("Authorization", &basic),
        ("Content-Type", "application/json"),
    ];
    let answer = ask(address, show(&id, &headers)).await;
    assert_eq!(answer.status, 200);
    let user = STANDARD.encode("root:");
    let expected = format!(
        "POST /process.Process/Show?a=b\ncontent-length: 5\ncontent-type: application/json\nauthorization: Basic {user}\n5 bytes\n"
    );
    let mut seen: Vec<&str> = answer.body.lines().collect();
    let mut expected: Vec<&str> = expected.lines().collect();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_signed_url_opens_its_file_and_hides_its_signature() {
    let (_node, address, id) = rig().await;
    let token = AccessToken::new("right".into());
    let grant = Grant {
        path: "a b.txt",
        operation: Operation::Read,
        username: "user",
        expiration: Some(4_000_000_000),
    };
    let signature = sign(&token, &grant).replace('+', "%2B").replace('/', "%2F");
    let query =
        format!("path=a+b.txt&username=user&signature={signature}&signature_expiration=4000000000");
    let get = format!("GET /files?{query}");
    let root = format!("Basic {}", STANDARD.encode("root:"));
    let headers = [("Authorization", root.as_str())];
    let answer = ask(address, Ask { line: &get, id: &id, headers: &headers, body: "" }).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("GET /files?path=a%20b.txt&username=user\n"), "{answer:?}");
    assert!(!answer.body.contains("authorization"), "{answer:?}");

    let post = format!("POST /files?{query}");
    let answer = ask(address, Ask { line: &post, id: &id, headers: &[], body: "" }).await;
    assert_eq!(answer.body, r#"{"code":401,"message":"invalid signature"}"#);
    let twice = format!("GET /files?{query}&path=other");
    let answer = ask(address, Ask { line: &twice, id: &id, headers: &[], body: "" }).await;
    assert_eq!(answer.status, 400);
    let bare = Ask { line: "GET /files?path=a", id: &id, headers: &[], body: "" };
    let answer = ask(address, bare).await;
    assert_eq!(answer.body, r#"{"code":401,"message":"missing signature query parameter"}"#);
}

#[tokio::test]
async fn an_expired_signature_says_exactly_that() {
    let (_node, address, id) = rig().await;
    let token = AccessToken::new("right".into());
    let grant = Grant { path: "", operation: Operation::Write, username: "", expiration: Some(1) };
    let signature = sign(&token, &grant).replace('+', "%2B").replace('/', "%2F");
    let line = format!("POST /files?signature={signature}&signature_expiration=1");
    let answer = ask(address, Ask { line: &line, id: &id, headers: &[], body: "" }).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.body, r#"{"code":401,"message":"signature is already expired"}"#);
}

#[tokio::test]
async fn paths_for_the_node_and_other_ports_are_closed_with_the_words_that_sdks_know() {
    let (_node, address, id) = rig().await;
    for path in ["/init", "/ready", "/freeze", "//init", "/%69nit", "/init/", "/files/../init"] {
        let line = format!("POST {path}");
        let answer = ask(address, Ask { line: &line, id: &id, headers: &[TOKEN], body: "" }).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: 8080-{id}.e2b.test\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream, String::new()).await;
    assert_eq!(answer.status, 502);
    let expected = format!(
        r#"{{"sandboxId":"{id}","message":"The sandbox is running but port is not open","port":8080,"code":502}}"#
    );
    assert_eq!(answer.body, expected);
}

#[tokio::test]
async fn an_unknown_and_a_killed_sandbox_are_not_found() {
    let (node, address, id) = rig().await;
    node.kill(&id).await.unwrap();
    for id in [id, SandboxId::from_random([9; 20])] {
        let answer = ask(address, show(&id, &[TOKEN])).await;
        assert_eq!(answer.status, 502);
        let expected =
            format!(r#"{{"sandboxId":"{id}","message":"The sandbox was not found","code":502}}"#);
        assert_eq!(answer.body, expected);
    }
}

#[tokio::test]
async fn a_kill_aborts_a_stream_in_flight_and_does_not_end_it_well() {
    let (node, address, id) = rig().await;
    let line = "POST /process.Process/Stream";
    let headers = [TOKEN];
    let mut stream = send(address, &Ask { line, id: &id, headers: &headers, body: "" }).await;
    let seen = read_until(&mut stream, "first").await;
    node.kill(&id).await.unwrap();
    let answer = read_all(&mut stream, seen).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.ended_well(), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_the_guest_breaks_off_is_aborted_too() {
    let (_node, address, id) = rig().await;
    let line = "POST /process.Process/Break";
    let answer = ask(address, Ask { line, id: &id, headers: &[TOKEN], body: "" }).await;
    assert!(!answer.ended_well(), "{answer:?}");
}

#[tokio::test]
async fn a_guests_cookie_reaches_no_browser_and_every_origin_may_read() {
    let (_node, address, id) = rig().await;
    let line = "POST /process.Process/Cookie";
    let answer = ask(address, Ask { line, id: &id, headers: &[TOKEN], body: "" }).await;
    let head = answer.head.to_ascii_lowercase();
    assert!(!head.contains("set-cookie"), "{head}");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    let asks = [
        ("Origin", "https://page.test"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-access-token, authorization"),
    ];
    let line = "OPTIONS /process.Process/Start";
    let answer = ask(address, Ask { line, id: &id, headers: &asks, body: "" }).await;
    let head = answer.head.to_ascii_lowercase();
    assert_eq!(answer.status, 204);
    assert!(head.contains("access-control-allow-headers: x-access-token, authorization"));
}

#[tokio::test]
async fn one_sandboxs_token_opens_no_other_and_its_end_does_not_touch_it() {
    let (node, address, first) = rig().await;
    let second = spec(2, Some("other"));
    node.create(second.clone()).await.unwrap();
    let foreign = ask(address, show(&second.id, &[TOKEN])).await;
    assert_eq!(foreign.status, 401);
    let open = spec(3, None);
    node.create(open.clone()).await.unwrap();
    assert_eq!(ask(address, show(&open.id, &[])).await.status, 200);
    node.kill(&first).await.unwrap();
    let own = [("X-Access-Token", "other")];
    assert_eq!(ask(address, show(&second.id, &own)).await.status, 200);
}

#[tokio::test]
async fn half_an_address_is_a_bad_request_and_a_foreign_host_is_nobody() {
    let (_node, address, id) = rig().await;
    let request = |headers: String| async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let text = format!("GET /health HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.unwrap();
        read_all(&mut stream, String::new()).await.status
    };
    assert_eq!(request(format!("Host: localhost\r\nE2b-Sandbox-Id: {id}\r\n")).await, 400);
    let both = format!("Host: localhost\r\nE2b-Sandbox-Id: {id}\r\nE2b-Sandbox-Port: 49983\r\n");
    assert_eq!(request(both).await, 204);
    assert_eq!(request("Host: localhost\r\n".to_owned()).await, 404);
}

#[tokio::test]
async fn a_large_upload_streams_through_whole() {
    let (_node, address, id) = rig().await;
    let body = "x".repeat(32 << 20);
    let line = "POST /files?path=a";
    let headers = [TOKEN];
    let mut stream = send(address, &Ask { line, id: &id, headers: &headers, body: &body }).await;
    let answer = read_all(&mut stream, String::new()).await;
    assert!(answer.body.ends_with(&format!("{} bytes\n", 32 << 20)), "{answer:?}");
}

#[tokio::test]
async fn an_upload_that_the_client_breaks_off_reaches_the_guest_as_broken() {
    let (node, address, id) = rig().await;
    let line = "POST /files?path=a";
    let request = format!(
        "{line} HTTP/1.1\r\nHost: 49983-{id}.e2b.test\r\nX-Access-Token: right\r\nContent-Length: 100\r\n\r\nhalf"
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    drop(stream);
    let noticed = async {
        while BROKEN_BODIES.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("the guest notices");
    assert_eq!(ask(address, show(&id, &[TOKEN])).await.status, 200);
    assert!(node.usage(&id).await.is_ok());
}
