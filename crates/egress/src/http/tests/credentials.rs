//! What is added on the way out, and taken out on the way in.

use std::io::Write;
use std::sync::Arc;

use courier_types::egress::FlowEvent;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel};
use hyper::body::Incoming;

use super::rig::{Journal, Rig, VALUE, full, read, request, token};
use crate::policy::Scheme;

const BEARER: &str = r#"{"rules":[{"allow":"a.test"}],"credentials":[
    {"host":"a.test","secret":"key","as":{"bearer":{}},"paths":["/api/*"]}]}"#;
const PLACEHOLDER: &str = r#"{"rules":[{"allow":"a.test"},{"allow":"b.test"}],"credentials":[
    {"host":"a.test","secret":"key","as":{"placeholder":{}}}]}"#;

fn rig(policy: &str) -> (Arc<Rig>, Journal) {
    let journal = Journal::default();
    let upstream = journal.clone();
    let rig = Rig::answering(policy, move |request| upstream.clone().answer(request));
    (Arc::new(rig), journal)
}

#[tokio::test]
async fn a_credential_is_added_and_taken_out_of_the_echo() {
    let (rig, journal) = rig(BEARER);
    let mut client = rig.client().await;
    let sent = request("GET", "/api/a").header("authorization", "Bearer guest");
    let (status, text) =
        read(client.send_request(sent.body(full("")).unwrap()).await.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    let seen = journal.seen().remove(0);
    assert_eq!(seen.fields["authorization"], format!("Bearer {VALUE}"));
    assert_eq!(seen.fields["accept-encoding"], "identity");
    assert!(!text.contains(VALUE) && text.contains("[redacted]"), "{text}");
    match rig.flow(0).await {
        FlowEvent::Request { credentials, .. } => assert_eq!(credentials[0].as_str(), "key"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_credential_of_a_path_is_not_added_to_another() {
    let (rig, journal) = rig(BEARER);
    let mut client = rig.client().await;
    for (path, fields) in
        [("/other", &[][..]), ("/api%2fa", &[]), ("/api/a", &[("x-original-url", "/other")])]
    {
        let sent = fields.iter().fold(request("GET", path), |sent, (n, v)| sent.header(*n, *v));
        read(client.send_request(sent.body(full("")).unwrap()).await.unwrap()).await;
    }
    assert_eq!(journal.seen().len(), 3);
    assert!(journal.seen().iter().all(|seen| !seen.fields.contains_key("authorization")));
}

#[tokio::test]
async fn a_credential_is_never_added_in_clear() {
    let policy = r#"{"rules":[{"allow":"a.test"}],"credentials":[
        {"host":"a.test","ports":[80,443],"secret":"key","as":{"bearer":{}}}]}"#;
    let (rig, journal) = rig(policy);
    rig.exchange(Scheme::Http, "GET /api/a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await;
    assert!(!journal.seen().remove(0).fields.contains_key("authorization"));
}

#[tokio::test]
async fn without_its_secret_a_request_does_not_go_out() {
    let policy = r#"{"rules":[{"allow":"a.test"}],"credentials":[
        {"host":"a.test","secret":"gone","as":{"bearer":{}}}]}"#;
    let (rig, journal) = rig(policy);
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    assert_eq!(read(response).await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(rig.refusal(0).await.0, "credential");
    assert_eq!(journal.seen().len(), 0);
}

#[tokio::test]
async fn a_token_is_exchanged_where_it_belongs_and_refused_elsewhere() {
    let (rig, journal) = rig(PLACEHOLDER);
    let mut client = rig.client().await;
    let sent = request("GET", "/").header("x-api-key", token()).body(full("")).unwrap();
    let (_status, text) = read(client.send_request(sent).await.unwrap()).await;
    assert_eq!(journal.seen().remove(0).fields["x-api-key"], VALUE);
    assert!(!text.contains(VALUE), "{text}");
    // In clear, in a query, at a denied host's path.
    let field =
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\nConnection: close\r\n\r\n", token());
    assert!(rig.exchange(Scheme::Http, &field).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(rig.refusal(1).await.0, "token");
    let query = request("GET", &format!("/?key={}", token())).body(full("")).unwrap();
    assert_eq!(read(client.send_request(query).await.unwrap()).await.0, StatusCode::FORBIDDEN);
    rig.set("{}");
    let denied = request("GET", "/x").header("x-api-key", token()).body(full("")).unwrap();
    assert_eq!(read(client.send_request(denied).await.unwrap()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(rig.refusal(3).await.0, "token");
    assert_eq!(journal.seen().len(), 1);
}

/// A rig whose upstream answers with these pieces, one after the other, and these fields.
fn echoing(fields: &'static [(&'static str, &'static str)], pieces: Vec<Vec<u8>>) -> Arc<Rig> {
    Arc::new(Rig::answering(BEARER, move |_request: Request<Incoming>| {
        let pieces = pieces.clone();
        async move {
            let (mut sender, body) = Channel::<bytes::Bytes, std::io::Error>::new(1);
            tokio::spawn(async move {
                for piece in pieces {
                    if sender.send_data(piece.into()).await.is_err() {
                        return;
                    }
                }
            });
            let mut response = Response::new(body.boxed_unsync());
            for (name, value) in fields {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }
    }))
}

async fn answer(rig: &Arc<Rig>) -> (StatusCode, http::HeaderMap, Option<String>) {
    let mut client = rig.client().await;
    let sent = request("GET", "/api/a").body(full("")).unwrap();
    let response = client.send_request(sent).await.unwrap();
    let (parts, body) = response.into_parts();
    let content = body.collect().await.ok();
    let content = content.map(|content| String::from_utf8_lossy(&content.to_bytes()).into_owned());
    (parts.status, parts.headers, content)
}

#[tokio::test]
async fn a_value_is_found_over_any_border_of_chunks() {
    let text = format!("before {VALUE} after");
    let pieces = text.bytes().map(|byte| vec![byte]).collect();
    let (_status, headers, content) = answer(&echoing(&[], pieces)).await;
    assert_eq!(content.as_deref(), Some("before [redacted] after"));
    assert!(!headers.contains_key("content-length"));
}

#[tokio::test]
async fn a_value_is_found_in_fields() {
    let fields = &[
        ("x-echo", "Bearer sk-live/0123456789+abcdef="),
        ("location", "https://a.test/?key=sk-live%2F0123456789%2Babcdef%3D"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
    ];
    let (_status, headers, _content) = answer(&echoing(fields, vec![])).await;
    assert_eq!(headers["x-echo"], "Bearer [redacted]");
    assert_eq!(headers["location"], "https://a.test/?key=[redacted]");
    assert!(!headers.contains_key("alt-svc"));
    assert!(headers.contains_key("strict-transport-security"));
}

#[tokio::test]
async fn a_value_is_found_in_encoded_content() {
    let text = format!("{} {VALUE} {}", "a".repeat(50_000), "b".repeat(50_000));
    let clean = text.replace(VALUE, "[redacted]");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(text.as_bytes()).unwrap();
    let zlib = zlib.finish().unwrap();
    for (fields, bytes) in
        [(&[("content-encoding", "gzip")], &gzip), (&[("content-encoding", "deflate")], &zlib)]
    {
        let pieces = bytes.chunks(7).map(<[u8]>::to_vec).collect();
        let (status, headers, content) = answer(&echoing(fields, pieces)).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!headers.contains_key("content-encoding"));
        assert!(content.unwrap() == clean);
        // What is cut off must not look whole.
        let cut = vec![bytes[..bytes.len() - 6].to_vec()];
        assert_eq!(answer(&echoing(fields, cut)).await.2, None);
    }
}

#[tokio::test]
async fn content_that_cannot_be_searched_is_not_passed_on() {
    for fields in [
        &[("content-encoding", "br")],
        &[("content-encoding", "gzip, gzip")],
        &[("content-encoding", "zstd")],
    ] {
        let (status, _headers, content) = answer(&echoing(fields, vec![b"secret".to_vec()])).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{fields:?}");
        assert!(content.unwrap().contains("cannot be searched"));
    }
}

#[tokio::test]
async fn content_to_which_nothing_was_added_passes_as_it_is() {
    let rig = Arc::new(Rig::answering(BEARER, |_request: Request<Incoming>| async {
        let mut response = Response::new(full(&b"\x1f\x8bwhatever"[..]));
        response.headers_mut().insert("content-encoding", "br".parse().unwrap());
        response
    }));
    let mut client = rig.client().await;
    let response = client.send_request(request("GET", "/").body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "br");
    let content = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&content[..], b"\x1f\x8bwhatever");
}
