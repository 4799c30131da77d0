//! Which requests go out, and what is told and written about the others.

use std::sync::Arc;

use courier_types::egress::{FlowEvent, Protocol};
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::rig::{Journal, Rig, SOON, full, read, request};
use crate::policy::Scheme;

const READ_ONLY: &str =
    r#"{"rules":[{"allow":"a.test","methods":["GET","HEAD","OPTIONS"],"paths":["/open/*"]}]}"#;

fn rig(policy: &str) -> (Arc<Rig>, Journal) {
    let journal = Journal::default();
    let upstream = journal.clone();
    let rig = Rig::answering(policy, move |request| upstream.clone().answer(request));
    (Arc::new(rig), journal)
}

#[tokio::test]
async fn every_request_of_a_connection_is_judged_by_itself() {
    let (rig, journal) = rig(READ_ONLY);
    let mut client = rig.client().await;
    for (method, path, status) in [
        ("GET", "/open/a", 200),
        ("POST", "/open/a", 403),
        ("GET", "/closed", 403),
        ("GET", "/open/%61?q=1", 200),
        ("GET", "/open/../closed", 400),
    ] {
        let content = if method == "POST" { full("x") } else { full("") };
        let response = client.send_request(request(method, path).body(content).unwrap()).await;
        assert_eq!(read(response.unwrap()).await.0.as_u16(), status, "{method} {path}");
    }
    let lines: Vec<String> = journal.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /open/a HTTP/1.1", "GET /open/a?q=1 HTTP/1.1"]);
    assert_eq!(rig.connects(), 1, "the upstream connection is reused");
}

#[tokio::test]
async fn a_refusal_says_what_decided_and_is_written_down() {
    let (rig, journal) = rig(READ_ONLY);
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/closed?key=1").body(full("")).unwrap());
    let response = response.await.unwrap();
    assert_eq!(response.headers()["courier-refusal"], "policy");
    let (status, text) = read(response).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("courier egress explain i777") && text.contains("a.test:443"), "{text}");
    match rig.flow(0).await {
        FlowEvent::Refused { host, address, protocol, method, path, refusal, .. } => {
            assert_eq!(host.unwrap().as_str(), "a.test");
            assert_eq!(address, Some("192.0.2.1:443".parse().unwrap()));
            assert_eq!(protocol, Some(Protocol::Https));
            assert_eq!((method.as_deref(), path.as_deref()), (Some("GET"), Some("/closed")));
            assert_eq!(refusal.fence, "policy");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((journal.seen().len(), rig.connects()), (0, 0));
}

#[tokio::test]
async fn an_answered_request_is_written_down_with_its_bytes() {
    let (rig, _journal) = rig(r#"{"rules":[{"allow":"a.test"}]}"#);
    let mut client = rig.client().await;
    let sent = request("POST", "/a?secret=1").body(full("hello")).unwrap();
    let (_status, text) = read(client.send_request(sent).await.unwrap()).await;
    match rig.flow(0).await {
        FlowEvent::Request { host, method, path, status, bytes_out, bytes_in, error, .. } => {
            assert_eq!((host.as_str(), method.as_str(), path.as_str()), ("a.test", "POST", "/a"));
            assert_eq!((status, bytes_out, bytes_in), (Some(200), 5, text.len() as u64));
            assert_eq!(error, None);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_smuggled_request_never_reaches_the_upstream() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test"}]}"#);
    for hidden in [
        "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b",
        "POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = rig.exchange(Scheme::Http, hidden).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{hidden:?}: {answer}");
    }
    assert_eq!((journal.seen().len(), rig.connects()), (0, 0));
    let (fence, _why) = rig.refusal(0).await;
    assert_eq!(fence, "framing");
}

#[tokio::test]
async fn a_bad_chunk_that_comes_later_ends_the_request_on_both_sides() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test"}]}"#);
    let mut guest = rig.guest(Scheme::Http);
    let begin =
        b"POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    guest.write_all(begin).await.unwrap();
    rig.connected().await;
    guest.write_all(b"0\r\nX-Trailer: y\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let reading = tokio::io::AsyncReadExt::read_to_string(&mut guest, &mut answer);
    timeout(SOON, reading).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(journal.seen().len(), 0, "the upstream never had a whole request");
}

#[tokio::test]
async fn only_names_of_the_connection_are_answered_for() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test"},{"allow":"c.test"}]}"#);
    let clear =
        rig.exchange(Scheme::Http, "GET / HTTP/1.1\r\nHost: c.test\r\nConnection: close\r\n\r\n");
    assert!(clear.await.starts_with("HTTP/1.1 421 "));
    let tls =
        rig.exchange(Scheme::Https, "GET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n");
    assert!(tls.await.starts_with("HTTP/1.1 421 "));
    assert_eq!(rig.refusal(0).await.0, "host");
    assert_eq!(journal.seen().len(), 0);
}

#[tokio::test]
async fn an_http2_connection_is_not_coalesced_to_another_host() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test"},{"allow":"b.test"}]}"#);
    let mut client = rig.client_http2().await;
    for (uri, status) in [
        ("https://a.test/", 200),
        ("https://b.test/", 421),
        ("https://a.test:444/", 421),
        ("http://a.test/", 400),
        ("https://a.test/again", 200),
    ] {
        let request = http::Request::builder().uri(uri).body(full("")).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(read(response).await.0.as_u16(), status, "{uri}");
    }
    assert_eq!(journal.seen().len(), 2);
}

#[tokio::test]
async fn http2_requests_are_as_strict_as_http1_ones() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test"}]}"#);
    let mut client = rig.client_http2().await;
    for (method, uri, field) in [
        ("GET", "https://a.test/", ("host", "b.test")),
        ("GET", "https://a.test/", ("expect", "the-unexpected")),
        ("GET", "https://a.test/", ("x-http-method-override", "CONNECT")),
        ("get", "https://a.test/", ("accept", "*/*")),
        ("GET", "https://a.test/a%2f..%2fb", ("accept", "*/*")),
    ] {
        let request = http::Request::builder().method(method).uri(uri).header(field.0, field.1);
        let response = client.send_request(request.body(full("")).unwrap()).await.unwrap();
        assert!(read(response).await.0.is_client_error(), "{method} {uri} {field:?}");
    }
    let content = http::Request::builder().uri("https://a.test/").body(full("GET /b")).unwrap();
    let response = client.send_request(content).await.unwrap();
    assert!(!response.status().is_success());
    assert_eq!(journal.seen().len(), 0);
}

