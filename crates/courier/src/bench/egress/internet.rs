//! An internet of the bench's own: a namespace with a DNS and a web server, at the other end of a
//! cable from the namespace that we and the measured server are in. There is no way out of either.
//!
//! ```text
//!   bare runsc ── cable ──▶ NODE (routes) ── cable ──▶ NET
//!   our sandbox ── link ──▶ courier serve in NODE ───▶ DNS, HTTP, HTTPS
//! ```

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::namespace::{Namespace, ip};

/// A server whose TLS passes unopened.
pub(super) const PASSED: &str = "passed.bench.test";
/// A server whose TLS is opened.
pub(super) const OPENED: &str = "opened.bench.test";
/// A server with which any bytes may be spoken.
pub(super) const RAW: &str = "raw.bench.test";
/// Where that is.
pub(super) const RAW_PORT: u16 = 9000;
/// The domain of all servers.
const DOMAIN: &str = "bench.test";
/// The servers' addresses: public ones, as no others can be reached. Each name has its own.
const ADDRESSES: [(&str, Ipv4Addr); 3] = [
    (PASSED, Ipv4Addr::new(93, 184, 216, 10)),
    (OPENED, Ipv4Addr::new(93, 184, 216, 11)),
    (RAW, Ipv4Addr::new(93, 184, 216, 12)),
];
/// The DNS server's address.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 53);
/// How long an answer of it holds: longer than the bench runs.
const TTL_SECONDS: u32 = 3_600;
/// Largest DNS message over UDP that anybody sends.
const LARGEST_MESSAGE: usize = 4_096;
/// The two ends of the cable between NODE and NET.
const NODE: Ipv4Addr = Ipv4Addr::new(93, 184, 217, 2);
const NET: Ipv4Addr = Ipv4Addr::new(93, 184, 217, 1);
/// The two ends of the cable between NODE and a bare sandbox: the addresses of our own link.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
/// What a web server sends, piece by piece.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// The running servers; they end with the runtime.
pub(super) struct Internet {
    _net: Namespace,
    _folder: tempfile::TempDir,
    /// The servers' authority, as a file.
    pub(super) ca_file: PathBuf,
    /// The same, as text.
    pub(super) ca: String,
}

impl Internet {
    /// Makes the namespace NET, beside the one that we are in, and starts the servers there.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub(super) fn start() -> anyhow::Result<Self> {
        let net = Namespace::new()?;
        ip("link set dev lo up")?;
        ip(&format!("link add name node0 type veth peer name net0 netns {}", net.path()))?;
        ip(&format!("addr add {NODE}/24 dev node0"))?;
        ip("link set dev node0 up")?;
        ip(&format!("route add default via {NET}"))?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .context("the namespace's own switch cannot be set")?;
        net.ip(&format!("addr add {NET}/24 dev net0"))?;
        net.ip("link set dev net0 up")?;
        net.ip(&format!("route add default via {NODE}"))?;
        for address in ADDRESSES.iter().map(|(_, address)| *address).chain([RESOLVER]) {
            net.ip(&format!("addr add {address}/32 dev lo"))?;
        }
        let folder = tempfile::tempdir()?;
        let tls = crate::serve::ca::open(folder.path(), DOMAIN, SystemTime::now())?;
        let socket = net.run(|| UdpSocket::bind((RESOLVER, 53)))??;
        socket.set_nonblocking(true)?;
        tokio::spawn(resolve(tokio::net::UdpSocket::from_std(socket)?));
        for (port, tls) in [(443, Some(tls.config)), (80, None), (RAW_PORT, None)] {
            let listener = net.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(listen(listener, tls.map(TlsAcceptor::from)));
        }
        let ca = std::fs::read_to_string(&tls.ca_file)?;
        Ok(Self { _net: net, _folder: folder, ca_file: tls.ca_file, ca })
    }

    /// A namespace for a bare sandbox, with a cable to NODE, which routes for it: what a host's
    /// kernel does at least. Translation of addresses is left out; it would only cost more.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub(super) fn routed(&self, turn: u32) -> anyhow::Result<Namespace> {
        let namespace = Namespace::new()?;
        // The cable goes some time after its namespace: each has a name of its own.
        let link = format!("floor{turn}");
        ip(&format!("link add name {link} type veth peer name eth0 netns {}", namespace.path()))?;
        ip(&format!("addr add {GATEWAY} peer {GUEST} dev {link}"))?;
        ip(&format!("link set dev {link} up"))?;
        namespace.ip(&format!("addr add {GUEST}/29 dev eth0"))?;
        namespace.ip("link set dev eth0 up")?;
        namespace.ip(&format!("route add default via {GATEWAY}"))?;
        Ok(namespace)
    }
}

/// Answers questions for addresses.
async fn resolve(socket: tokio::net::UdpSocket) {
    let mut buffer = vec![0; LARGEST_MESSAGE];
    loop {
        let Ok((count, from)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = buffer.get(..count).and_then(answer);
        if let Some(answer) = answer {
            // Who asks and gets nothing asks again.
            drop(socket.send_to(&answer, from).await);
        }
    }
}

fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(question.queries.iter().cloned());
    let asked = question.queries.first()?;
    let name = asked.name().to_ascii().to_ascii_lowercase();
    let address = ADDRESSES.iter().find(|(host, _)| *host == name.trim_end_matches('.'));
    if let (RecordType::A, Some((_, address))) = (asked.query_type(), address) {
        let data = RData::A(A(*address));
        answer.add_answer(Record::from_rdata(asked.name().clone(), TTL_SECONDS, data));
    }
    answer.to_vec().ok()
}

/// Serves HTTP, in TLS where there is an acceptor. A connection that fails is told by the program
/// that misses its answer.
async fn listen(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let tls = tls.clone();
        tokio::spawn(async move {
            drop(stream.set_nodelay(true));
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream).await;
                    }
                }
                None => serve(stream).await,
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = hyper::service::service_fn(async |request| anyhow::Ok(page(&request)?));
    let server = auto::Builder::new(TokioExecutor::new());
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

/// Answers `/bytes/N` with so many bytes.
fn page(request: &Request<Incoming>) -> http::Result<Response<BoxBody<Bytes, hyper::Error>>> {
    let length = request.uri().path().strip_prefix("/bytes/").and_then(|n| n.parse::<usize>().ok());
    let Some(length) = length else {
        return Response::builder().status(404).body(BoxBody::default());
    };
    let whole = (0..length / ZEROS.len()).map(|_piece| Bytes::from_static(&ZEROS));
    let rest = ZEROS.get(..length % ZEROS.len()).map(Bytes::from_static);
    let frames = whole.chain(rest).map(|bytes| Ok(Frame::data(bytes)));
    let body = BoxBody::new(StreamBody::new(stream::iter(frames)));
    Response::builder().header(http::header::CONTENT_LENGTH, length).body(body)
}
