//! Ports of users' own servers: what reaches them, what comes back, and how it ends. The servers are
//! sockets of this process; what they say is exactly what a test has them say.

use std::net::SocketAddr;
use std::sync::Arc;

use courier_node::LocalNode;
use courier_protocol::node::{Node as _, NodeError};
use courier_types::{AccessToken, SandboxId, SandboxSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::driver::{TestDriver, node, spec};
use crate::front::{Answer, PATIENCE, read_all, read_until, serve};
use crate::guest::Manner;

struct Rig {
    node: Arc<LocalNode>,
    address: SocketAddr,
    id: SandboxId,
}

/// A port of this machine with nobody behind it yet.
struct Port {
    listener: TcpListener,
    number: u16,
}

impl Port {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let number = listener.local_addr().unwrap().port();
        Self { listener, number }
    }

    async fn accept(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("a connection comes in").unwrap().0
    }

    /// Takes one request without a body; says what `answer` is and ends. Returns the request.
    async fn answer(&self, answer: &str) -> String {
        let mut client = self.accept().await;
        let asked = read_until(&mut client, "\r\n\r\n").await;
        client.write_all(answer.as_bytes()).await.unwrap();
        asked
    }
}

async fn rig_of(change: impl FnOnce(&mut SandboxSpec)) -> Rig {
    let node = Arc::new(node(Arc::new(TestDriver::new(Manner::Polite))));
    let mut spec = spec(1, Some("right"));
    change(&mut spec);
    node.create(spec.clone()).await.unwrap();
    let address = serve(Arc::clone(&node)).await;
    Rig { node, address, id: spec.id }
}

async fn rig() -> Rig {
    rig_of(|_as_it_is| {}).await
}

impl Rig {
    /// Sends a request to a port and leaves the connection open.
    async fn send(&self, port: u16, line: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let host = format!("{port}-{}.e2b.test", self.id);
        let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, port: u16, headers: &str) -> Answer {
        let headers = format!("Connection: close\r\n{headers}");
        let mut stream = self.send(port, "GET /a?b=c", &headers).await;
        read_all(&mut stream, String::new()).await
    }

    /// A server that answers once, and what both sides saw.
    async fn exchange(&self, headers: &str, answer: &str) -> (String, Answer) {
        let port = Port::open().await;
        tokio::join!(port.answer(answer), self.get(port.number, headers))
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_stream_is_a_connection_whose_directions_end_one_by_one() {
    let rig = rig().await;
    let port = Port::open().await;
    let (server, stream) = tokio::join!(port.accept(), rig.node.connect(&rig.id, port.number));
    let (mut server, mut stream) = (server, stream.unwrap().compat());
    stream.write_all(b"to the server").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "to the server");
    server.write_all(b"and back").await.unwrap();
    drop(server);
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "and back");
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_the_connection_inside() {
    let rig = rig().await;
    let port = Port::open().await;
    let (mut server, stream) = tokio::join!(port.accept(), rig.node.connect(&rig.id, port.number));
    drop(stream.unwrap());
    let read = tokio::time::timeout(PATIENCE, server.read(&mut [0; 1])).await;
    assert_eq!(read.expect("the server notices").unwrap_or(0), 0);
}

#[tokio::test]
async fn a_stream_of_a_killed_sandbox_fails_and_does_not_end() {
    let rig = rig().await;
    let port = Port::open().await;
    let (_server, stream) = tokio::join!(port.accept(), rig.node.connect(&rig.id, port.number));
    let mut stream = stream.unwrap().compat();
    rig.node.kill(&rig.id).await.unwrap();
    assert!(stream.read(&mut [0; 1]).await.is_err());
    let again = rig.node.connect(&rig.id, port.number).await;
    assert!(matches!(again, Err(NodeError::NotFound { .. })));
}

#[tokio::test]
async fn a_port_on_which_nothing_listens_is_told_as_such() {
    let rig = rig().await;
    let Port { listener, number } = Port::open().await;
    drop(listener);
    let refused = rig.node.connect(&rig.id, number).await;
    assert!(matches!(refused, Err(NodeError::PortClosed { port, .. }) if port == number));
    let answer = rig.get(number, "").await;
    assert_eq!(answer.status, 502);
    let expected = format!(
        r#"{{"sandboxId":"{}","message":"The sandbox is running but port is not open","port":{number},"code":502}}"#,
        rig.id
    );
    assert_eq!(answer.body, expected);
    let page = rig.get(number, "Accept: text/html,*/*\r\nSec-Fetch-Mode: navigate\r\n").await;
    assert_eq!(page.status, 502);
    assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
    let fetched = rig.get(number, "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n").await;
    assert_eq!(fetched.body, expected);
}

#[tokio::test]
async fn a_server_sees_the_request_without_what_is_the_proxys_or_a_lie() {
    let rig = rig().await;
    let headers = "X-Access-Token: right\r\nE2b-Traffic-Access-Token: t\r\nE2b-Sandbox-Id: other\r\n\
        X-Api-Key: e2b_0123\r\nAuthorization: Bearer e2b_0123\r\nX-Forwarded-For: 10.1.2.3\r\n\
        X-Forwarded-Host: lie\r\nX-Forwarded-Proto: lie\r\nX-Forwarded-Server: lie\r\n\
        X-Real-Ip: lie\r\nForwarded: for=lie\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\n\
        X-Own: kept\r\nCookie: a=b\r\n";
    let (asked, answer) = rig.exchange(headers, OK).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "ok");
    let asked = asked.to_ascii_lowercase();
    let mut lines: Vec<&str> = asked.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0), "get /a?b=c http/1.1");
    lines.sort_unstable();
    let host = lines.iter().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let forwarded = format!("x-forwarded-host: {host}");
    let host = format!("host: {host}");
    assert!(host.ends_with(".e2b.test"), "{host}");
    assert_eq!(lines, ["cookie: a=b", &host, "te: trailers", &forwarded, "x-own: kept"]);
}

