//! Connections to the outside for HTTP: to the address that the guest went to, in TLS that has been
//! verified before anybody can write to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use courier_types::egress::{FlowRefusal, HostName};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Conversation;
use crate::dial::{DialError, Stream};
use crate::policy::Scheme;
use crate::tls::Alpn;
use crate::tls::ca::H2;

/// Longest TLS handshake with an upstream.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to write a request to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection.
    #[error("there is no connection to the server")]
    Dial(#[from] DialError),
    /// The name cannot be a server's.
    #[error("the name cannot be verified in TLS")]
    Name,
    /// The server is not whom it should be, or does not speak TLS that we do.
    #[error("the server's TLS was refused")]
    Tls(#[source] io::Error),
    /// The handshake took too long.
    #[error("the server did not complete TLS within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

impl UpstreamError {
    /// What the flow log says where a fence refused; `None` where the outside failed.
    pub(crate) fn refusal(&self) -> Option<FlowRefusal> {
        match self {
            Self::Dial(error) => error.refusal(),
            Self::Name | Self::Tls(_) => Some(FlowRefusal::new("upstream_tls", self.text())),
            Self::Timeout => None,
        }
    }

    /// What the flow log and the guest are told: what failed, without anything of the host's.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Dial(error) => error.text(),
            Self::Name | Self::Timeout => self.to_string(),
            Self::Tls(error) => {
                match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                    Some(reason) => format!("{self}: {reason}"),
                    None => format!("{self}: {}", error.kind()),
                }
            }
        }
    }
}

/// A connection to write requests to.
pub(crate) struct Upstream {
    stream: Inner,
    speaks_http2: bool,
}

enum Inner {
    Clear(Box<dyn Stream>),
    Tls(Box<TlsStream<Box<dyn Stream>>>),
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("http2", &self.speaks_http2).finish_non_exhaustive()
    }
}

impl Upstream {
    /// True when the server chose HTTP/2; else it is HTTP/1.1.
    pub(crate) const fn speaks_http2(&self) -> bool {
        self.speaks_http2
    }

    fn stream(&mut self) -> Pin<&mut dyn Stream> {
        match &mut self.stream {
            Inner::Clear(stream) => Pin::new(stream),
            Inner::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

/// Connects to where the conversation leads. In TLS the server has proved that it is `host`, or the
/// address where there is no name, before this returns.
pub(crate) async fn upstream(
    conversation: &Conversation,
    host: Option<&HostName>,
    alpn: Alpn,
) -> Result<Upstream, UpstreamError> {
    let context = &conversation.context;
    let address = conversation.address;
    let dialer = context.dialer();
    let stream = Box::pin(dialer.dial(address, host)).await?;
    if conversation.scheme == Scheme::Http {
        return Ok(Upstream { stream: Inner::Clear(stream), speaks_http2: false });
    }
    let name = match host {
        Some(host) => ServerName::try_from(host.as_str().to_owned())
            .map_err(|_no_name| UpstreamError::Name)?,
        None => ServerName::from(*address.ip()),
    };
    let handshake = TlsConnector::from(context.trust.client(alpn)).connect(name, stream);
    let handshake = timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await;
    let stream = handshake.map_err(|_elapsed| UpstreamError::Timeout)?;
    let stream = stream.map_err(UpstreamError::Tls)?;
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(H2);
    Ok(Upstream { stream: Inner::Tls(Box::new(stream)), speaks_http2 })
}

impl AsyncRead for Upstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Inner::Clear(stream) => stream.is_write_vectored(),
            Inner::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
