//! Connections to registries, their token services and where they redirect to.
//!
//! The reach guard is asked about exactly the address of each connect, after the name was resolved.
//! Private networks that the operator permits to sandboxes are not permitted here: a pull is the
//! node's own request, made for whoever orders a build.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use courier_egress::{Reach, ReachError, Resolver};
use courier_image::registry::{Dial, DialError, Endpoint, Host, Standing, Stream};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 3;
/// The one name that is this host (RFC 6761, section 6.3), whatever a DNS server says.
const LOCALHOST: &str = "localhost";

/// Dials by the node's resolver, behind the reach guard.
#[derive(Debug)]
pub(super) struct GuardedDial {
    resolver: Resolver,
    reach: Reach,
}

impl GuardedDial {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self { resolver, reach: Reach::default() }
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<Ipv4Addr>, DialError> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) if name.as_str() == LOCALHOST => Ok(vec![Ipv4Addr::LOCALHOST]),
            Host::Name(name) => self.resolver.ipv4(name).await.map_err(|error| DialError::Failed {
                what: "its name does not resolve",
                source: Box::new(error),
            }),
        }
    }

    /// Whether the address may be dialled. What the operator named may be private or this host,
    /// but is never a metadata service or what is no host at all.
    fn check(&self, address: Ipv4Addr, standing: Standing) -> Result<(), ReachError> {
        match (self.reach.check(address), standing) {
            (Err(ReachError::Private { .. } | ReachError::Host { .. }), Standing::Operator) => {
                Ok(())
            }
            (Err(ReachError::Never { .. }), Standing::Operator) if address.is_loopback() => Ok(()),
            (checked, Standing::Operator | Standing::Caller) => checked,
        }
    }
}

#[async_trait]
impl Dial for GuardedDial {
    async fn connect(
        &self,
        to: &Endpoint,
        standing: Standing,
    ) -> Result<Box<dyn Stream>, DialError> {
        let addresses = self.addresses(&to.host).await?;
        let mut failure = None;
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            if let Err(refused) = self.check(address, standing) {
                failure = Some(out_of_reach(&refused));
                continue;
            }
            let connecting = TcpStream::connect(SocketAddr::from((address, to.port)));
            let connected = timeout(CONNECT_TIMEOUT, connecting).await;
            let connected =
                connected.unwrap_or_else(|_elapsed| Err(std::io::ErrorKind::TimedOut.into()));
            match connected {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(source) => {
                    failure = Some(DialError::Failed {
                        what: "it does not answer",
                        source: Box::new(source),
                    });
                }
            }
        }
        Err(failure.unwrap_or_else(|| DialError::OutOfReach("it has no address".to_owned())))
    }
}

/// Why it is out of reach, without the address: who orders a build is not told what names of the
/// operator's networks resolve to, nor which addresses this host has.
fn out_of_reach(refused: &ReachError) -> DialError {
    let why = match refused {
        ReachError::Private { .. } => {
            "its address is private: the server's operator has to name the registry (--registry)"
        }
        ReachError::Never { .. } | ReachError::Host { .. } | ReachError::Unknown { .. } => {
            "its address is not one that registries of others may have"
        }
    };
    DialError::OutOfReach(why.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.parse().unwrap(), port }
    }

    #[tokio::test]
    async fn this_host_is_dialled_on_the_operators_word_only() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial =
            GuardedDial::new(Resolver::with_servers(&["192.0.2.1:53".parse().unwrap()]).unwrap());
        for host in ["127.0.0.1", "localhost"] {
            assert!(dial.connect(&endpoint(host, port), Standing::Operator).await.is_ok());
            let refused =
                dial.connect(&endpoint(host, port), Standing::Caller).await.err().unwrap();
            assert!(matches!(refused, DialError::OutOfReach(_)), "{refused:?}");
            assert!(!refused.to_string().contains("127"), "{refused}");
        }
    }

    #[tokio::test]
    async fn nobodys_word_leads_to_a_metadata_service_and_a_callers_to_nothing_private() {
        let dial =
            GuardedDial::new(Resolver::with_servers(&["192.0.2.1:53".parse().unwrap()]).unwrap());
        for (host, standing) in [
            ("169.254.169.254", Standing::Operator),
            ("100.100.100.200", Standing::Operator),
            ("0.0.0.0", Standing::Operator),
            ("169.254.169.254", Standing::Caller),
            ("10.0.0.1", Standing::Caller),
            ("192.168.1.1", Standing::Caller),
            ("100.64.0.1", Standing::Caller),
        ] {
            let refused = dial.connect(&endpoint(host, 80), standing).await.err().unwrap();
            assert!(matches!(refused, DialError::OutOfReach(_)), "{host}: {refused:?}");
        }
        let private =
            dial.connect(&endpoint("10.0.0.1", 80), Standing::Caller).await.err().unwrap();
        assert!(private.to_string().contains("--registry"), "{private}");
        assert!(!private.to_string().contains("10.0"), "no address is told: {private}");
    }
}