#[tokio::test]
async fn keys_of_the_servers_own_are_passed_on_and_what_connection_names_is_not() {
    let rig = rig().await;
    let port = Port::open().await;
    let headers = "X-Api-Key: own\r\nAuthorization: Bearer own\r\nConnection: close, X-Hop\r\n\
        X-Hop: 1\r\n";
    let ask = async {
        let mut stream = rig.send(port.number, "GET /", headers).await;
        read_all(&mut stream, String::new()).await
    };
    let (asked, answer) = tokio::join!(port.answer(OK), ask);
    assert_eq!(answer.status, 200);
    let asked = asked.to_ascii_lowercase();
    assert!(asked.contains("x-api-key: own"), "{asked}");
    assert!(asked.contains("authorization: bearer own"), "{asked}");
    assert!(!asked.contains("x-hop") && !asked.contains("connection"), "{asked}");
}

#[tokio::test]
async fn an_answer_cannot_act_on_other_sandboxes_or_on_a_web_server_before_us() {
    let rig = rig().await;
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: own=1; Path=/\r\n\
        Set-Cookie: wide=1; Path=/; DOMAIN = .e2b.test\r\nSet-Cookie: other=1;domain=x.test\r\n\
        Clear-Site-Data: \"cookies\"\r\nAlt-Svc: h3=\":443\"\r\nX-Accel-Redirect: /etc\r\n\
        X-Sendfile: /etc/passwd\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nLocation: /next\r\n\
        Content-Length: 2\r\n\r\nok";
    let (_asked, answer) = rig.exchange("", answer).await;
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("set-cookie: own=1; path=/"), "{head}");
    assert!(head.contains("location: /next"), "{head}");
    for gone in ["wide", "other", "clear-site", "alt-svc", "x-accel", "x-sendfile", "x-hop"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert!(!head.contains("access-control"), "CORS is the server's own: {head}");
}

#[tokio::test]
async fn a_masked_host_is_what_the_server_sees() {
    let rig = rig_of(|spec| {
        spec.network.mask_request_host = Some("localhost:${PORT}".to_owned());
    })
    .await;
    let port = Port::open().await;
    let (asked, _answer) = tokio::join!(port.answer(OK), rig.get(port.number, ""));
    let host = format!("host: localhost:{}\r\n", port.number);
    assert!(asked.to_ascii_lowercase().contains(&host), "{asked}");
}

