//! The server that a connector connects to, and how it gets in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use courier_protocol::node::BoxError;
use courier_protocol::v1::{CONNECTOR_PROTOCOL, connector_path};
use courier_types::egress::TunnelName;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::folder::Folder;
use crate::output;

/// A connection to the server.
pub(super) type Connection = TokioIo<Upgraded>;

/// How long the server may take to accept a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of an error answer is read.
const REFUSAL_MAX_BYTES: usize = 16 * 1_024;

/// How much of it is shown, in characters.
const MESSAGE_MAX: usize = 500;

/// The protocol inside TLS: an upgrade is a thing of HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// Why a connector is not connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody answers.
    #[error("the server at {url} cannot be reached")]
    Unreachable {
        /// The server.
        url: String,
        /// What was met.
        #[source]
        source: BoxError,
    },
    /// It said no.
    #[error("the server at {url} refuses the connector ({status}): {message}")]
    Refused {
        /// The server.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// Its answer is none.
    #[error("the server at {url} does not take connectors; is it a courier server?")]
    Odd {
        /// The server.
        url: String,
        /// What was met.
        #[source]
        source: BoxError,
    },
}

/// Whether it is worth to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is not.
    Never,
    /// It is: what was wrong passes.
    Later,
    /// Another connector has the name, or had it.
    Taken,
}

impl ConnectError {
    /// Whether it is worth to ask again.
    pub(crate) fn admission(&self) -> Admission {
        match self {
            Self::Unreachable { .. } => Admission::Later,
            Self::Refused { status: StatusCode::CONFLICT, .. } => Admission::Taken,
            Self::Refused {
                status: StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT,
                ..
            } => Admission::Later,
            Self::Refused { status, .. } if status.is_server_error() => Admission::Later,
            Self::Refused { .. } | Self::Odd { .. } => Admission::Never,
        }
    }
}

