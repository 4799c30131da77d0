//! Ports of the user's own servers: each request goes to its server over a connection of its own.
//!
//! Nothing is buffered: bodies stream both ways, trailers and upgrades (WebSocket) included. Whoever
//! goes away first takes the other side along: a client that hangs up closes its connection inside,
//! and when a sandbox ends, its answers in flight are aborted.

mod headers;
mod page;
mod tls;
mod upgrade;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use courier_protocol::node::{Body, BoxError, NodeError};
use courier_types::SandboxId;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::auth::{self, TrafficRefused};
use super::{DataPlane, Route, URI_LIMIT_BYTES, answer};
use crate::guest::RequestBody;
use headers::Facts;
use page::Asker;
use upgrade::Upgrade;

pub use headers::Via;

/// Longest wait for the head of an answer. A server may well work for minutes before it says
/// anything; a client that does not wait that long ends its request anyway.
const HEAD_DEADLINE: Duration = Duration::from_secs(3_600);

/// Most headers of an answer.
const HEADERS_LIMIT: usize = 256;

/// Most bytes that wait for a slow client in the HTTP client, and so the longest head of an answer.
const BUFFER_BYTES: usize = 256 * 1_024;

/// A connection to a server inside, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why a request to a port has no answer of the server's.
#[derive(Debug, thiserror::Error)]
enum PortError {
    #[error(transparent)]
    Traffic(#[from] TrafficRefused),
    #[error("{what}")]
    Request { status: StatusCode, what: &'static str },
    #[error("the port cannot be reached")]
    Node(#[from] NodeError),
    #[error("the server on the port speaks no TLS")]
    Tls(#[source] std::io::Error),
    #[error("the server on the port gave no answer")]
    Server(#[source] hyper::Error),
    #[error("the server on the port changed the protocol unasked")]
    Unasked,
    #[error("the server on the port did not answer within {} s", HEAD_DEADLINE.as_secs())]
    Late,
    #[error("the request broke off before its end")]
    BodyBroken,
}

impl DataPlane {
    /// Passes a request on to a port of a sandbox.
    pub(super) async fn pass_to_port(
        &self,
        route: &Route,
        request: Request<Body>,
    ) -> Response<Body> {
        let asker = Asker::of(&request);
        let id = route.sandbox.parse::<SandboxId>().ok();
        let error = match id.filter(|id| self.node.guard(id).is_some()) {
            None => answer::not_found(&route.sandbox),
            Some(id) => match self.ask_port(&id, route.port, request).await {
                Ok(answer) => return answer,
                Err(error) => self.explain(&id, route.port, &error),
            },
        };
        answer::with_cors(asker.show(error))
    }

    async fn ask_port(
        &self,
        id: &SandboxId,
        port: u16,
        request: Request<Body>,
    ) -> Result<Response<Body>, PortError> {
        let network = self.node.exposure(id).ok_or(NodeError::NotFound { id: id.clone() })?;
        auth::check_traffic(network.traffic_token.as_ref(), &request)?;
        let (mut parts, body) = request.into_parts();
        let target = target(&parts.method, &parts.uri)?;
        let upgrade = Upgrade::wanted(&mut parts);
        let facts = Facts::of(&parts, port, network.mask_request_host.as_deref());
        let (body, sending) = RequestBody::new(body);
        let mut inside = Request::new(body);
        *inside.method_mut() = parts.method;
        *inside.uri_mut() = target;
        *inside.headers_mut() = headers::inward(parts.headers, &facts, upgrade.as_ref());

        let stream = self.node.dial(id, port).await?;
        let stream: Box<dyn Stream> = if network.https_ports.contains(&port) {
            Box::new(tls::encrypt(stream).await.map_err(PortError::Tls)?)
        } else {
            Box::new(stream)
        };
        let (mut answer, connection) = match ask(stream, inside).await {
            Err(_) if sending.broken.is_cancelled() => return Err(PortError::BodyBroken),
            asked => asked?,
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = upgrade.ok_or(PortError::Unasked)?;
            let head = headers::switching(&mut answer, &facts);
            upgrade.carry_out(hyper::upgrade::on(answer), connection);
            return Ok(head);
        }
        let (parts, body) = answer.into_parts();
        let mut outside =
            Response::new(PortBody { inner: body, _connection: connection }.boxed_unsync());
        *outside.status_mut() = parts.status;
        *outside.headers_mut() = headers::outward(parts.headers, &facts);
        Ok(outside)
    }

    /// What an error looks like from outside.
    fn explain(&self, id: &SandboxId, port: u16, error: &PortError) -> Response<Body> {
        match error {
            PortError::Traffic(refused) => answer::traffic_refused(id, *refused),
            PortError::Request { status, what } => answer::error(*status, what),
            PortError::BodyBroken => answer::error(StatusCode::BAD_REQUEST, &error.to_string()),
            PortError::Node(node) => answer::failed(id, node),
            // Whatever was in flight when the sandbox ended.
            _ if self.node.guard(id).is_none() => answer::not_found(id.as_str()),
            PortError::Late => answer::error(StatusCode::GATEWAY_TIMEOUT, &error.to_string()),
            PortError::Tls(_) | PortError::Server(_) | PortError::Unasked => {
                // Not louder: a guest and its client could fill the log together.
                tracing::debug!(sandbox = %id, port, ?error, "a port gave no answer");
                // As E2B's proxy says it, whatever went wrong behind the port.
                answer::port_closed(id, port)
            }
        }
    }
}

/// The path and query of an address.
fn target(method: &Method, uri: &Uri) -> Result<Uri, PortError> {
    let refused = |status, what| PortError::Request { status, what };
    if method == Method::CONNECT {
        let what = "there is no proxy here: CONNECT is not served";
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if target.len() > URI_LIMIT_BYTES {
        return Err(refused(StatusCode::URI_TOO_LONG, "the address is too long"));
    }
    target.parse().map_err(|_no_uri| refused(StatusCode::BAD_REQUEST, "the address is none"))
}

/// Sends a request over a connection of its own; the connection lives as long as the handle.
async fn ask(
    stream: Box<dyn Stream>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), PortError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_LIMIT)
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(PortError::Server)?;
    let connection = tokio::spawn(async move {
        // Its errors are those of the answer's head or body.
        let _told_there = connection.with_upgrades().await;
    });
    let connection = AbortOnDropHandle::new(connection);
    match tokio::time::timeout(HEAD_DEADLINE, sender.send_request(request)).await {
        Ok(answer) => Ok((answer.map_err(PortError::Server)?, connection)),
        Err(_elapsed) => Err(PortError::Late),
    }
}

/// A server's answer, which takes its connection along.
struct PortBody {
    inner: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl http_body::Body for PortBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
