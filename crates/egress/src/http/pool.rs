//! Connections to the upstream of one guest connection. They are reused for its requests, and for
//! nobody else's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use super::body::ProxyBody;
use super::guard::{HEAD_MAX, Host};
use super::outside::{ConnectError, Outside};
use super::room::Windows;
use crate::network::Tasks;
use crate::tls::Alpn;

/// Most connections that are kept idle: what one guest connection can need again at once.
const IDLE_MAX: usize = 8;

/// How long a connection may need to become ready after an answer; it is a matter of its task
/// getting to run. Dialling anew is the alternative.
const READY_WAIT: Duration = Duration::from_millis(100);

/// How much an HTTP/2 connection buffers per stream.
const SEND_BUFFER: usize = 64 * 1024;

/// How much an HTTP/1 connection buffers: a head and some content.
pub(super) const READ_BUFFER: usize = 2 * HEAD_MAX;

/// The connections.
pub(super) struct Pool {
    outside: Arc<dyn Outside>,
    windows: Windows,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Option<Shared>>,
    /// Held while it is not known whether the upstream speaks HTTP/2.
    dialling: tokio::sync::Mutex<()>,
    /// The upstream does not speak it.
    http1_only: AtomicBool,
}

/// An HTTP/1 connection between two requests.
struct Idle {
    host: Host,
    sender: http1::SendRequest<ProxyBody>,
    alive: Alive,
}

/// An HTTP/2 connection. There is one host in a TLS connection of the guest, so at most one of it.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<ProxyBody>,
    _alive: Arc<Alive>,
}

/// Keeps a connection's task running.
struct Alive(Tasks);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Runs what belongs to a connection in its group of tasks.
#[derive(Clone)]
pub(super) struct InGroup(pub(super) Tasks);

impl<F> Executor<F> for InGroup
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(async move {
            future.await;
        });
    }
}

impl Pool {
    /// Without connections.
    pub(super) fn new(outside: Arc<dyn Outside>, windows: Windows) -> Arc<Self> {
        Arc::new(Self {
            outside,
            windows,
            idle: Mutex::default(),
            shared: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
            http1_only: AtomicBool::new(false),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Option<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for one request: one that is there, or a new one.
    pub(super) async fn lease(
        self: &Arc<Self>,
        host: &Host,
        alpn: Alpn,
    ) -> Result<Lease, ConnectError> {
        if let Some(lease) = self.reuse(host, alpn).await {
            return Ok(lease);
        }
        if alpn == Alpn::Http1 || self.http1_only.load(Ordering::Relaxed) {
            return self.dial(host, alpn).await;
        }
        let _dialling = self.dialling.lock().await;
        match self.reuse(host, alpn).await {
            Some(lease) => Ok(lease),
            None => self.dial(host, alpn).await,
        }
    }

    /// A new connection for one request.
    pub(super) async fn dial(
        self: &Arc<Self>,
        host: &Host,
        alpn: Alpn,
    ) -> Result<Lease, ConnectError> {
        let connected = self.outside.connect(host, alpn).await?;
        let tasks = self.outside.tasks().child();
        let io = TokioIo::new(connected.stream);
        let failed = |_error: hyper::Error| ConnectError {
            text: "the server does not speak HTTP".to_owned(),
            refusal: None,
        };
        let sender = if connected.speaks_http2 {
            let (sender, connection) = http2::Builder::new(InGroup(tasks.clone()))
                .timer(TokioTimer::new())
                .max_header_list_size(HEAD_MAX as u32)
                .max_send_buf_size(SEND_BUFFER)
                .initial_stream_window_size(self.windows.of_answer())
                .initial_connection_window_size(self.windows.of_answers())
                .handshake(io)
                .await
                .map_err(failed)?;
            tasks.spawn(async move {
                // Its end shows in the requests on it.
                let _ended = connection.await;
            });
            let shared = Shared { sender, _alive: Arc::new(Alive(tasks)) };
            self.shared().replace(shared.clone());
            Sender::Http2(shared)
        } else {
            self.http1_only.store(true, Ordering::Relaxed);
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(READ_BUFFER)
                .handshake(io)
                .await
                .map_err(failed)?;
            tasks.spawn(async move {
                let _ended = connection.with_upgrades().await;
            });
            Sender::Http1 { sender, alive: Alive(tasks) }
        };
        Ok(self.lent(host, sender, Freshness::New))
    }

    fn lent(self: &Arc<Self>, host: &Host, sender: Sender, freshness: Freshness) -> Lease {
        Lease { pool: Arc::downgrade(self), host: host.clone(), sender, freshness }
    }

    async fn reuse(self: &Arc<Self>, host: &Host, alpn: Alpn) -> Option<Lease> {
        if alpn == Alpn::Http2OrHttp1 {
            let shared = self.shared().clone();
            if let Some(mut shared) = shared
                && shared.sender.ready().await.is_ok()
            {
                return Some(self.lent(host, Sender::Http2(shared), Freshness::Used));
            }
        }
        loop {
            let Idle { mut sender, alive, .. } = self.take_idle(host)?;
            if let Ok(Ok(())) = timeout(READY_WAIT, sender.ready()).await {
                return Some(self.lent(host, Sender::Http1 { sender, alive }, Freshness::Used));
            }
        }
    }

    fn take_idle(&self, host: &Host) -> Option<Idle> {
        let mut idle = self.idle();
        let last = idle.iter().rposition(|idle| idle.host == *host)?;
        Some(idle.remove(last))
    }
}

/// A connection for one request at a time, or for many.
enum Sender {
    Http1 { sender: http1::SendRequest<ProxyBody>, alive: Alive },
    Http2(Shared),
}

/// Whether a connection has already been used: the upstream may have closed it in the meantime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Just made.
    New,
    /// Used before.
    Used,
}

/// A connection, for one request. Dropped, it is closed; see [`Lease::give_back`].
pub(super) struct Lease {
    pool: Weak<Pool>,
    host: Host,
    sender: Sender,
    freshness: Freshness,
}

impl Lease {
    /// True for HTTP/2.
    pub(super) const fn speaks_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether it was used before.
    pub(super) const fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Sends the request, and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<ProxyBody>,
    ) -> Result<Response<Incoming>, Box<TrySendError<Request<ProxyBody>>>> {
        match &mut self.sender {
            Sender::Http1 { sender, .. } => Box::pin(sender.try_send_request(request)).await,
            Sender::Http2(shared) => Box::pin(shared.sender.try_send_request(request)).await,
        }
        .map_err(Box::new)
    }

    /// The request on it is over: the next may come.
    pub(super) fn give_back(self) {
        let Sender::Http1 { sender, alive } = self.sender else { return };
        let Some(pool) = self.pool.upgrade() else { return };
        let mut idle = pool.idle();
        if !sender.is_closed() && idle.len() < IDLE_MAX {
            idle.push(Idle { host: self.host, sender, alive });
        }
    }

    /// What keeps the connection's task running, for as long as the connection is something else.
    pub(super) fn into_tunnel(self) -> impl Send + 'static {
        self.sender
    }
}