/// A server and a key for it.
pub(crate) struct Server {
    /// Scheme, host and port, as they are shown.
    url: String,
    host: String,
    port: u16,
    /// What stands before our paths, where a proxy stands before the server.
    base: String,
    key: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Server {
    /// The server that the user named, or the one that runs for the data folder.
    pub(crate) fn find(config: &Config, ca: &[PathBuf]) -> anyhow::Result<Self> {
        let folder = Folder::new(&config.data);
        let url = match &config.url {
            Some(url) => url.clone(),
            None => {
                let running = folder.running_server()?;
                running.map(|info| info.url).context("name the server with --url URL")?
            }
        };
        let key = match &config.api_key {
            Some(key) => Some(key.clone()),
            None => folder.read_api_key()?,
        };
        let key = key.with_context(|| {
            format!("there is no API key for {url}: set COURIER_API_KEY to one of its keys")
        })?;
        Self::new(&url, &key, ca)
    }

    /// A server by address and key; `ca` are files of certificates to trust beside the machine's.
    pub(crate) fn new(url: &str, key: &str, ca: &[PathBuf]) -> anyhow::Result<Self> {
        let uri: Option<Uri> = url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).filter(|host| !host.is_empty());
        let (Some(uri), Some(host)) = (&uri, host) else {
            anyhow::bail!("{url:?} is not the address of a server: use https://HOST[:PORT]");
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (default_port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let name = ServerName::try_from(host.clone())
                    .with_context(|| format!("{host:?} is not the name of a server"))?;
                (443, Some((TlsConnector::from(trust(ca)?), name)))
            }
            Some(_) | None => {
                anyhow::bail!("{url:?} is not the address of a server: use https://HOST[:PORT]")
            }
        };
        let mut key = HeaderValue::try_from(key).context("the API key cannot be sent")?;
        key.set_sensitive(true);
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            host,
            port: uri.port_u16().unwrap_or(default_port),
            base: uri.path().trim_end_matches('/').to_owned(),
            key,
            tls,
        })
    }

    /// True where others on the way can read all of it.
    pub(crate) fn is_open_to_listeners(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        let here = self.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        self.tls.is_none() && !here
    }

    /// Takes a name.
    pub(crate) async fn connect(
        &self,
        name: &TunnelName,
        port: u16,
    ) -> Result<Connection, ConnectError> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.open());
        let stream = stream.await.map_err(|elapsed| self.unreachable(elapsed))?;
        let stream = stream.map_err(|source| self.unreachable(source))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(stream, name, port));
        answer.await.map_err(|elapsed| self.unreachable(elapsed))?
    }

    async fn open(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some((tls, name)) => Box::new(tls.connect(name.clone(), stream).await?),
        })
    }

    async fn ask(
        &self,
        stream: Box<dyn Stream>,
        name: &TunnelName,
        port: u16,
    ) -> Result<Connection, ConnectError> {
        let broken = |source: hyper::Error| self.unreachable(source);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        let request = self.request(name, port).map_err(|source| self.odd(source))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refused(answer).await);
        }
        let upgrade = answer.headers().get(header::UPGRADE);
        if upgrade.is_none_or(|value| value != CONNECTOR_PROTOCOL) {
            return Err(self.odd("it turned to another protocol"));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|source| self.odd(source))?;
        Ok(TokioIo::new(upgraded))
    }

    fn request(&self, name: &TunnelName, port: u16) -> http::Result<Request<Empty<Bytes>>> {
        let host = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        Request::builder()
            .method(Method::POST)
            .uri(format!("{}{}", self.base, connector_path(name, port)))
            .header(header::HOST, host)
            .header("x-api-key", self.key.clone())
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, CONNECTOR_PROTOCOL)
            .body(Empty::new())
    }

    async fn refused(&self, answer: Response<Incoming>) -> ConnectError {
        #[derive(serde::Deserialize)]
        struct Said {
            message: String,
        }
        let status = answer.status();
        let body = Limited::new(answer.into_body(), REFUSAL_MAX_BYTES).collect().await;
        let said = body.ok().and_then(|body| serde_json::from_slice::<Said>(&body.to_bytes()).ok());
        let message = said.map_or_else(|| "it does not say why".to_owned(), |said| said.message);
        let message: String = message.chars().take(MESSAGE_MAX).collect();
        ConnectError::Refused {
            url: self.url.clone(),
            status,
            message: output::printable_name(&message),
        }
    }

    fn unreachable(&self, source: impl Into<BoxError>) -> ConnectError {
        ConnectError::Unreachable { url: self.url.clone(), source: source.into() }
    }

    fn odd(&self, source: impl Into<BoxError>) -> ConnectError {
        ConnectError::Odd { url: self.url.clone(), source: source.into() }
    }
}

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The machine's CA certificates and those of the files.
fn trust(ca: &[PathBuf]) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // Machines have broken certificates among good ones; each missing one only means less trust.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in ca {
        add(&mut roots, path)
            .with_context(|| format!("--ca {} holds no usable CA certificates", path.display()))?;
    }
    anyhow::ensure!(!roots.is_empty(), "this machine trusts no CA: give one with --ca FILE");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn add(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    let mut count = 0_usize;
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
        count = count.saturating_add(1);
    }
    anyhow::ensure!(count > 0, "there is no PEM certificate in it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_or_https_and_names_a_host() {
        for (url, host, port, open) in [
            ("http://127.0.0.1:3000", "127.0.0.1", 3_000, false),
            ("http://[::1]:3000/", "::1", 3_000, false),
            ("http://a.test", "a.test", 80, true),
            ("https://a.test/courier/", "a.test", 443, false),
        ] {
            let server = Server::new(url, "key", &[]).unwrap();
            let got = (server.host.as_str(), server.port, server.is_open_to_listeners());
            assert_eq!(got, (host, port, open), "{url}");
        }
        for url in ["", "a.test", "ftp://a.test", "http://", "https:///x"] {
            assert!(Server::new(url, "key", &[]).is_err(), "{url}");
        }
        let behind = Server::new("https://a.test/courier/", "key", &[]).unwrap();
        let request = behind.request(&"db".parse().unwrap(), 1).unwrap();
        assert_eq!(request.uri(), "/courier/v1/tunnels/db/connector?port=1");
        assert!(request.headers()["x-api-key"].is_sensitive());
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let refused = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            ConnectError::Refused { url: String::new(), status, message: String::new() }
        };
        for (status, admission) in [
            (400, Admission::Never),
            (401, Admission::Never),
            (404, Admission::Never),
            (409, Admission::Taken),
            (429, Admission::Later),
            (503, Admission::Later),
        ] {
            assert_eq!(refused(status).admission(), admission, "{status}");
        }
    }
}
