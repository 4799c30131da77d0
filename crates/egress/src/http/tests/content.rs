//! Content of every shape: large, slow, broken off, absent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use courier_types::egress::FlowEvent;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::rig::{Rig, SOON, full, read, request};
use crate::policy::Scheme;

const ALLOW: &str = r#"{"rules":[{"allow":"a.test"}]}"#;

/// More than all buffers on the way together.
const LARGE: usize = 16 << 20;

#[tokio::test]
async fn large_content_passes_both_ways() {
    let rig = Arc::new(Rig::answering(ALLOW, |request: Request<Incoming>| async {
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    }));
    let content: Bytes = (0..LARGE).map(|n| (n % 251) as u8).collect::<Vec<u8>>().into();
    let mut client = rig.client().await;
    let sent = request("POST", "/").body(full(content.clone())).unwrap();
    let response = client.send_request(sent).await.unwrap();
    let back = response.into_body().collect().await.unwrap().to_bytes();
    assert!(back == content);
    match rig.flow(0).await {
        FlowEvent::Request { bytes_out, bytes_in, .. } => {
            assert_eq!((bytes_out, bytes_in), (LARGE as u64, LARGE as u64));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_holds_the_upstream_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let rig = Arc::new(Rig::answering(ALLOW, move |_request: Request<Incoming>| {
        let counter = Arc::clone(&counter);
        async move {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
            tokio::spawn(async move {
                while sender.send_data(vec![0; 16 * 1024].into()).await.is_ok() {
                    counter.fetch_add(16 * 1024, Ordering::SeqCst);
                }
            });
            Response::new(body.boxed_unsync())
        }
    }));
    let mut guest = rig.guest(Scheme::Http);
    guest.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    // The paused clock goes on when nothing moves any more.
    let nothing = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
    assert!(nothing.is_err());
    let between = sent.load(Ordering::SeqCst);
    assert!((1..4 << 20).contains(&between), "{between} bytes are somewhere between");
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let rig = Arc::new(Rig::answering(
        r#"{"rules":[{"allow":"a.test"}],"credentials":[
            {"host":"a.test","secret":"key","as":{"bearer":{}}}]}"#,
        |_request: Request<Incoming>| async {
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
            tokio::spawn(async move {
                sender.send_data("data: 1\n\n".into()).await.unwrap();
                // Never ends, and never says anything more.
                std::future::pending::<()>().await;
            });
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            response
        },
    ));
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    let mut body = response.into_body();
    let event = timeout(SOON, body.frame()).await.expect("it comes at once").unwrap().unwrap();
    assert_eq!(event.into_data().unwrap(), "data: 1\n\n");
}

