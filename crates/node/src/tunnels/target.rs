//! The one service that a tunnel leads to, and how it is dialled.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use courier_egress::TunnelStream;
use tokio::net::{TcpStream, UnixStream};

/// How long a service may take to accept: it is near whoever dials it. Shorter than the wait for a
/// connector's answer, which is shorter than the sandbox's, so that each is told what the one before
/// it met.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What the path of a Unix socket begins with.
const UNIX_PREFIX: &str = "unix:";

/// Longest path of a Unix socket in bytes: `sun_path` of unix(7) without its last NUL.
const UNIX_PATH_MAX: usize = 107;

/// Longest host name (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 253;

/// Where a private service is. It is dialled exactly as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelTarget(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A name, an address, or an IPv6 address without its brackets; and a port.
    Tcp(String, u16),
    /// A socket by its absolute path.
    Unix(PathBuf),
}

/// Why a text does not say where a service is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not where a service is: write HOST:PORT, [IPV6]:PORT or unix:/PATH")]
pub struct TargetError {
    /// The text, cut to 200 characters.
    text: String,
}

/// Why a service was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The socket is not for us.
    #[error(
        "the Unix socket {} is not accessible to the user of this process; under systemd that is \
         the user `courier`: let it into the folder and give it read and write access to the socket",
        path.display()
    )]
    NotForUs {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is not there, or refuses.
    #[error("{target} cannot be connected to")]
    Failed {
        /// Where it should be.
        target: TunnelTarget,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It did not accept in time.
    #[error("{target} did not accept a connection within {} s", DIAL_TIMEOUT.as_secs())]
    Late {
        /// Where it should be.
        target: TunnelTarget,
    },
}

impl TunnelTarget {
    /// The port of the service, where it has one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self.0 {
            Place::Tcp(_, port) => Some(port),
            Place::Unix(_) => None,
        }
    }

    /// A new connection to the service.
    ///
    /// # Errors
    /// It is not there, not for this user, or too slow.
    pub async fn dial(&self) -> Result<Box<dyn TunnelStream>, DialError> {
        match tokio::time::timeout(DIAL_TIMEOUT, self.connect()).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(self.failed(source)),
            Err(_elapsed) => Err(DialError::Late { target: self.clone() }),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn TunnelStream>> {
        match &self.0 {
            Place::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }

    fn failed(&self, source: io::Error) -> DialError {
        match &self.0 {
            Place::Unix(path) if source.kind() == io::ErrorKind::PermissionDenied => {
                DialError::NotForUs { path: path.clone(), source }
            }
            Place::Unix(_) | Place::Tcp(..) => DialError::Failed { target: self.clone(), source },
        }
    }
}

impl FromStr for TunnelTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let place = match text.strip_prefix(UNIX_PREFIX) {
            Some(path) => unix(path),
            None => tcp(text),
        };
        place.map(Self).ok_or_else(|| TargetError { text: text.chars().take(200).collect() })
    }
}

fn unix(path: &str) -> Option<Place> {
    let usable = path.starts_with('/') && path.len() <= UNIX_PATH_MAX && !path.contains('\0');
    usable.then(|| Place::Unix(path.into()))
}

fn tcp(text: &str) -> Option<Place> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let bracketed = text.starts_with('[');
    let usable = !host.is_empty() && host.len() <= HOST_MAX;
    (usable && (bracketed || host.bytes().all(is_name))).then(|| Place::Tcp(host.to_owned(), port))
}

impl fmt::Display for TunnelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp(host, port) => write!(f, "{host}:{port}"),
            Place::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port_or_a_socket_and_nothing_else() {
        for text in ["db.test:5432", "10.0.0.1:1", "[::1]:80", "unix:/run/a.sock", "a_b:65535"] {
            assert_eq!(text.parse::<TunnelTarget>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "a".repeat(UNIX_PATH_MAX));
        for text in [
            "",
            "db",
            "db:",
            ":80",
            "db:0",
            "db:65536",
            "::1:80",
            "[::1:80",
            "[x]:80",
            "a b:80",
            "http://a:80",
            "unix:",
            "unix:a.sock",
            &long,
            "a/b:80",
            "u@h:80",
        ] {
            assert!(text.parse::<TunnelTarget>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_not_for_us_is_told_with_the_way_out() {
        let target: TunnelTarget = "unix:/nonexistent/x.sock".parse().unwrap();
        let missing = target.dial().await.err().unwrap();
        assert!(matches!(missing, DialError::Failed { .. }), "{missing}");
        let denied = target.failed(io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.contains("/nonexistent/x.sock") && denied.contains("`courier`"), "{denied}");
    }
}
