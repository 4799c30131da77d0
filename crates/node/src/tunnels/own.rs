//! The operator's own tunnels: dialled from the node, for sandboxes of every project.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courier_egress::{TunnelError, TunnelStream};
use courier_protocol::node::{OfferedTunnel, TunnelKind};
use courier_types::egress::{NameError, TunnelName};
use tokio::sync::Semaphore;

use super::guarded::Guarded;
use super::target::{DialError, TargetError, TunnelTarget};

/// Most connections through one of the operator's tunnels at once: a service is not to be drowned by
/// all sandboxes together, nor the node's descriptors spent on one service.
const CONNECTIONS_MAX: usize = 1_024;

/// The port inside of a Unix socket for which nobody names one: most of them speak HTTP.
const UNIX_PORT: u16 = 80;

/// What stands before the port inside.
const PORT_OPTION: &str = ",port=";

/// One of the operator's tunnels: `NAME=HOST:PORT` or `NAME=unix:/PATH`, and `,port=N` for another
/// port inside than the service's own (80 for a Unix socket).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSpec {
    name: TunnelName,
    port: u16,
    target: TunnelTarget,
}

/// Why a text is no tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelSpecError {
    /// It has no `=`.
    #[error("{text:?} is not a tunnel: write NAME=HOST:PORT or NAME=unix:/PATH[,port=N]")]
    Form {
        /// The text, cut to 200 characters.
        text: String,
    },
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The service is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The port inside is none.
    #[error("{text:?} is not a port: expected 1 to 65535")]
    Port {
        /// The text, cut to 200 characters.
        text: String,
    },
}

/// Two of the operator's tunnels have one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are two tunnels of the name {name}")]
pub struct TwoOfOneName {
    /// The name.
    pub name: TunnelName,
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

impl TunnelSpec {
    /// A tunnel to a service, under the service's own port unless another one is given.
    #[must_use]
    pub fn new(name: TunnelName, target: TunnelTarget, port: Option<u16>) -> Self {
        let port = port.or(target.port()).unwrap_or(UNIX_PORT);
        Self { name, port, target }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &TunnelName {
        &self.name
    }

    /// The port under which it is reachable inside.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The service.
    #[must_use]
    pub const fn target(&self) -> &TunnelTarget {
        &self.target
    }
}

impl FromStr for TunnelSpec {
    type Err = TunnelSpecError;

    fn from_str(text: &str) -> Result<Self, TunnelSpecError> {
        let form = || TunnelSpecError::Form { text: cut(text) };
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let (target, port) = match rest.rsplit_once(PORT_OPTION) {
            Some((target, port)) => {
                let parsed = port.parse().ok().filter(|port| *port != 0);
                let wrong = || TunnelSpecError::Port { text: cut(port) };
                (target, Some(parsed.ok_or_else(wrong)?))
            }
            None => (rest, None),
        };
        Ok(Self::new(name.parse()?, target.parse()?, port))
    }
}

/// The operator's tunnels.
#[derive(Debug, Default)]
pub(super) struct Own(BTreeMap<TunnelName, Tunnel>);

#[derive(Debug)]
struct Tunnel {
    port: u16,
    target: TunnelTarget,
    permits: Arc<Semaphore>,
    /// Whether the service did not answer when it was last dialled: only a change is worth a line
    /// in the log, as guests decide how often it is dialled.
    fails: AtomicBool,
}

impl Own {
    pub(super) fn new(specs: Vec<TunnelSpec>) -> Result<Self, TwoOfOneName> {
        let mut all = BTreeMap::new();
        for TunnelSpec { name, port, target } in specs {
            let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            let tunnel = Tunnel { port, target, permits, fails: AtomicBool::new(false) };
            if all.insert(name.clone(), tunnel).is_some() {
                return Err(TwoOfOneName { name });
            }
        }
        Ok(Self(all))
    }

    pub(super) fn offered(&self) -> Vec<OfferedTunnel> {
        let offer = |(name, tunnel): (&TunnelName, &Tunnel)| OfferedTunnel {
            name: name.clone(),
            port: tunnel.port,
            kind: TunnelKind::Node,
        };
        self.0.iter().map(offer).collect()
    }

    pub(super) fn port(&self, name: &TunnelName) -> Option<u16> {
        self.0.get(name).map(|tunnel| tunnel.port)
    }

    /// A new connection to the service; none where the operator has no tunnel of that name.
    pub(super) async fn open(
        &self,
        name: &TunnelName,
    ) -> Option<Result<Box<dyn TunnelStream>, TunnelError>> {
        Some(self.0.get(name)?.open(name).await)
    }
}

impl Tunnel {
    async fn open(&self, name: &TunnelName) -> Result<Box<dyn TunnelStream>, TunnelError> {
        let failed = |source| TunnelError::Service { name: name.clone(), source };
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_exhausted| {
            failed(io::Error::other(format!("there are {CONNECTIONS_MAX} connections already")))
        })?;
        let dialled = self.target.dial().await;
        self.note(name, dialled.as_ref().err());
        match dialled {
            Ok(stream) => Ok(Box::new(Guarded::new(stream, permit))),
            Err(error) => Err(failed(io::Error::other(error))),
        }
    }

    fn note(&self, name: &TunnelName, error: Option<&DialError>) {
        let failed_before = self.fails.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !failed_before => tell_failure(name, error),
            None if failed_before => tell_recovery(name),
            Some(_) | None => {}
        }
    }
}

fn tell_failure(name: &TunnelName, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(tunnel = %name, error, "the service behind a tunnel does not answer");
}

fn tell_recovery(name: &TunnelName) {
    tracing::info!(tunnel = %name, "the service behind a tunnel answers again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_inside_is_the_services_own_unless_another_is_named() {
        for (text, port) in [
            ("db=db.test:5432", 5_432),
            ("db=db.test:5432,port=1", 1),
            ("docker=unix:/run/docker.sock", 80),
            ("docker=unix:/run/docker.sock,port=2375", 2_375),
        ] {
            assert_eq!(text.parse::<TunnelSpec>().unwrap().port(), port, "{text}");
        }
    }

    #[test]
    fn what_is_no_tunnel_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("db", "NAME=HOST:PORT"),
            ("d.b=a:1", "name of a tunnel"),
            ("=a:1", "name of a tunnel"),
            ("db=a", "HOST:PORT"),
            ("db=a:1,port=0", "not a port"),
            ("db=a:1,port=", "not a port"),
            ("db=unix:/a,port=x", "not a port"),
        ] {
            let error = text.parse::<TunnelSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
