//! The connection of one connector: this side is the client of HTTP/2, and every answer is hostile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_egress::{TunnelError, TunnelStream};
use courier_protocol::node::{ByteStream, ConnectorError, TunnelSlot};
use courier_protocol::v1::{
    TUNNEL_DOMAIN, TUNNEL_HEADER_BYTES, TUNNEL_STREAMS_MAX, TUNNEL_WINDOW_BYTES,
    TUNNEL_WINDOWS_BYTES,
};
use courier_types::egress::TunnelName;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;
use tokio_util::sync::CancellationToken;

use super::connectors::Reserved;
use super::guarded::Guarded;
use super::tasks::Tasks;

/// How long a connector may take to answer that the service has accepted or not. Shorter than a
/// sandbox waits, so that the sandbox's flow log says which of the two was slow.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the beginning of HTTP/2 may take to go out.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connector is asked for a sign of life this often, whether or not anything goes through it:
/// middleboxes forget connections that are silent for a minute.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Without a sign of life for this long, a connector is dead and its name free.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes that wait to be sent in one stream.
const SEND_BUFFER_BYTES: usize = 64 * 1_024;

/// Tasks of one connection: its own, and for each stream those of its beginning, its life and its
/// end, with as much again for ends that wait for the connector.
const TASKS_MAX: usize = 1 + 4 * TUNNEL_STREAMS_MAX as usize;

/// Streams that are remembered after we cancelled them: the connector may have sent to them in good
/// faith.
const CANCELLED_MAX: usize = 8 * TUNNEL_STREAMS_MAX as usize;

/// The way through a connected connector.
#[derive(Debug, Clone)]
pub(super) struct Way {
    sender: SendRequest<Empty<Bytes>>,
    permits: Arc<Semaphore>,
    port: u16,
}

impl Way {
    /// A new connection to the service behind the connector.
    pub(super) async fn open(
        mut self,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError> {
        let failed = |source| TunnelError::Service { name: name.clone(), source };
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_exhausted| {
            failed(io::Error::other(format!("there are {TUNNEL_STREAMS_MAX} connections already")))
        })?;
        let request = Request::connect(format!("{name}.{TUNNEL_DOMAIN}:{}", self.port))
            .body(Empty::new())
            .map_err(|error| failed(io::Error::other(error)))?;
        let sent = self.sender.send_request(request);
        let answer = match tokio::time::timeout(OPEN_TIMEOUT, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if self.sender.is_closed() => {
                return Err(TunnelError::Disconnected { name: name.clone() });
            }
            Ok(Err(error)) => return Err(failed(io::Error::other(error))),
            Err(_elapsed) => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        if answer.status() != StatusCode::OK {
            let said = format!("the connector answered {}", answer.status());
            return Err(failed(io::Error::other(said)));
        }
        // The answer is there, so nothing is waited for.
        let stream = hyper::upgrade::on(answer).await;
        let stream = stream.map_err(|error| failed(io::Error::other(error)))?;
        Ok(Box::new(Guarded::new(TokioIo::new(stream), permit)))
    }
}

/// The name that a connector has while it is connected.
#[derive(Debug)]
pub(super) struct Slot(Reserved);

impl Slot {
    pub(super) const fn new(reserved: Reserved) -> Self {
        Self(reserved)
    }
}

#[async_trait]
impl TunnelSlot for Slot {
    async fn serve(mut self: Box<Self>, stream: Box<dyn ByteStream>) -> Result<(), ConnectorError> {
        let cut = CancellationToken::new();
        let _all_ends_with_this = cut.clone().drop_guard();
        let handshake = Builder::new(Tasks::new(cut.clone(), TASKS_MAX))
            .timer(TokioTimer::new())
            .initial_stream_window_size(TUNNEL_WINDOW_BYTES)
            .initial_connection_window_size(TUNNEL_WINDOWS_BYTES)
            .initial_max_send_streams(usize::from(TUNNEL_STREAMS_MAX))
            .max_header_list_size(TUNNEL_HEADER_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_concurrent_reset_streams(CANCELLED_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream.compat()));
        let (sender, connection) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|elapsed| ConnectorError::Connection(elapsed.into()))?
            .map_err(|error| ConnectorError::Connection(error.into()))?;
        let permits = Arc::new(Semaphore::new(usize::from(TUNNEL_STREAMS_MAX)));
        self.0.connected(|port| Way { sender, permits, port });
        tokio::select! {
            biased;
            () = cut.cancelled() => Err(ConnectorError::Unfinished),
            ended = connection => {
                ended.map_err(|error| ConnectorError::Connection(error.into()))
            }
        }
    }
}
