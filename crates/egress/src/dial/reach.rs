//! The reach guard: addresses that no sandbox reaches, whatever its policy says and whatever a name
//! resolves to.
//!
//! Asked twice: before our DNS gives an address out, and again right before the connect, about
//! exactly the address of that connect.
//!
//! What is never refused here: the documentation ranges (RFC 5737). No network is behind them but
//! one that somebody laid out on purpose.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;

use courier_types::egress::HostName;
use ipnet::Ipv4Net;

const fn net(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Ranges that no configuration opens, with what they are, in words.
const NEVER: [(Ipv4Net, &str); 9] = [
    // RFC 1122, section 3.2.1.3. Linux takes 0.0.0.0 for this host.
    (net(0, 0, 0, 0, 8), "of this host (0.0.0.0/8)"),
    // RFC 1122, section 3.2.1.3.
    (net(127, 0, 0, 0, 8), "loopback"),
    // RFC 3927. The metadata services of most clouds are at 169.254.169.254.
    (net(169, 254, 0, 0, 16), "link-local, where metadata services are"),
    // RFC 6890 and RFC 7335. The sandbox's own link; also a metadata service of Oracle's at
    // 192.0.0.192.
    (net(192, 0, 0, 0, 24), "of the sandbox's own link"),
    // RFC 2544. Addresses that our own DNS makes up.
    (net(198, 18, 0, 0, 15), "made up by this network's own DNS"),
    // RFC 1112.
    (net(224, 0, 0, 0, 4), "multicast"),
    // RFC 1112, section 4; with 255.255.255.255.
    (net(240, 0, 0, 0, 4), "reserved"),
    // Alibaba Cloud, "Access instance metadata": http://100.100.100.200/latest/meta-data/.
    (net(100, 100, 100, 200, 32), "a metadata service"),
    // Microsoft, "What is IP address 168.63.129.16?": the platform's channel to each Azure VM.
    (net(168, 63, 129, 16, 32), "a metadata service"),
];

/// What [`Reach::new`] refuses to permit: those of [`NEVER`] that are about hosts, not about us.
const NOT_PERMITTED: [Ipv4Net; 5] = [
    net(0, 0, 0, 0, 8),
    net(127, 0, 0, 0, 8),
    net(169, 254, 0, 0, 16),
    net(224, 0, 0, 0, 4),
    net(240, 0, 0, 0, 4),
];

/// Private ranges: RFC 1918, and RFC 6598 for carriers' own.
const PRIVATE: [Ipv4Net; 4] =
    [net(10, 0, 0, 0, 8), net(172, 16, 0, 0, 12), net(192, 168, 0, 0, 16), net(100, 64, 0, 0, 10)];

/// Why a range cannot be permitted. The operator's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{range} cannot be permitted: it touches {touches}, which is never reachable")]
pub struct PermitError {
    /// The range.
    pub range: Ipv4Net,
    /// What it touches.
    pub touches: Ipv4Net,
}

/// Why an address is out of reach.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// It is in a range that nothing opens.
    #[error("{address} is {what}: never reachable")]
    Never {
        /// The address.
        address: Ipv4Addr,
        /// What it is.
        what: &'static str,
    },
    /// It is an address of the host.
    #[error("{address} is an address of the host: never reachable")]
    Host {
        /// The address.
        address: Ipv4Addr,
    },
    /// It is private, and nobody permitted it.
    #[error("{address} is private: reachable only where the node's operator permits its range")]
    Private {
        /// The address.
        address: Ipv4Addr,
    },
    /// The system does not say whether it is an address of the host, so it counts as one.
    #[error("{address} may be an address of the host")]
    Unknown {
        /// The address.
        address: Ipv4Addr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What is within reach at all. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    permitted: Arc<[Ipv4Net]>,
    hosts: Arc<[(HostName, u16)]>,
    #[cfg(test)]
    loopback: bool,
}

impl Reach {
    /// Everything public, and of the private ranges what the operator permits.
    ///
    /// # Errors
    /// A permitted range touches one that is never reachable.
    pub fn new(permitted: Vec<Ipv4Net>) -> Result<Self, PermitError> {
        for range in &permitted {
            let touched = |never: &&Ipv4Net| never.contains(range) || range.contains(*never);
            if let Some(touches) = NOT_PERMITTED.iter().find(touched) {
                return Err(PermitError { range: *range, touches: *touches });
            }
        }
        Ok(Self { permitted: permitted.into(), ..Self::default() })
    }

    /// Permits hosts that the node's own configuration names, at these ports: private addresses
    /// that their names have are within reach then. Nothing else of [`Self::check`] changes.
    #[must_use]
    pub fn with_hosts(self, hosts: Vec<(HostName, u16)>) -> Self {
        Self { hosts: hosts.into(), ..self }
    }

    /// True for a host of [`Self::with_hosts`], at any port.
    #[must_use]
    pub fn permits_host(&self, host: &HostName) -> bool {
        self.hosts.iter().any(|(name, _)| name == host)
    }

    /// Whether the address may be reached, whatever name led there.
    ///
    /// # Errors
    /// It may not, or the system does not say whether it is one of the host's.
    pub fn check(&self, address: Ipv4Addr) -> Result<(), ReachError> {
        self.check_where(address, false)
    }

    /// Whether the address may be given out for that name.
    pub(crate) fn check_named(&self, address: Ipv4Addr, host: &HostName) -> Result<(), ReachError> {
        self.check_where(address, self.permits_host(host))
    }

    /// Whether there may be a connection to that address and port, which are of that host.
    pub(crate) fn check_dialled(
        &self,
        to: SocketAddrV4,
        host: Option<&HostName>,
    ) -> Result<(), ReachError> {
        let named = |host: &HostName| {
            self.hosts.iter().any(|(name, port)| name == host && *port == to.port())
        };
        self.check_where(*to.ip(), host.is_some_and(named))
    }

    fn check_where(&self, address: Ipv4Addr, host_is_permitted: bool) -> Result<(), ReachError> {
        #[cfg(test)]
        if self.loopback && address.is_loopback() {
            return Ok(());
        }
        if let Some((_, what)) = NEVER.iter().find(|(range, _)| range.contains(&address)) {
            return Err(ReachError::Never { address, what });
        }
        let private = PRIVATE.iter().any(|range| range.contains(&address));
        let permitted = self.permitted.iter().any(|range| range.contains(&address));
        if private && !permitted && !host_is_permitted {
            return Err(ReachError::Private { address });
        }
        match is_of_the_host(address) {
            Ok(false) => Ok(()),
            Ok(true) => Err(ReachError::Host { address }),
            Err(source) => Err(ReachError::Unknown { address, source }),
        }
    }

    /// As [`Self::default`], with 127.0.0.0/8 within reach: for tests with servers in the process.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { loopback: true, ..Self::default() }
    }
}

/// Whether the host has the address at this moment: only then lets the kernel bind a socket to it
/// (it also does for the broadcast addresses of the host's networks, which are as little reachable).
/// A list of addresses would be old by the time it is used. Where `net.ipv4.ip_nonlocal_bind` is
/// on, every address counts as the host's, so nothing is reachable: closed, not open.
fn is_of_the_host(address: Ipv4Addr) -> io::Result<bool> {
    match UdpSocket::bind((address, 0)) {
        Ok(_bound) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
