//! Requests that a server could read otherwise than they were judged.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, StatusCode};
use tokio::time::timeout;

use super::rig::{Journal, Rig, SOON, full, read, request};
use crate::policy::Scheme;

const ALLOW: &str = r#"{"rules":[{"allow":"a.test"}]}"#;

fn rig(policy: &str) -> (Arc<Rig>, Journal) {
    let journal = Journal::default();
    let upstream = journal.clone();
    (Arc::new(Rig::answering(policy, move |request| upstream.clone().answer(request))), journal)
}

#[tokio::test]
async fn a_question_about_the_whole_server_overrides_no_method() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test","methods":["GET","OPTIONS"]}]}"#);
    for field in ["X-HTTP-Method-Override: DELETE", "X-Original-URL: /../admin"] {
        let asked =
            format!("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n{field}\r\nConnection: close\r\n\r\n");
        let answer = rig.exchange(Scheme::Http, &asked).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{field}: {answer}");
    }
    assert!(journal.seen().is_empty());
}

#[tokio::test]
async fn a_judged_field_has_no_second_spelling() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test","methods":["GET","POST"]}]}"#);
    for (name, value) in [
        ("transfer_encoding", "chunked"),
        ("content_length", "0"),
        ("x_http_method_override", "DELETE"),
        ("x-http_method", "DELETE"),
        ("x_original_url", "/admin"),
    ] {
        let mut client = rig.client_http2().await;
        let sent = Request::post("https://a.test/a").header(name, value).body(full("hello"));
        let over_http2 = client.send_request(sent.unwrap()).await.unwrap();
        assert_eq!(read(over_http2).await.0, StatusCode::BAD_REQUEST, "HTTP/2, {name}");
        let mut client = rig.client().await;
        let sent = request("POST", "/a").header(name, value).body(full("hello")).unwrap();
        let over_http1 = client.send_request(sent).await.unwrap();
        assert_eq!(read(over_http1).await.0, StatusCode::BAD_REQUEST, "HTTP/1, {name}");
    }
    assert!(journal.seen().is_empty());
}

#[tokio::test]
async fn a_guest_that_takes_no_answers_has_so_many_requests_and_no_more() {
    const CONNECTIONS: usize = 12;
    const REQUESTS: usize = 100;
    let rig = Rig::answering_http2(ALLOW, |_request| std::future::pending());
    let rig = Arc::new(rig);
    let mut asking = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = rig.client_http2().await;
        asking.extend((0..REQUESTS).map(|_| client.clone()));
    }
    let mut answers: FuturesUnordered<_> = asking
        .iter_mut()
        .map(|client| client.send_request(Request::get("https://a.test/").body(full("")).unwrap()))
        .collect();
    for _ in 0..CONNECTIONS * REQUESTS - 1_024 {
        let refused = timeout(SOON, answers.next()).await.expect("the rest is refused");
        let refused = refused.unwrap().unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["courier-refusal"], "limit");
    }
    drop(answers);
    drop(asking);
    let free = async {
        while rig.room.request().is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, free).await.expect("what was given up makes room");
}
