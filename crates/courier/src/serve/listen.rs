//! The listeners: connections, their bounds, and their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at once over all listeners. Each costs about 100 KiB at worst; SDKs keep a handful
/// per sandbox.
const MAX_CONNECTIONS: usize = 4096;
/// A client has this long to send a request's header: slow ones must not hold connections.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client has this long for a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest header of a request, all fields together.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Most header fields of a request over HTTP/1.1.
const MAX_HEADERS: usize = 128;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// HTTP/2 connections that do not answer a ping in this time are cut.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2 connections are pinged after this much silence.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long requests in flight may go on after the server was told to stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// After a failure to accept (no descriptors left), the listener rests this long.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A bound address, before anything is answered on it.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds an address.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(address).await.with_context(|| {
            format!("{address} cannot be listened on; choose another address with --listen")
        })?;
        Ok(Self { socket, tls: tls.map(TlsAcceptor::from) })
    }

    /// Where it really listens (port 0 picks a free one).
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

/// Answers on every listener until `stop` turns true, then drains.
pub(crate) async fn serve<S>(listeners: Vec<Listener>, service: S, stop: watch::Receiver<bool>)
where
    S: Service,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept_all(listener, service.clone(), Arc::clone(&slots), stop.clone()));
    }
    while let Some(ended) = accepting.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener died");
        }
    }
}

/// A service that every connection gets a clone of.
pub(crate) trait Service:
    hyper::service::Service<
        http::Request<Incoming>,
        Response = http::Response<courier_protocol::node::Body>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Service for S where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = http::Response<courier_protocol::node::Body>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Accepts until told to stop; then waits for the connections, for at most [`DRAIN`].
async fn accept_all<S: Service>(
    listener: Listener,
    service: S,
    slots: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop) => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = accept(&listener.socket, &slots) => accepted,
        };
        if let Some((stream, slot)) = accepted {
            let (tls, service, stop) = (listener.tls.clone(), service.clone(), stop.clone());
            connections.spawn(async move {
                Box::pin(connection(stream, tls, service, stop)).await;
                drop(slot);
            });
        }
    }
    drop(listener);
    drain(connections).await;
}

/// Lets connections end, for at most [`DRAIN`], then cuts them.
async fn drain(mut connections: JoinSet<()>) {
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::info!(connections = connections.len(), "cut what was still in flight");
        connections.shutdown().await;
    }
}

/// Waits for a free slot, then for a client: what exceeds the cap waits in the kernel's queue.
async fn accept(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let accepted = async {
        let (stream, _peer) = socket.accept().await?;
        stream.set_nodelay(true)?;
        std::io::Result::Ok(stream)
    };
    match accepted.await {
        Ok(stream) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(ACCEPT_REST).await;
            None
        }
    }
}

async fn connection<S: Service>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    service: S,
    stop: watch::Receiver<bool>,
) {
    match tls {
        None => http(stream, service, stop).await,
        Some(tls) => {
            if let Some(stream) = encrypt(stream, &tls).await {
                http(stream, service, stop).await;
            }
        }
    }
}

/// The TLS handshake; whoever fails it is not told why.
async fn encrypt(stream: TcpStream, tls: &TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(TLS_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS with a client");
            None
        }
        Err(_elapsed) => None,
    }
}

/// Speaks HTTP on one connection until it ends or the server stops.
async fn http<S, I>(stream: I, service: S, mut stop: watch::Receiver<bool>)
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = told(&mut stop) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Waits until the server is told to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _stopped = stop.wait_for(|stop| *stop).await;
}
