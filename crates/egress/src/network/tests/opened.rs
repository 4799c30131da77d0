//! HTTP, in clear and in TLS that was opened.

use courier_types::egress::FlowEvent;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::PATIENCE;
use super::rig::{Rig, SECRET, handshake_for, public_ca, to};

const BROKERED: &str = r#"{
    "rules": [{"allow":"good.test","ports":[80],"protocols":["http"]},
              {"allow":"good.test","ports":[8443],"protocols":["https"]},
              {"allow":"fake.test","ports":[8443],"protocols":["https"]}],
    "credentials": [
        {"host":"good.test","secret":"key","as":{"bearer":{}},"ports":[8443]},
        {"host":"fake.test","secret":"key","as":{"bearer":{}},"ports":[8443]}]
}"#;

/// One request and its whole answer.
async fn request<S>(mut stream: S, head: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let asking = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // A server that ends without a farewell has still said what it said.
        let _end = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer")
}

#[tokio::test]
async fn a_secret_is_added_outside_and_never_seen_inside() {
    let rig = Rig::start(BROKERED).await;
    let ca = rig.network.ca_pem().to_owned();
    let tls = rig.tls("good.test", 8443, "good.test", &ca).await.unwrap();
    let answer =
        request(tls, "GET /who HTTP/1.1\r\nHost: good.test:8443\r\nConnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("[redacted]") && !answer.contains(SECRET), "{answer}");
    let seen = rig.outside.requests();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].contains(&format!("Bearer {SECRET}")), "{seen:?}");
    let flow = rig.flow("a request", |event| matches!(event, FlowEvent::Request { .. })).await;
    let FlowEvent::Request { status, path, credentials, .. } = flow else { unreachable!() };
    assert_eq!((status, path.as_str()), (Some(200), "/who"));
    assert_eq!(credentials[0].as_str(), "key");
}

#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_gets_no_byte_of_a_request() {
    let rig = Rig::start(BROKERED).await;
    let ca = rig.network.ca_pem().to_owned();
    let tls = rig.tls("fake.test", 8443, "fake.test", &ca).await.unwrap();
    let answer =
        request(tls, "GET / HTTP/1.1\r\nHost: fake.test:8443\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(rig.outside.dialled(), [to("203.0.113.3:8443")]);
    assert_eq!(rig.outside.requests(), [""; 0]);
    rig.refusal("upstream_tls").await;
}

#[tokio::test]
async fn a_guest_that_does_not_trust_the_sandboxs_ca_is_told_in_the_flow_log() {
    let rig = Rig::start(BROKERED).await;
    assert!(rig.tls("good.test", 8443, "good.test", public_ca().pem()).await.is_err());
    rig.flow("why", |event| {
        matches!(event, FlowEvent::Connection { error: Some(why), .. } if why.contains("own CA"))
    })
    .await;
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn http_in_clear_is_judged_by_its_host() {
    let rig = Rig::start(BROKERED).await;
    let stream = rig.guest.connect_to("good.test", 80).await.unwrap();
    let answer =
        request(stream, "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!rig.outside.requests()[0].contains(SECRET));
    let stream = rig.guest.connect_to("good.test", 80).await.unwrap();
    let answer =
        request(stream, "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(rig.outside.requests().len(), 1);
}

#[tokio::test]
async fn an_opened_connection_that_may_not_stay_is_closed_between_its_requests() {
    let rig = Rig::start(BROKERED).await;
    let ca = rig.network.ca_pem().to_owned();
    let mut tls = rig.tls("good.test", 8443, "good.test", &ca).await.unwrap();
    tls.write_all(b"GET / HTTP/1.1\r\nHost: good.test:8443\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(PATIENCE, tls.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    rig.set("{}");
    let mut rest = Vec::new();
    let end = tls.read_to_end(&mut rest);
    assert!(tokio::time::timeout(PATIENCE, end).await.unwrap().is_err());
}

#[tokio::test]
async fn a_guest_that_speaks_http_2_reaches_a_server_that_does_not() {
    let rig = Rig::start(BROKERED).await;
    let stream = rig.guest.connect_to("good.test", 8443).await.unwrap();
    let ca = rig.network.ca_pem();
    let tls = handshake_for(stream, "good.test", ca, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let asking = async {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::get("https://good.test:8443/two").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, body) = tokio::time::timeout(PATIENCE, asking).await.expect("an answer");
    assert_eq!(status, 200);
    assert!(body.contains("[redacted]") && !body.contains(SECRET), "{body}");
}
