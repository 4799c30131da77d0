//! How this module gets out: by whoever is given, which decides what is within reach.
//!
//! References come from callers of the API, and addresses of redirects and token services from
//! registries that callers name. So nothing here opens a socket by itself.

use std::fmt;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::reference::Host;

/// Where a connection goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, or an address that somebody wrote down.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    /// Where an address of the web leads; `None` where it is neither http nor https, has a user in
    /// it, or a host that cannot be dialled.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let web = matches!(url.scheme(), "http" | "https");
        if !web || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = match url.host()? {
            url::Host::Domain(name) => Host::Name(name.parse().ok()?),
            url::Host::Ipv4(address) => Host::Address(address),
            url::Host::Ipv6(_not_dialled) => return None,
        };
        Some(Self { host, port: url.port_or_known_default()? })
    }
}

/// On whose word there is to be a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The operator named this very endpoint: it may be private or on this host.
    Operator,
    /// A caller named it, or a registry did: only what is public is within reach.
    Caller,
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It is out of reach. Nothing was sent there.
    #[error("{0}")]
    OutOfReach(String),
    /// The name does not resolve, or nothing answers there.
    #[error("{what}")]
    Failed {
        /// What could not be done.
        what: &'static str,
        /// What was met.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Opens connections, and refuses those that are out of reach.
#[async_trait]
pub trait Dial: Send + Sync + fmt::Debug {
    /// A TCP connection to an address that the endpoint has and that is within reach. What is
    /// checked is the address that is dialled. May be dropped at any moment.
    async fn connect(
        &self,
        to: &Endpoint,
        standing: Standing,
    ) -> Result<Box<dyn Stream>, DialError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_web_is_an_endpoint_unless_it_hides_something() {
        let of = |text: &str| Endpoint::of(&text.parse().unwrap()).map(|at| at.to_string());
        assert_eq!(of("https://R.example/v2/").as_deref(), Some("r.example:443"));
        assert_eq!(of("http://r.example:5000/").as_deref(), Some("r.example:5000"));
        // The parser of addresses takes these for addresses, so they are asked about as such.
        assert_eq!(of("http://0x7f.1/").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(of("http://2130706433/").as_deref(), Some("127.0.0.1:80"));
        for none in ["ftp://r.example/", "https://u:p@r.example/", "https://[::1]/", "data:x"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