#[tokio::test]
async fn a_header_that_overrides_the_method_is_judged_as_the_method() {
    let policy = r#"{"rules":[{"allow":"a.test","methods":["GET","POST"]}]}"#;
    let (rig, journal) = rig(policy);
    let mut client = rig.client().await;
    for (method, status) in [("GET", 200), ("DELETE", 403)] {
        let sent = request("POST", "/a").header("x-http-method-override", method);
        let response = client.send_request(sent.body(full("x")).unwrap()).await.unwrap();
        assert_eq!(read(response).await.0.as_u16(), status, "{method}");
    }
    assert_eq!(journal.seen().len(), 1);
}

#[tokio::test]
async fn what_concerns_one_connection_stays_on_it() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"a.test"}]}"#);
    let mut client = rig.client().await;
    let sent = request("GET", "/a")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "Basic eA==")
        .header("te", "trailers")
        .header("x-end", "2");
    read(client.send_request(sent.body(full("")).unwrap()).await.unwrap()).await;
    let mut names: Vec<String> = journal.seen().remove(0).fields.into_keys().collect();
    names.sort();
    assert_eq!(names, ["host", "x-end"]);
}

#[tokio::test]
async fn a_server_that_is_not_whom_it_should_be_gets_nothing() {
    let (rig, journal) = rig(r#"{"rules":[{"allow":"b.test"}]}"#);
    let sent = "GET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n";
    let answer = rig.exchange(Scheme::Http, sent).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(rig.refusal(0).await.0, "upstream_tls");
    assert_eq!(journal.seen().len(), 0);
}

#[tokio::test]
async fn a_request_that_goes_on_ends_when_the_policy_denies_it() {
    let policy = r#"{"rules":[{"allow":"a.test"}]}"#;
    let rig = Arc::new(Rig::answering(policy, |_request| std::future::pending()));
    let mut client = rig.client().await;
    let sent = client.send_request(request("GET", "/a").body(full("")).unwrap());
    let mut sent = std::pin::pin!(sent);
    tokio::select! {
        early = sent.as_mut() => panic!("{early:?}"),
        () = rig.connected() => {}
    }
    rig.set(r#"{"rules":[{"allow":"a.test","paths":["/b"]}]}"#);
    let response = timeout(SOON, sent).await.expect("it ends").unwrap();
    assert_eq!(read(response).await.0, StatusCode::FORBIDDEN);
    assert_eq!(rig.refusal(0).await.0, "policy");
}
