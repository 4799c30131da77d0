//! A guest, the proxy and an upstream, joined by pipes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_types::SandboxId;
use courier_types::egress::{
    FlowEvent, FlowRefusal, GuestToken, Layer, LayerSource, Layers, SecretName, SecretValue,
};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::guard::Host;
use super::super::origin::Origin;
use super::super::outside::{ConnectError, Connected, Outside};
use super::super::{Room, serve_http1, serve_http2};
use crate::broker::Broker;
use crate::flow::FlowLog;
use crate::network::Tasks;
use crate::policy::{Compiled, Scheme};
use crate::tls::Alpn;
use crate::{CredentialSource, SourceError};

/// What a secret's value is in all tests: it has characters that encodings change.
pub(super) const VALUE: &str = "sk-live/0123456789+abcdef=";

/// Longest wait for anything.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// Content of either side's messages.
pub(super) type TestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Content that is there at once.
pub(super) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// What an upstream does with a connection.
type Upstream = Box<dyn Fn(DuplexStream) + Send + Sync>;

#[derive(Debug)]
struct Source;

#[async_trait]
impl CredentialSource for Source {
    async fn secret(
        &self,
        _sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SourceError> {
        match name.as_str() {
            "key" => Ok(SecretValue::new(VALUE.as_bytes().to_vec())),
            _ => Err(SourceError::NoSecret { name: name.clone() }),
        }
    }

    async fn token(
        &self,
        sandbox: &SandboxId,
        token: &str,
    ) -> Result<(SecretName, SecretValue), SourceError> {
        if token != self::token() {
            return Err(SourceError::NoToken);
        }
        let name = "key".parse().unwrap();
        let value = self.secret(sandbox, &name).await?;
        Ok((name, value))
    }
}

/// A token of the guest that stands for secret `key`.
pub(super) fn token() -> String {
    GuestToken::from_random([1; 32]).expose().to_owned()
}

/// Everything around the proxy.
pub(super) struct Rig {
    sandbox: SandboxId,
    policy: watch::Sender<Arc<Compiled>>,
    broker: Broker,
    flows: FlowLog,
    pub(super) room: Room,
    tasks: Tasks,
    upstream: Upstream,
    speaks_http2: bool,
    /// How often the upstream was connected to.
    pub(super) connects: AtomicUsize,
}

pub(super) fn compiled(policy: &str) -> Arc<Compiled> {
    let policy = serde_json::from_str(policy).unwrap();
    let layer = Layer { source: LayerSource::Sandbox, policy };
    Arc::new(Compiled::new(&Layers(vec![layer])).unwrap())
}

impl Rig {
    /// A rig with a policy and an upstream that does this with each connection.
    pub(super) fn new(
        policy: &str,
        upstream: impl Fn(DuplexStream) + Send + Sync + 'static,
    ) -> Self {
        let sandbox = SandboxId::from_random([7; 20]);
        Self {
            broker: Broker::new(Arc::new(Source), sandbox.clone()),
            sandbox,
            policy: watch::Sender::new(compiled(policy)),
            flows: FlowLog::default(),
            room: Room::default(),
            tasks: Tasks::new(),
            upstream: Box::new(upstream),
            speaks_http2: false,
            connects: AtomicUsize::new(0),
        }
    }

