//! The HTTP proxy: every request is judged by itself, then goes out as the very thing that was
//! judged.
//!
//! ```text
//! guest ─▶ guard (HTTP/1 only) ─▶ server ─▶ proxy ─▶ pool ─▶ upstream
//! ```
//!
//! What always holds: nothing of a request goes out before its host, method and path were judged;
//! nothing secret is added before the upstream's certificate was verified; an upstream connection
//! serves one guest connection only.

mod body;
mod decode;
mod exchange;
mod fields;
mod guard;
mod live;
mod origin;
mod outside;
mod pool;
mod proxy;
mod refusal;
mod room;
mod target;
#[cfg(test)]
mod tests;
mod turn;
mod websocket;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use self::body::{Ending, ProxyBody};
use self::guard::{Guarded, HEAD_MAX};
use self::live::Live;
use self::origin::Origin;
use self::outside::Outside;
use self::pool::{InGroup, Pool, READ_BUFFER};
use self::proxy::Proxy;
use self::refusal::Refusal;
pub(crate) use self::room::Room;
use self::turn::Turn;
use crate::connection::Conversation;
use crate::network::Tasks;

/// Most requests at once on one HTTP/2 connection: what common servers allow.
const STREAMS_MAX: u32 = 100;

/// Most streams that a guest may have reset without our having answered: beyond, it is an attack
/// ("rapid reset") and the connection ends.
const RESETS_MAX: usize = 64;

/// How much is buffered per HTTP/2 stream towards the guest.
const SEND_BUFFER: usize = 64 * 1024;

/// An HTTP/2 connection without requests for so long is closed.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// How long a closing HTTP/2 connection has to say goodbye.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(5);

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves a connection in clear, to its end.
pub(crate) async fn serve_clear<S>(stream: S, conversation: Conversation)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let origin = Origin::of(&conversation);
    Box::pin(serve_http1(stream, origin, Arc::new(conversation))).await;
}

/// Serves what is inside an opened TLS connection, to its end.
pub(crate) async fn serve_tls<S>(stream: S, version: Version, conversation: Conversation)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let origin = Origin::of(&conversation);
    let outside = Arc::new(conversation);
    match version {
        Version::Http1 => Box::pin(serve_http1(stream, origin, outside)).await,
        Version::Http2 => Box::pin(serve_http2(stream, origin, outside)).await,
    }
}

impl Origin {
    fn of(conversation: &Conversation) -> Self {
        Self {
            scheme: conversation.scheme,
            address: conversation.address,
            names: conversation.names.clone(),
            server_name: conversation.server_name.clone(),
        }
    }
}

async fn serve_http1<S>(stream: S, origin: Origin, outside: Arc<dyn Outside>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let turn = Turn::default();
    let report = {
        let (origin, flows) = (origin.clone(), outside.flows().clone());
        move |violation: guard::Violation| {
            flows.write(origin.refused(&Refusal::malformed(violation.to_string())));
        }
    };
    let guarded = guard::Origin { scheme: origin.scheme_text(), port: origin.address.port() };
    let guarded = Guarded::new(stream, guarded, turn.clone(), report);
    let live = Live::new(outside.policy());
    let windowed = outside.room().connection();
    let pool = Pool::new(Arc::clone(&outside), windowed.windows);
    let proxy = Arc::new(Proxy::new(origin, outside, Some(turn), (live.clone(), pool)));
    let connection = http1::Builder::new()
        .max_buf_size(READ_BUFFER)
        // The guard has deadlines of its own.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(guarded), Serve(Arc::clone(&proxy)))
        .with_upgrades();
    let served = async {
        // A connection that broke has nobody left to be told; its requests write their records.
        let _ended = connection.await;
        if let Some(tunnel) = proxy.tunnels().take() {
            tunnel.run().await;
        }
    };
    tokio::select! {
        () = Box::pin(served) => {}
        () = live.supervise() => {}
    }
}

async fn serve_http2<S>(stream: S, origin: Origin, outside: Arc<dyn Outside>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let live = Live::new(outside.policy());
    // Requests end with the connection: their tasks are of a group of its own.
    let tasks = outside.tasks().child();
    let _group = EndOnDrop(tasks.clone());
    let windowed = outside.room().connection();
    let windows = windowed.windows;
    let pool = Pool::new(Arc::clone(&outside), windows);
    let proxy = Arc::new(Proxy::new(origin, outside, None, (live.clone(), pool)));
    let connection = http2::Builder::new(InGroup(tasks))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX as u32)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(windows.of_request())
        .initial_connection_window_size(windows.of_requests())
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .serve_connection(TokioIo::new(stream), Serve(Arc::clone(&proxy)));
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = idle(live.counted()) => {}
        () = live.supervise() => {}
    }
    connection.as_mut().graceful_shutdown();
    // One that does not say goodbye is dropped.
    let _ended = timeout(GOODBYE_DEADLINE, connection).await;
}

/// A group of tasks that ends with a value.
struct EndOnDrop(Tasks);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The proxy as what the HTTP server calls.
struct Serve(Arc<Proxy>);

/// An answer to come.
type Answering =
    Pin<Box<dyn Future<Output = Result<Response<Ending<ProxyBody>>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Serve {
    type Response = Response<Ending<ProxyBody>>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move { Ok(proxy.answer(request).await) })
    }
}

/// Ends when there was no request for [`IDLE_DEADLINE`].
async fn idle(mut counted: watch::Receiver<usize>) {
    loop {
        let count = *counted.borrow_and_update();
        if count > 0 {
            if counted.changed().await.is_err() {
                return;
            }
            continue;
        }
        match timeout(IDLE_DEADLINE, counted.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