#[tokio::test]
async fn the_guest_is_told_to_continue() {
    let rig = Arc::new(Rig::answering(ALLOW, |request: Request<Incoming>| async {
        assert!(!request.headers().contains_key("expect"));
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    }));
    let mut guest = rig.guest(Scheme::Http);
    let head = "PUT / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nExpect: 100-continue\r\n";
    guest.write_all(format!("{head}Content-Length: 5\r\n\r\n").as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    timeout(SOON, guest.read_exact(&mut interim)).await.expect("it comes").unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    guest.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, guest.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_denied_upload_is_not_asked_for() {
    let rig = Arc::new(Rig::answering("{}", |_request| async { Response::new(full("")) }));
    let head =
        "PUT / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut guest = rig.guest(Scheme::Http);
    guest.write_all(head.as_bytes()).await.unwrap();
    guest.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, guest.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let rig = Arc::new(Rig::new(ALLOW, move |mut stream| {
            tokio::spawn(async move {
                let mut head = [0; 1_024];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhe");
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }));
        let mut client = rig.client().await;
        let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await;
        let content = response.unwrap().into_body().collect().await;
        assert!(content.is_err(), "{content:?}");
        match rig.flow(0).await {
            FlowEvent::Request { status, error, .. } => {
                assert_eq!(status, Some(200));
                assert!(error.unwrap().contains("broke off"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_up_is_a_bad_gateway() {
    let rig = Arc::new(Rig::new(ALLOW, drop));
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.headers()["courier-refusal"], "upstream");
    assert_eq!(read(response).await.0, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_in_between_is_made_anew() {
    let rig = Arc::new(Rig::new(ALLOW, |mut stream| {
        tokio::spawn(async move {
            let mut head = [0; 1_024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Says nothing of it, and does not answer another request.
        });
    }));
    let mut client = rig.client().await;
    for _ in 0..3 {
        let sent = request("GET", "/").body(full("")).unwrap();
        let response = client.send_request(sent).await.unwrap();
        assert_eq!(read(response).await, (StatusCode::OK, "ok".to_owned()));
    }
    assert_eq!(rig.connects(), 3);
}

#[tokio::test]
async fn an_answer_without_content_has_none() {
    let rig = Arc::new(Rig::answering(ALLOW, |request: Request<Incoming>| async move {
        let status = request.uri().path().strip_prefix('/').and_then(|path| path.parse().ok());
        let mut response = Response::new(full(""));
        *response.status_mut() = status.unwrap_or(StatusCode::OK);
        if request.method() == "HEAD" {
            response.headers_mut().insert("content-length", "1000".parse().unwrap());
        }
        response
    }));
    let mut client = rig.client().await;
    for (method, path, status) in [("HEAD", "/", 200), ("GET", "/204", 204), ("GET", "/304", 304)] {
        let sent = request(method, path).body(full("")).unwrap();
        let response = client.send_request(sent).await.unwrap();
        if method == "HEAD" {
            assert_eq!(response.headers()["content-length"], "1000");
        }
        let (got, content) = read(response).await;
        assert_eq!((got.as_u16(), content.as_str()), (status, ""));
    }
    assert_eq!(rig.connects(), 1);
}

#[tokio::test]
async fn an_early_answer_does_not_wait_for_the_request() {
    let rig = Arc::new(Rig::answering(ALLOW, |request: Request<Incoming>| async move {
        drop(request);
        let mut response = Response::new(full("no"));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        response
    }));
    let mut guest = rig.guest(Scheme::Http);
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\nbegin";
    guest.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    timeout(SOON, guest.read_exact(&mut status)).await.expect("it is early").unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = Arc::new(Rig::answering(ALLOW, |request: Request<Incoming>| async move {
        Response::new(full(request.uri().path().to_owned()))
    }));
    let one = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{last}\r\n");
    let requests = [one("/1", ""), one("/2", ""), one("/3", "Connection: close\r\n")].concat();
    let answer = rig.exchange(Scheme::Http, &requests).await;
    let places: Vec<_> = ["/1", "/2", "/3"].iter().map(|path| answer.find(path).unwrap()).collect();
    assert!(places.is_sorted(), "{answer}");
    assert_eq!(rig.connects(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_never_answers_is_given_up() {
    let rig = Arc::new(Rig::answering(ALLOW, |_request| std::future::pending()));
    let mut client = rig.client().await;
    let begun = tokio::time::Instant::now();
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(begun.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_falls_silent_is_cut_off() {
    let rig = Arc::new(Rig::new(ALLOW, |mut stream| {
        tokio::spawn(async move {
            let mut head = [0; 1_024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhe";
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
    }));
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    let content = response.into_body().collect().await;
    assert!(content.is_err(), "{content:?}");
    match rig.flow(0).await {
        FlowEvent::Request { error, .. } => assert!(error.unwrap().contains("said nothing")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn connections_without_requests_are_closed() {
    let rig = Arc::new(Rig::answering(ALLOW, |_request| async { Response::new(full("ok")) }));
    let mut guest = rig.guest(Scheme::Http);
    guest.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let (begun, mut answer) = (tokio::time::Instant::now(), String::new());
    guest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(begun.elapsed().as_secs(), 300);
    let mut client = rig.client_http2().await;
    let sent = Request::get("https://a.test/").body(full("")).unwrap();
    read(client.send_request(sent).await.unwrap()).await;
    while client.ready().await.is_ok() {
        let _later = timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
    }
    assert!(begun.elapsed().as_secs() >= 600);
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_not_passed_on() {
    let rig = Arc::new(Rig::new(ALLOW, |mut stream| {
        tokio::spawn(async move {
            let mut head = [0; 1_024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(b"220 ready, but not HTTP\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
    }));
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    let (status, text) = read(response).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.contains("is not HTTP"), "{text}");
}
