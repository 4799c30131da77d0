//! The SOCKS5 proxy of a user's own (RFC 1928, RFC 1929), through which everything goes or nothing.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use courier_types::egress::{HostName, UpstreamProxy};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_socks::tcp::Socks5Stream;

use super::{ReachError, Stream, connect};
use crate::Reach;
use crate::dns::{ResolveError, Resolver};
use crate::tls::{Alpn, TrustError, UpstreamTrust};

/// Longest user name or password in bytes (RFC 1929, section 2).
const CREDENTIAL_MAX: usize = 255;

/// Why a proxy's settings are of no use. The fault of whoever set them.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not `HOST:PORT`.
    #[error("the proxy's address is not HOST:PORT with a host name or IPv4 address")]
    Address,
    /// A user name without a password, or one that is too long for the protocol.
    #[error("the proxy's user name and password come together, 1 to {CREDENTIAL_MAX} bytes each")]
    Credentials,
    /// A server name that no certificate can have.
    #[error("the proxy's server name is no host name")]
    ServerName,
    /// Its CA certificate.
    #[error("the proxy's CA certificate is of no use")]
    Certificate(#[source] TrustError),
}

/// Why a connection through the proxy did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnellingError {
    /// The proxy's name has no address.
    #[error("the proxy's name does not resolve")]
    Resolve(#[source] ResolveError),
    /// The proxy is out of reach.
    #[error("the proxy is out of reach")]
    Reach(#[source] ReachError),
    /// The proxy does not take connections.
    #[error("the proxy does not take the connection")]
    Connect(#[source] io::Error),
    /// TLS to the proxy failed.
    #[error("the proxy's TLS failed")]
    Tls(#[source] io::Error),
    /// The proxy refused, or does not speak SOCKS5.
    #[error("the proxy does not connect")]
    Socks(#[source] tokio_socks::Error),
}

/// Where the proxy is.
#[derive(Debug, Clone)]
enum ProxyHost {
    Name(HostName),
    Address(Ipv4Addr),
}

/// TLS to the proxy.
#[derive(Clone)]
struct ProxyTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A proxy that is ready for use.
#[derive(Clone)]
pub(crate) struct Proxy {
    host: ProxyHost,
    port: u16,
    login: Option<(String, String)>,
    tls: Option<ProxyTls>,
    resolver: Resolver,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls, .. } = self;
        let tls = tls.is_some();
        f.debug_struct("Proxy").field("host", host).field("port", port).field("tls", &tls).finish()
    }
}

impl Proxy {
    /// Takes the settings apart. `resolver` is the node's; `trust` is for TLS to a proxy without a
    /// CA certificate of its own.
    pub(crate) fn new(
        settings: &UpstreamProxy,
        resolver: Resolver,
        trust: &UpstreamTrust,
    ) -> Result<Self, ProxyError> {
        let (host, port) = settings.address.rsplit_once(':').ok_or(ProxyError::Address)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port: &u16| digits && *port > 0);
        let port = port.ok_or(ProxyError::Address)?;
        let host = match host.parse::<Ipv4Addr>() {
            Ok(address) => ProxyHost::Address(address),
            Err(_no_address) => {
                ProxyHost::Name(host.parse().map_err(|_no_name| ProxyError::Address)?)
            }
        };
        let tls = match &settings.tls {
            None => None,
            Some(tls) => {
                let name = match (&tls.server_name, &host) {
                    (Some(name), _) => ServerName::try_from(name.clone()),
                    (None, ProxyHost::Name(name)) => ServerName::try_from(name.to_string()),
                    (None, ProxyHost::Address(address)) => Ok(ServerName::from(*address)),
                };
                let name = name.map_err(|_no_name| ProxyError::ServerName)?;
                Some(ProxyTls { config: client_config(tls.ca_cert.as_deref(), trust)?, name })
            }
        };
        Ok(Self { host, port, login: login(settings)?, tls, resolver })
    }

    /// A connection through the proxy to exactly that address, which has passed the reach guard.
    pub(super) async fn connect(
        &self,
        to: SocketAddrV4,
        reach: &Reach,
    ) -> Result<Box<dyn Stream>, TunnellingError> {
        let tcp = self.reach_proxy(reach).await?;
        let Some(tls) = &self.tls else { return self.ask(tcp, to).await };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let tls = connector.connect(tls.name.clone(), tcp).await.map_err(TunnellingError::Tls)?;
        self.ask(tls, to).await
    }

    /// A TCP connection to the proxy itself, at the first of its addresses that takes one.
    async fn reach_proxy(&self, reach: &Reach) -> Result<TcpStream, TunnellingError> {
        let (addresses, host) = match &self.host {
            ProxyHost::Address(address) => (vec![*address], None),
            ProxyHost::Name(name) => {
                let answer = self.resolver.addresses(name).await;
                (answer.map_err(TunnellingError::Resolve)?.addresses, Some(name))
            }
        };
        let mut failure = TunnellingError::Connect(io::ErrorKind::AddrNotAvailable.into());
        for address in addresses {
            let at = SocketAddrV4::new(address, self.port);
            failure = match reach.check_dialled(at, host) {
                Err(error) => TunnellingError::Reach(error),
                Ok(()) => match connect(at).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => TunnellingError::Connect(error),
                },
            };
        }
        Err(failure)
    }

    async fn ask<S>(&self, socket: S, to: SocketAddrV4) -> Result<Box<dyn Stream>, TunnellingError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let target = std::net::SocketAddr::V4(to);
        let asked = match &self.login {
            None => Socks5Stream::connect_with_socket(socket, target).await,
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(socket, target, user, password).await
            }
        };
        let stream = asked.map_err(TunnellingError::Socks)?;
        Ok(Box::new(stream.into_inner()))
    }
}

fn login(settings: &UpstreamProxy) -> Result<Option<(String, String)>, ProxyError> {
    let fits = |text: &String| (1..=CREDENTIAL_MAX).contains(&text.len());
    match (&settings.username, &settings.password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) if fits(user) && fits(password) => {
            Ok(Some((user.clone(), password.clone())))
        }
        (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => Err(ProxyError::Credentials),
    }
}

/// TLS with the given CA certificates only, else with what the node trusts; no protocol is offered,
/// since SOCKS has no name there.
fn client_config(
    ca_cert: Option<&str>,
    trust: &UpstreamTrust,
) -> Result<Arc<ClientConfig>, ProxyError> {
    let own = ca_cert.map(|pem| UpstreamTrust::only(&[pem.as_bytes().to_vec()])).transpose();
    let own = own.map_err(ProxyError::Certificate)?;
    let mut config = (*own.as_ref().unwrap_or(trust).client(Alpn::Http1)).clone();
    config.alpn_protocols.clear();
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(super) mod tests;