#[tokio::test]
async fn a_port_that_is_not_public_wants_its_token_and_keeps_it_from_the_server() {
    let rig = rig_of(|spec| {
        spec.network.traffic_token = Some(AccessToken::new("traffic".to_owned()));
    })
    .await;
    let (asked, answer) = rig.exchange("E2b-Traffic-Access-Token: traffic\r\n", OK).await;
    assert_eq!(answer.status, 200);
    assert!(!asked.to_ascii_lowercase().contains("traffic-access"), "{asked}");
    let port = Port::open().await;
    for (headers, word) in [("", "missing"), ("E2b-Traffic-Access-Token: no\r\n", "invalid")] {
        let answer = rig.get(port.number, headers).await;
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains(word), "{answer:?}");
    }
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_until_either_side_ends() {
    let rig = rig().await;
    let port = Port::open().await;
    let headers =
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
    let (mut server, mut client) =
        tokio::join!(port.accept(), rig.send(port.number, "GET /ws", headers));
    let asked = read_until(&mut server, "\r\n\r\n").await.to_ascii_lowercase();
    for line in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-key: k\r\n"] {
        assert!(asked.contains(line), "{asked}");
    }
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nthe server";
    server.write_all(switching.as_bytes()).await.unwrap();
    let head = read_until(&mut client, "the server").await.to_ascii_lowercase();
    assert!(head.contains(" 101 ") && head.contains("upgrade: websocket"), "{head}");
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut server, "ping").await, "ping");
    drop(client);
    let read = tokio::time::timeout(PATIENCE, server.read(&mut [0; 1])).await;
    assert_eq!(read.expect("the server notices").unwrap_or(0), 0);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_or_no_http_at_all_is_a_port_that_is_not_open() {
    let rig = rig().await;
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(1 << 20));
    for answer in ["HTTP/1.1 101 Switching Protocols\r\n\r\n", "SSH-2.0\r\n", "", &endless] {
        let port = Port::open().await;
        let serving = async {
            let mut client = port.accept().await;
            read_until(&mut client, "\r\n\r\n").await;
            // The node hangs up on what is too long.
            let _cut = client.write_all(answer.as_bytes()).await;
        };
        let ((), seen) = tokio::join!(serving, rig.get(port.number, ""));
        assert_eq!(seen.status, 502, "{seen:?}");
        assert!(seen.body.contains("port is not open"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_kill_aborts_an_answer_in_flight_whatever_its_framing() {
    for framing in ["Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "\r\nfirst"] {
        let rig = rig().await;
        let port = Port::open().await;
        let (mut server, mut client) =
            tokio::join!(port.accept(), rig.send(port.number, "GET /", ""));
        read_until(&mut server, "\r\n\r\n").await;
        server.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes()).await.unwrap();
        let seen = read_until(&mut client, "first").await;
        rig.node.kill(&rig.id).await.unwrap();
        let answer = read_all(&mut client, seen).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.ended_well(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_connection_inside_along() {
    let rig = rig().await;
    let port = Port::open().await;
    let (mut server, mut client) =
        tokio::join!(port.accept(), rig.send(port.number, "GET /events", ""));
    read_until(&mut server, "\r\n\r\n").await;
    let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    server.write_all(events.as_bytes()).await.unwrap();
    read_until(&mut client, "data: 1").await;
    drop(client);
    let read = tokio::time::timeout(PATIENCE, server.read(&mut [0; 1])).await;
    assert_eq!(read.expect("the server notices").unwrap_or(0), 0);
}

#[tokio::test]
async fn trailers_pass_to_a_client_that_takes_them() {
    let rig = rig().await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
    let (_asked, answer) = rig.exchange("TE: trailers\r\n", answer).await;
    assert!(answer.body.to_ascii_lowercase().contains("x-sum: 7"), "{answer:?}");
}

#[tokio::test]
async fn two_requests_of_one_connection_each_reach_the_server() {
    let rig = rig().await;
    let port = Port::open().await;
    let mut client = rig.send(port.number, "GET /1", "").await;
    for number in [2, 3] {
        let (asked, _seen) = tokio::join!(port.answer(OK), read_until(&mut client, "ok"));
        assert!(asked.starts_with(&format!("GET /{} ", number - 1)), "{asked}");
        let host = format!("{}-{}.e2b.test", port.number, rig.id);
        let request = format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
    }
}
