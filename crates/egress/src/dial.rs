//! Connections to the outside. What was decided is what is dialled: an address, never a name.
//!
//! Right before each connect the reach guard is asked about exactly the address of that connect. A
//! sandbox with a proxy of its own goes through it or nowhere.

mod held;
mod proxy;
mod reach;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use courier_types::egress::{FlowRefusal, HostName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub(crate) use self::held::Descriptors;
use self::held::Held;
pub(crate) use self::proxy::Proxy;
pub use self::proxy::ProxyError;
use self::proxy::TunnellingError;
pub use self::reach::{PermitError, Reach, ReachError};

/// Longest wait for a connection, a proxy's part included. A program inside that connects waits as
/// long; Linux by itself gives up after two minutes, which holds our resources for too long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most connections of one sandbox that are being made: with [`CONNECT_TIMEOUT`], a scan of
/// addresses that do not answer goes no faster than 13 a second.
const PENDING_MAX: usize = 128;

/// Most open connections of one sandbox to the outside: one descriptor of the node's each. Twice
/// what is promised to work.
const OPEN_MAX: usize = 1_024;

/// A connection to the outside.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address is out of reach. Nothing was sent.
    #[error("refused")]
    Reach(#[from] ReachError),
    /// The sandbox has too many connections. Its own fault; nothing was sent.
    #[error("the sandbox has {OPEN_MAX} connections to the outside")]
    TooMany,
    /// All sandboxes together have too many connections. Nothing was sent.
    #[error("the node has no more connections to the outside to give")]
    NoneLeft,
    /// There was no answer in time. The upstream's fault.
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The upstream does not take the connection, or there is no way to it.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The sandbox's proxy did not connect. The proxy's fault; nothing went past it.
    #[error("the sandbox's own proxy does not connect")]
    Proxy(#[source] TunnellingError),
}

impl DialError {
    /// What the flow log says where a fence refused; `None` where the outside failed.
    pub(crate) fn refusal(&self) -> Option<FlowRefusal> {
        match self {
            Self::Reach(error) => Some(FlowRefusal::new("address", error.to_string())),
            Self::TooMany | Self::NoneLeft => Some(FlowRefusal::new("limit", self.to_string())),
            Self::Timeout | Self::Connect(_) | Self::Proxy(_) => None,
        }
    }

    /// What the flow log and the guest are told: what failed, without anything of the host's.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Reach(error) => error.to_string(),
            Self::TooMany | Self::NoneLeft | Self::Timeout => self.to_string(),
            Self::Connect(error) => format!("cannot connect: {}", error.kind()),
            Self::Proxy(error) => match error {
                TunnellingError::Resolve(_) | TunnellingError::Tls(_) => error.to_string(),
                TunnellingError::Reach(source) => format!("{error}: {source}"),
                TunnellingError::Connect(source) => format!("{error}: {}", source.kind()),
                TunnellingError::Socks(tokio_socks::Error::Io(source)) => {
                    format!("{error}: {}", source.kind())
                }
                TunnellingError::Socks(source) => format!("{error}: {source}"),
            },
        }
    }
}

/// Dials for one sandbox. Clones share its limits.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    reach: Reach,
    proxy: Option<Arc<Proxy>>,
    pending: Arc<Semaphore>,
    open: Arc<Semaphore>,
    descriptors: Descriptors,
}

impl Dialer {
    /// Dials directly, with descriptors that other sandboxes have too.
    pub(crate) fn new(reach: Reach, descriptors: Descriptors) -> Self {
        let (pending, open) = (Semaphore::new(PENDING_MAX), Semaphore::new(OPEN_MAX));
        let (pending, open) = (Arc::new(pending), Arc::new(open));
        Self { reach, proxy: None, pending, open, descriptors }
    }

    /// The same dialer, with the same limits, through that proxy or directly.
    pub(crate) fn with_proxy(&self, proxy: Option<Proxy>) -> Self {
        Self { proxy: proxy.map(Arc::new), ..self.clone() }
    }

    /// A connection to exactly that address. `host` is the name that was decided on: private
    /// addresses of a host that the node's configuration names are within reach.
    pub(crate) async fn dial(
        &self,
        to: SocketAddrV4,
        host: Option<&HostName>,
    ) -> Result<Box<dyn Stream>, DialError> {
        let open = Arc::clone(&self.open).try_acquire_owned();
        let open = open.map_err(|_none_left| DialError::TooMany)?;
        let descriptor = self.descriptors.take().ok_or(DialError::NoneLeft)?;
        let connecting = timeout(CONNECT_TIMEOUT, self.connect(to, host)).await;
        let stream = connecting.map_err(|_elapsed| DialError::Timeout)??;
        Ok(Box::new(Held::new(stream, [open, descriptor])))
    }

    async fn connect(
        &self,
        to: SocketAddrV4,
        host: Option<&HostName>,
    ) -> Result<Box<dyn Stream>, DialError> {
        // Only a closed semaphore has no permits to come, and nobody closes this one.
        let _pending = self.pending.acquire().await.map_err(|_closed| DialError::TooMany)?;
        self.reach.check_dialled(to, host)?;
        match &self.proxy {
            None => Ok(Box::new(connect(to).await.map_err(DialError::Connect)?)),
            Some(proxy) => proxy.connect(to, &self.reach).await.map_err(DialError::Proxy),
        }
    }
}

/// A connection that sends small writes at once: what waits for more is the sender's business.
async fn connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::V4(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
