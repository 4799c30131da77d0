//! One GET over one connection of its own: what is dialled is what [`Dial`] allows, what is read is
//! bounded in size and time. Follows nothing and knows no logins.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};

use super::dial::{Dial, DialError, Endpoint, Standing, Stream};

/// Most bytes of an answer's head, and of what is read ahead of its body.
const BUFFER: usize = 64 * 1024;
/// As whom we ask.
const USER_AGENT: &str = concat!("courier/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer, or no end of it.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// No connection.
    #[error("cannot connect to {at}")]
    Dial {
        /// Where to.
        at: String,
        /// What was met.
        #[source]
        source: DialError,
    },
    /// An address that cannot be asked: no http or https, a user in it, or no usable host.
    #[error("it leads to an address that is not followed")]
    Address,
    /// No TLS.
    #[error("TLS with {at} failed")]
    Tls {
        /// With whom.
        at: String,
        /// What was met.
        #[source]
        source: std::io::Error,
    },
    /// A host that no certificate could have.
    #[error("the host has a name that cannot be checked")]
    Name(#[source] InvalidDnsNameError),
    /// A request that cannot be written.
    #[error("the request cannot be written")]
    Request(#[source] http::Error),
    /// No HTTP, or a connection that broke.
    #[error("the connection broke, or is no HTTP/1.1")]
    Http(#[source] hyper::Error),
    /// Nothing came.
    #[error("nothing came for {} s", .waited.as_secs())]
    Quiet {
        /// How long nothing came.
        waited: Duration,
    },
    /// It came too slowly.
    #[error("it took longer than {} s", .allowed.as_secs())]
    Slow {
        /// How long it might have taken.
        allowed: Duration,
    },
    /// More than a document of its kind may have.
    #[error("it has more than {most} bytes")]
    TooLarge {
        /// How many it may have.
        most: u64,
    },
}

impl WebError {
    /// Whether the same may succeed a moment later.
    pub(super) const fn passes(&self) -> bool {
        match self {
            Self::Dial { source: DialError::OutOfReach(_), .. }
            | Self::Address
            | Self::Name(_)
            | Self::Request(_)
            | Self::Slow { .. }
            | Self::TooLarge { .. } => false,
            Self::Dial { source: DialError::Failed { .. }, .. }
            | Self::Tls { .. }
            | Self::Http(_)
            | Self::Quiet { .. } => true,
        }
    }
}

/// Asks.
#[derive(Debug, Clone)]
pub(super) struct Web {
    dial: Arc<dyn Dial>,
    tls: Arc<ClientConfig>,
    quiet: Duration,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
    quiet: Duration,
    /// Moves the bytes; ends with the answer.
    _connection: AbortOnDropHandle<()>,
}

impl Web {
    pub(super) const fn new(dial: Arc<dyn Dial>, tls: Arc<ClientConfig>, quiet: Duration) -> Self {
        Self { dial, tls, quiet }
    }

    /// The answer to a GET, whatever it says.
    pub(super) async fn get(
        &self,
        url: &Url,
        standing: Standing,
        headers: HeaderMap,
    ) -> Result<Answer, WebError> {
        let asked = timeout(self.quiet, self.ask(url, standing, headers)).await;
        asked.map_err(|_elapsed| WebError::Quiet { waited: self.quiet })?
    }

    async fn ask(
        &self,
        url: &Url,
        standing: Standing,
        headers: HeaderMap,
    ) -> Result<Answer, WebError> {
        let at = Endpoint::of(url).ok_or(WebError::Address)?;
        let request = request(url, headers).map_err(WebError::Request)?;
        let tcp = self.dial.connect(&at, standing).await;
        let tcp = tcp.map_err(|source| WebError::Dial { at: at.to_string(), source })?;
        let stream: Box<dyn Stream> = if url.scheme() == "https" {
            let name = ServerName::try_from(at.host.to_string()).map_err(WebError::Name)?;
            let connecting = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp);
            let tls = connecting.await;
            Box::new(tls.map_err(|source| WebError::Tls { at: at.to_string(), source })?)
        } else {
            tcp
        };
        let mut client = hyper::client::conn::http1::Builder::new();
        client.max_buf_size(BUFFER);
        let shaken = client.handshake(TokioIo::new(stream)).await.map_err(WebError::Http)?;
        let (mut sender, connection) = shaken;
        // What breaks the connection is met by whoever reads the answer.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let connection = AbortOnDropHandle::new(connection);
        let answer = sender.send_request(request).await.map_err(WebError::Http)?;
        let (parts, body) = answer.into_parts();
        let (status, headers) = (parts.status, parts.headers);
        Ok(Answer { status, headers, body, quiet: self.quiet, _connection: connection })
    }
}

impl Answer {
    /// A header's value as text.
    pub(super) fn text(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the body says it is.
    pub(super) fn length(&self) -> Option<u64> {
        self.text(&header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The next piece of the body.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, WebError> {
        loop {
            let frame = timeout(self.quiet, self.body.frame()).await;
            let frame = frame.map_err(|_elapsed| WebError::Quiet { waited: self.quiet })?;
            let Some(frame) = frame.transpose().map_err(WebError::Http)? else { return Ok(None) };
            // Trailers say nothing that is wanted here.
            if let Ok(piece) = frame.into_data() {
                return Ok(Some(piece));
            }
        }
    }

    /// All of the body.
    pub(super) async fn whole(mut self, most: u64) -> Result<Vec<u8>, WebError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
            if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
                return Err(WebError::TooLarge { most });
            }
        }
        Ok(bytes)
    }
}

fn request(url: &Url, headers: HeaderMap) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(&url[Position::BeforePath..Position::AfterQuery]);
    if let Some(all) = request.headers_mut() {
        *all = headers;
        // As the parser of addresses writes it: with the port where it is not the scheme's own.
        let host = HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort])?;
        all.insert(header::HOST, host);
        all.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        all.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    request.body(Empty::new())
}