    /// A rig whose upstream answers every request over HTTP/1 with this.
    pub(super) fn answering<F, A>(policy: &str, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<TestBody>> + Send + 'static,
    {
        Self::new(policy, move |stream| {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, std::io::Error>(answer.await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
        })
    }

    /// The same over HTTP/2.
    pub(super) fn answering_http2<F, A>(policy: &str, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<TestBody>> + Send + 'static,
    {
        let rig = Self::new(policy, move |stream| {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, std::io::Error>(answer.await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        });
        Self { speaks_http2: true, ..rig }
    }

    /// Replaces the policy.
    pub(super) fn set(&self, policy: &str) {
        self.policy.send_replace(compiled(policy));
    }

    /// The guest's end of a new connection over HTTP/1.
    pub(super) fn guest(self: &Arc<Self>, scheme: Scheme) -> DuplexStream {
        let (guest, ours) = tokio::io::duplex(64 * 1024);
        let outside: Arc<dyn Outside> = Arc::<Self>::clone(self);
        tokio::spawn(serve_http1(ours, origin(scheme), outside));
        guest
    }

    /// A client on a new HTTP/1 connection in opened TLS.
    pub(super) async fn client(self: &Arc<Self>) -> http1::SendRequest<TestBody> {
        let io = TokioIo::new(self.guest(Scheme::Https));
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// A client on a new HTTP/2 connection in opened TLS.
    pub(super) async fn client_http2(self: &Arc<Self>) -> http2::SendRequest<TestBody> {
        let (guest, ours) = tokio::io::duplex(64 * 1024);
        let outside: Arc<dyn Outside> = Arc::<Self>::clone(self);
        tokio::spawn(serve_http2(ours, origin(Scheme::Https), outside));
        let io = TokioIo::new(guest);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Sends raw bytes on a new connection and reads all that comes back.
    pub(super) async fn exchange(self: &Arc<Self>, scheme: Scheme, bytes: &str) -> String {
        let mut guest = self.guest(scheme);
        guest.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = guest.read_to_string(&mut answer);
        timeout(SOON, reading).await.expect("the connection ends").unwrap();
        answer
    }

    /// How often the upstream was connected to.
    pub(super) fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }

    /// Waits until the upstream has been connected to.
    pub(super) async fn connected(&self) {
        let connected = async {
            while self.connects() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, connected).await.expect("the upstream is connected to");
    }

    /// The next record after so many.
    pub(super) async fn flow(&self, after: u64) -> FlowEvent {
        let mut reader = self.flows.follow(after);
        let page = timeout(SOON, reader.next(1)).await.expect("a record is written");
        page.flows.into_iter().next().unwrap().event
    }

    /// The fence of the next refusal after so many records, and its reason.
    #[track_caller]
    pub(super) fn refusal(&self, after: u64) -> impl Future<Output = (String, String)> {
        let flow = self.flow(after);
        async move {
            match flow.await {
                FlowEvent::Refused { refusal, .. } => (refusal.fence, refusal.why),
                other => panic!("{other:?} is no refusal"),
            }
        }
    }
}

fn origin(scheme: Scheme) -> Origin {
    let (address, server_name) = match scheme {
        Scheme::Http => ("192.0.2.1:80", None),
        Scheme::Https => ("192.0.2.1:443", Some("a.test".parse().unwrap())),
    };
    let names = vec!["a.test".parse().unwrap(), "b.test".parse().unwrap()];
    Origin { scheme, address: address.parse().unwrap(), names, server_name }
}

#[async_trait]
impl Outside for Rig {
    fn sandbox(&self) -> &SandboxId {
        &self.sandbox
    }

    fn policy(&self) -> watch::Receiver<Arc<Compiled>> {
        self.policy.subscribe()
    }

    fn broker(&self) -> &Broker {
        &self.broker
    }

    fn flows(&self) -> &FlowLog {
        &self.flows
    }

    fn room(&self) -> &Room {
        &self.room
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    async fn connect(&self, host: &Host, alpn: Alpn) -> Result<Connected, ConnectError> {
        self.connects.fetch_add(1, Ordering::SeqCst);
        if host.to_string() == "b.test" {
            let text = "its certificate is for another".to_owned();
            let refusal = Some(FlowRefusal::new("upstream_tls", text.clone()));
            return Err(ConnectError { text, refusal });
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        (self.upstream)(far);
        let speaks_http2 = self.speaks_http2 && alpn == Alpn::Http2OrHttp1;
        Ok(Connected { stream: Box::new(near), speaks_http2 })
    }
}

/// What an upstream saw of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) fields: HashMap<String, String>,
    pub(super) content: String,
}

/// The requests that an upstream saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<Seen>>>);

impl Journal {
    /// All of them.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// Answers with what was seen, as text.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<TestBody> {
        let (parts, body) = request.into_parts();
        let content = body.collect().await.unwrap().to_bytes();
        let fields: HashMap<String, String> = parts
            .headers
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())
            })
            .collect();
        let seen = Seen {
            line: format!("{} {} {:?}", parts.method, parts.uri, parts.version),
            content: String::from_utf8_lossy(&content).into(),
            fields,
        };
        let text = format!("{seen:?}");
        self.0.lock().unwrap().push(seen);
        Response::new(full(text))
    }
}

/// A request to a path of `a.test`.
pub(super) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "a.test")
}

/// The status and the whole content of an answer.
pub(super) async fn read<B>(response: Response<B>) -> (StatusCode, String)
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let status = response.status();
    let content = timeout(SOON, response.into_body().collect()).await.expect("the answer ends");
    (status, String::from_utf8_lossy(&content.unwrap().to_bytes()).into())
}
