//! The connection of one connector: this side is the client of HTTP/2, and every answer is hostile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_egress::{TunnelError, TunnelStream};
use courier_protocol::node::{BoxError, ByteStream, ConnectorError, TunnelSlot};
use courier_protocol::v1::{
    TUNNEL_DOMAIN, TUNNEL_HEADER_BYTES, TUNNEL_STREAMS_MAX, TUNNEL_WINDOW_BYTES,
    TUNNEL_WINDOWS_BYTES,
};
use courier_types::egress::TunnelName;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::{Request, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::connectors::Reserved;
use super::stream::ConnectorConnection;

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

/// Streams that are remembered after we cancelled them: the connector may have sent to them in good
/// faith.
const CANCELLED_MAX: usize = 8 * TUNNEL_STREAMS_MAX as usize;

/// The way through a connected connector.
#[derive(Debug, Clone)]
pub(super) struct Way {
    sender: SendRequest<Bytes>,
    permits: Arc<Semaphore>,
    port: u16,
}

impl Way {
    /// A new connection to the service behind the connector.
    pub(super) async fn open(
        self,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError> {
        let Self { sender, permits, port } = self;
        let failed = |source| TunnelError::Service { name: name.clone(), source };
        let permit = permits.try_acquire_owned().map_err(|_exhausted| {
            failed(io::Error::other(format!("there are {TUNNEL_STREAMS_MAX} connections already")))
        })?;
        let request = Request::connect(format!("{name}.{TUNNEL_DOMAIN}:{port}"))
            .body(())
            .map_err(|error| failed(io::Error::other(error)))?;
        match tokio::time::timeout(OPEN_TIMEOUT, connect(sender, request)).await {
            Ok(Ok((StatusCode::OK, streams))) => {
                Ok(Box::new(ConnectorConnection::new(streams, permit)))
            }
            Ok(Ok((status, _streams))) => {
                Err(failed(io::Error::other(format!("the connector answered {status}"))))
            }
            Ok(Err(error)) if error.is_io() || error.is_go_away() => {
                Err(TunnelError::Disconnected { name: name.clone() })
            }
            Ok(Err(error)) => Err(failed(io::Error::other(error))),
            Err(_elapsed) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Sends a CONNECT and waits for its answer.
async fn connect(
    sender: SendRequest<Bytes>,
    request: Request<()>,
) -> Result<(StatusCode, (SendStream<Bytes>, RecvStream)), h2::Error> {
    let (answer, send) = sender.ready().await?.send_request(request, false)?;
    let answer = answer.await?;
    Ok((answer.status(), (send, answer.into_body())))
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
        let handshake = Builder::new()
            .initial_window_size(TUNNEL_WINDOW_BYTES)
            .initial_connection_window_size(TUNNEL_WINDOWS_BYTES)
            .initial_max_send_streams(usize::from(TUNNEL_STREAMS_MAX))
            .max_header_list_size(TUNNEL_HEADER_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_concurrent_reset_streams(CANCELLED_MAX)
            .enable_push(false)
            .handshake::<_, Bytes>(stream.compat());
        let (sender, mut connection) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|elapsed| ConnectorError::Connection(elapsed.into()))?
            .map_err(|error| ConnectorError::Connection(error.into()))?;
        let pings = connection.ping_pong().expect("nobody has taken it of a new connection");
        let permits = Arc::new(Semaphore::new(usize::from(TUNNEL_STREAMS_MAX)));
        self.0.connected(|port| Way { sender, permits, port });
        // The connection is driven here and nowhere else: it goes with this future.
        tokio::select! {
            ended = connection => ended.map_err(|error| ConnectorError::Connection(error.into())),
            error = silence(pings) => Err(ConnectorError::Connection(error)),
        }
    }
}

/// Waits until the connector gives no sign of life.
async fn silence(mut pings: PingPong) -> BoxError {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        match tokio::time::timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_pong)) => {}
            Ok(Err(error)) => return error.into(),
            Err(elapsed) => return elapsed.into(),
        }
    }
}
