//! Every version of HTTP on either side.

use std::sync::Arc;

use bytes::Bytes;
use courier_types::egress::FlowEvent;
use futures_util::future::join_all;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::rig::{Journal, Rig, SOON, full, read, request};

const ALLOW: &str = r#"{"rules":[{"allow":"a.test"}],"credentials":[
    {"host":"a.test","secret":"key","as":{"bearer":{}},"paths":["/api/*"]}]}"#;

#[tokio::test]
async fn http2_of_the_guest_goes_on_as_http1() {
    let journal = Journal::default();
    let upstream = journal.clone();
    let rig = Rig::answering(ALLOW, move |request| upstream.clone().answer(request));
    let rig = Arc::new(rig);
    let mut client = rig.client_http2().await;
    let sent = Request::post("https://a.test/a?b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(full("hello"))
        .unwrap();
    assert_eq!(read(client.send_request(sent).await.unwrap()).await.0, StatusCode::OK);
    let seen = journal.seen().remove(0);
    assert_eq!((seen.line.as_str(), seen.content.as_str()), ("POST /a?b HTTP/1.1", "hello"));
    assert_eq!(seen.fields["host"], "a.test");
    assert_eq!(seen.fields["cookie"], "a=1; b=2");
}

#[tokio::test]
async fn http1_of_the_guest_goes_on_as_http2() {
    let journal = Journal::default();
    let upstream = journal.clone();
    let rig = Rig::answering_http2(ALLOW, move |request| upstream.clone().answer(request));
    let rig = Arc::new(rig);
    let mut client = rig.client().await;
    for path in ["/a?b", "/c"] {
        let sent = request("POST", path).header("te", "trailers").body(full("hello")).unwrap();
        assert_eq!(read(client.send_request(sent).await.unwrap()).await.0, StatusCode::OK);
    }
    let seen = journal.seen().remove(0);
    assert_eq!(seen.line, "POST https://a.test/a?b HTTP/2.0");
    assert_eq!((seen.content.as_str(), seen.fields["te"].as_str()), ("hello", "trailers"));
    assert!(!seen.fields.contains_key("host"));
    assert_eq!(rig.connects(), 1);
}

#[tokio::test]
async fn many_requests_at_once_share_one_connection() {
    let rig = Rig::answering_http2(ALLOW, |request: Request<Incoming>| async move {
        Response::new(full(request.uri().path().to_owned()))
    });
    let rig = Arc::new(rig);
    let client = rig.client_http2().await;
    let all = (0..200).map(|n| {
        let mut client = client.clone();
        async move {
            client.ready().await.unwrap();
            let sent = Request::get(format!("https://a.test/{n}")).body(full("")).unwrap();
            assert_eq!(read(client.send_request(sent).await.unwrap()).await.1, format!("/{n}"));
        }
    });
    join_all(all).await;
    assert_eq!(rig.connects(), 1);
}

#[tokio::test]
async fn trailers_of_an_answer_pass_and_are_redacted() {
    let rig = Rig::answering_http2(ALLOW, |request: Request<Incoming>| async move {
        let echo = request.headers()["authorization"].clone();
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
        sender.send_data("message".into()).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("x-echo", echo);
        sender.send_trailers(trailers).await.unwrap();
        Response::new(body.boxed_unsync())
    });
    let rig = Arc::new(rig);
    let mut client = rig.client_http2().await;
    let sent = Request::post("https://a.test/api/Call").header("te", "trailers");
    let response = client.send_request(sent.body(full("x")).unwrap()).await.unwrap();
    let content = response.into_body().collect().await.unwrap();
    let trailers = content.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-echo"], "Bearer [redacted]");
    assert_eq!(content.to_bytes(), "message");
}

#[tokio::test]
async fn trailers_of_a_request_are_not_carried() {
    let journal = Journal::default();
    let upstream = journal.clone();
    let rig = Rig::answering_http2(ALLOW, move |request| upstream.clone().answer(request));
    let rig = Arc::new(rig);
    let mut client = rig.client_http2().await;
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
    sender.send_data("hello".into()).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-late", "1".parse().unwrap());
    sender.send_trailers(trailers).await.unwrap();
    drop(sender);
    let sent = Request::post("https://a.test/").body(body.boxed_unsync()).unwrap();
    let response = client.send_request(sent).await;
    assert!(response.is_err() || !response.unwrap().status().is_success());
    assert!(journal.seen().is_empty());
}

/// Says when it is dropped.
struct Work(Arc<Notify>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_cancelled_request_is_written_down_and_cancelled_upstream() {
    let gone = Arc::new(Notify::new());
    let upstream = Arc::clone(&gone);
    let rig = Rig::answering_http2(ALLOW, move |_request: Request<Incoming>| {
        let work = Work(Arc::clone(&upstream));
        async move {
            let _work = work;
            std::future::pending().await
        }
    });
    let rig = Arc::new(rig);
    let mut client = rig.client_http2().await;
    let sent = Request::get("https://a.test/slow").body(full("")).unwrap();
    let sent = tokio::spawn(client.send_request(sent));
    rig.connected().await;
    sent.abort();
    match rig.flow(0).await {
        FlowEvent::Request { status, error, .. } => {
            assert_eq!((status, error.as_deref()), (None, Some("the guest went away")));
        }
        other => panic!("{other:?}"),
    }
    timeout(SOON, gone.notified()).await.expect("the upstream's work ends");
}

#[tokio::test]
async fn a_question_about_the_whole_server_passes_over_every_version() {
    for is_http2 in [false, true] {
        let answer = |request: Request<Incoming>| async move {
            Response::new(full(format!("{} {}", request.method(), request.uri().path())))
        };
        let rig = if is_http2 {
            Rig::answering_http2(ALLOW, answer)
        } else {
            Rig::answering(ALLOW, answer)
        };
        let rig = Arc::new(rig);
        let mut client = rig.client().await;
        let response = client.send_request(request("OPTIONS", "*").body(full("")).unwrap()).await;
        assert_eq!(read(response.unwrap()).await, (StatusCode::OK, "OPTIONS *".to_owned()));
    }
}
