//! The listeners: connections, their bounds, and their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use courier_node::proxy::Via;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::patience::Patience;

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

/// How serving ends.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// Turns true when it shall.
    pub(crate) told: watch::Receiver<bool>,
    /// How long requests in flight may go on after that.
    pub(crate) grace: Duration,
}

impl Stop {
    /// Waits until the server is told to stop.
    async fn wait(&mut self) {
        // A sender that is gone means the same.
        let _stopped = self.told.wait_for(|stop| *stop).await;
    }
}

/// Answers on every listener until told to stop, then drains.
pub(crate) async fn serve<S: Service>(listeners: Vec<Listener>, service: S, stop: Stop) {
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

/// Accepts until told to stop; then waits for the connections, for at most the grace.
async fn accept_all<S: Service>(
    listener: Listener,
    service: S,
    slots: Arc<Semaphore>,
    mut stop: Stop,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.wait() => break,
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
    drain(connections, stop.grace).await;
}

/// Lets connections end, for at most the grace, then cuts them.
async fn drain(mut connections: JoinSet<()>, grace: Duration) {
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, ended).await.is_err() {
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
    stop: Stop,
) {
    let peer = stream.peer_addr().map(|peer| peer.ip());
    let Ok(peer) = peer else { return };
    let service = Announced { service, via: Via { peer, encrypted: tls.is_some() } };
    match tls {
        None => http(stream, service, stop).await,
        Some(tls) => {
            if let Some(stream) = encrypt(stream, &tls).await {
                http(stream, service, stop).await;
            }
        }
    }
}

/// Tells a service how its requests came in.
#[derive(Debug, Clone)]
struct Announced<S> {
    service: S,
    via: Via,
}

impl<S: Service> hyper::service::Service<http::Request<Incoming>> for Announced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: http::Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.via);
        self.service.call(request)
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
async fn http<S, I>(stream: I, service: S, mut stop: Stop)
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
    let stream = TokioIo::new(Patience::new(stream, HEADER_TIMEOUT));
    let connection = server.serve_connection_with_upgrades(stream, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = stop.wait() => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    /// How long requests in these tests may go on.
    const GRACE: Duration = Duration::from_secs(2);
    /// Nothing here takes longer, unless it hangs.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Answers `GET /` at once and everything else never, which it tells.
    fn service(arrived: Arc<Notify>) -> impl Service {
        hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let arrived = Arc::clone(&arrived);
            async move {
                if request.uri().path() != "/" {
                    arrived.notify_one();
                    std::future::pending::<()>().await;
                }
                let body = http_body_util::Full::from("answer").map_err(|never| match never {});
                Ok(http::Response::new(body.boxed_unsync()))
            }
        })
    }

    struct Running {
        address: SocketAddr,
        arrived: Arc<Notify>,
        stop: watch::Sender<bool>,
        serving: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Running {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let address = listener.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let arrived = Arc::new(Notify::new());
        let how = Stop { told: stopped, grace: GRACE };
        let serving = tokio::spawn(serve(vec![listener], service(Arc::clone(&arrived)), how));
        Running { address, arrived, stop, serving }
    }

    async fn ask(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_the_server_up() {
        let running = start().await;
        let mut client = ask(running.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = vec![0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200");
        let begun = tokio::time::Instant::now();
        running.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, running.serving).await.unwrap().unwrap();
        assert!(begun.elapsed() < GRACE, "it waited for an idle connection");
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_cut_when_the_drain_is_over() {
        let running = start().await;
        let mut client = ask(running.address, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
        running.arrived.notified().await;
        running.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, running.serving).await.unwrap().unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_say_what_it_wants_is_hung_up_on() {
        for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "PRI", "GET / HTTP/1.1\r\n"] {
            let (mut client, server) = tokio::io::duplex(1024);
            let (_stop, told) = watch::channel(false);
            let how = Stop { told, grace: GRACE };
            let serving = tokio::spawn(http(server, service(Arc::default()), how));
            client.write_all(beginning.as_bytes()).await.unwrap();
            // The clock goes forward by itself while nothing happens.
            let ended = tokio::time::timeout(2 * HEADER_TIMEOUT, serving).await;
            assert!(ended.is_ok(), "{beginning:?} held its connection");
        }
    }

    #[tokio::test]
    async fn a_header_without_an_end_is_refused() {
        let running = start().await;
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(2 * MAX_HEADER_BYTES));
        let mut client = TcpStream::connect(running.address).await.unwrap();
        // The server may hang up before it has read all of that.
        let _sent = client.write_all(endless.as_bytes()).await;
        let mut answer = Vec::new();
        let _end = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_error() {
        let running = start().await;
        let error = Listener::bind(running.address, None).await.err().unwrap();
        assert!(error.to_string().contains(&running.address.to_string()), "{error}");
    }
}
