//! The data plane on a real TCP port, and a client that sees what is on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use courier_node::LocalNode;
use courier_node::proxy::{DataPlane, RouteConfig};
use courier_types::SandboxId;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longest wait for anything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the data plane of a node; returns its address.
pub(crate) async fn serve(node: Arc<LocalNode>) -> SocketAddr {
    let plane = DataPlane::new(node, RouteConfig { domain: Some("e2b.test".to_owned()) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _peer) = listener.accept().await.unwrap();
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), plane.clone())
                .with_upgrades();
            tokio::spawn(async move {
                // Aborted connections are what some tests are about.
                let _aborted = connection.await;
            });
        }
    });
    address
}

/// An answer as it was on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// True when the body ended as HTTP says that it must.
    pub(crate) fn ended_well(&self) -> bool {
        if self.head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return self.body.ends_with("0\r\n\r\n");
        }
        let length = self.head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok()
        });
        length.is_none_or(|length| length == self.body.len())
    }
}

/// One request line with headers and body, on a connection of its own.
pub(crate) struct Ask<'a> {
    pub(crate) line: &'a str,
    pub(crate) id: &'a SandboxId,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a str,
}

/// Sends a request and leaves the connection open.
pub(crate) async fn send(address: SocketAddr, ask: &Ask<'_>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!(
        "{} HTTP/1.1\r\nHost: 49983-{}.e2b.test\r\nConnection: close\r\nContent-Length: {}\r\n",
        ask.line,
        ask.id,
        ask.body.len()
    );
    for (name, value) in ask.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(ask.body);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until some text has come.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "the end came before {text:?}");
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect(text);
    String::from_utf8_lossy(&seen).into_owned()
}

/// Reads to the end of the connection, a reset included.
pub(crate) async fn read_all(stream: &mut TcpStream, mut seen: String) -> Answer {
    let mut rest = Vec::new();
    let read =
        async { while matches!(stream.read_buf(&mut rest).await, Ok(bytes) if bytes > 0) {} };
    tokio::time::timeout(PATIENCE, read).await.expect("the connection ends");
    seen.push_str(&String::from_utf8_lossy(&rest));
    let (head, body) = seen.split_once("\r\n\r\n").unwrap_or((&seen, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn ask(address: SocketAddr, ask: Ask<'_>) -> Answer {
    let mut stream = send(address, &ask).await;
    read_all(&mut stream, String::new()).await
}

/// Waits until something holds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it holds in time");
}
