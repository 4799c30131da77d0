//! WebSockets, and other upgrades.

use std::sync::Arc;

use courier_types::egress::FlowEvent;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::rig::{Rig, SOON, TestBody, VALUE, full};
use crate::policy::Scheme;

const ALLOW: &str = r#"{"rules":[{"allow":"a.test"}],"credentials":[
    {"host":"a.test","secret":"key","as":{"bearer":{}},"paths":["/api/*"]}]}"#;
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An upstream that takes an upgrade at `/api/` and `/ws`, and echoes what it gets.
async fn echo(mut request: Request<Incoming>) -> Response<TestBody> {
    let mut response = Response::new(full("no upgrade here"));
    if !request.headers().contains_key("upgrade") || request.uri().path() == "/plain" {
        return response;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap());
    response
}

async fn open(rig: &Arc<Rig>, path: &str) -> (tokio::io::DuplexStream, String) {
    let mut guest = rig.guest(Scheme::Https);
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{UPGRADE}");
    guest.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(SOON, guest.read_u8()).await.expect("a head comes").unwrap());
    }
    (guest, String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_upgrade() {
    let rig = Arc::new(Rig::answering(ALLOW, echo));
    let (mut guest, head) = open(&rig, "/ws").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    for message in [&b"\x81\x85abcdhello"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        guest.write_all(message).await.unwrap();
        let mut back = vec![0; message.len()];
        timeout(SOON, guest.read_exact(&mut back)).await.expect("it comes back").unwrap();
        assert_eq!(back, message);
    }
    guest.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, guest.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    match rig.flow(0).await {
        FlowEvent::Request { status, bytes_out, bytes_in, error, .. } => {
            assert_eq!((status, bytes_out, bytes_in, error), (Some(101), 29, 29, None));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_value_that_was_added_is_taken_out_of_frames_too() {
    let rig = Arc::new(Rig::answering(ALLOW, echo));
    let (mut guest, head) = open(&rig, "/api/ws").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    guest.write_all(format!("..{VALUE}..").as_bytes()).await.unwrap();
    let mut back = vec![0; VALUE.len() + 4];
    timeout(SOON, guest.read_exact(&mut back)).await.expect("it comes back").unwrap();
    assert_eq!(String::from_utf8(back).unwrap(), format!("..{}..", "*".repeat(VALUE.len())));
}

#[tokio::test]
async fn without_an_upgrade_the_answer_is_one() {
    let rig = Arc::new(Rig::answering(ALLOW, echo));
    let (_guest, head) = open(&rig, "/plain").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn an_upgrade_is_judged_like_any_request() {
    let rig = Arc::new(Rig::answering("{}", echo));
    let (_guest, head) = open(&rig, "/ws").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(rig.connects(), 0);
}

#[tokio::test]
async fn a_websocket_ends_when_the_policy_denies_it() {
    let rig = Arc::new(Rig::answering(ALLOW, echo));
    let (mut guest, _head) = open(&rig, "/ws").await;
    rig.set("{}");
    let mut rest = Vec::new();
    timeout(SOON, guest.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn what_a_guest_sends_before_the_upgrade_is_granted_ends_it() {
    let (asked, mut asking) = tokio::sync::mpsc::channel::<()>(1);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let rig = Arc::new(Rig::answering(ALLOW, move |request| {
        let (asked, gate) = (asked.clone(), Arc::clone(&gate));
        async move {
            asked.send(()).await.unwrap();
            gate.notified().await;
            echo(request).await
        }
    }));
    let mut guest = rig.guest(Scheme::Https);
    let head = format!("GET /ws HTTP/1.1\r\nHost: a.test\r\n{UPGRADE}");
    guest.write_all(head.as_bytes()).await.unwrap();
    asking.recv().await.unwrap();
    guest.write_all(b"GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    // The guard says so before the upstream may go on.
    assert_eq!(rig.refusal(0).await.0, "framing");
    opened.notify_one();
    let mut answer = String::new();
    timeout(SOON, guest.read_to_string(&mut answer)).await.expect("it ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
