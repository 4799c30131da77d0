//! The node's resolver: the only thing that sends DNS questions out.
//!
//! It is asked for addresses of names that a policy allowed, in their canonical form, and for
//! nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_types::egress::HostName;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::dial::{Reach, ReachError};

/// Longest wait for an answer: below the 5 s after which a stub resolver asks again.
pub(super) const DEADLINE: Duration = Duration::from_secs(4);
/// Longest wait for one server.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// How often a server is asked again.
const RETRIES: usize = 1;
/// Most questions on their way, of all sandboxes of a node; more wait. Each is a socket, and for a
/// moment an answer of at most 64 KiB, which is some 1 MiB when it has been read.
const ASKING_MAX: usize = 128;
/// Most servers.
const SERVERS_MAX: usize = 8;
/// Most addresses of one answer that are looked at: who has more names them in turns.
const ADDRESSES_MAX: usize = 64;
/// Port of DNS (RFC 1035, section 4.2).
const PORT: u16 = 53;

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The host's configuration cannot be used.
    #[error("the host's resolv.conf cannot be used")]
    System(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// None, or too many.
    #[error("{count} DNS servers are given: 1 to {SERVERS_MAX} are possible")]
    Servers {
        /// How many.
        count: usize,
    },
    /// A server of a sandbox's own is out of its reach.
    #[error("the DNS server is out of reach")]
    Reach(#[from] ReachError),
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name.
    #[error("no such name")]
    NoName,
    /// The name has no IPv4 address.
    #[error("the name has no IPv4 address")]
    NoAddress,
    /// No answer in time.
    #[error("no DNS server answered within {} s", DEADLINE.as_secs())]
    Timeout,
    /// A server of a sandbox's own is out of its reach.
    #[error("the DNS server is out of reach")]
    Reach(#[from] ReachError),
    /// The servers failed.
    #[error("the DNS servers failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// At least one, and a bounded number.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// For how long that is so.
    pub(crate) ttl: Duration,
}

/// Asks DNS servers, and keeps nothing. Clones share the bound.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    hickory: TokioResolver,
    asking: Semaphore,
    /// The servers that must be within reach, and the guard that says so.
    guarded: Option<(Vec<Ipv4Addr>, Reach)>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("guarded", &self.0.guarded).finish_non_exhaustive()
    }
}

impl Resolver {
    /// As other programs of the host: the servers of `/etc/resolv.conf`, and the names of
    /// `/etc/hosts`. Its search domains are not used: a name is what it says.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn system() -> Result<Self, ResolverError> {
        let builder = TokioResolver::builder_tokio();
        let builder = builder.map_err(|error| ResolverError::System(error.into()))?;
        Self::build(builder, ResolveHosts::Always, None)
    }

    /// These servers, the operator's own: they may be anywhere.
    ///
    /// # Errors
    /// There is none, or there are too many.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        Self::build(builder(servers)?, ResolveHosts::Never, None)
    }

    /// These servers, a sandbox's own, on port 53: each question first asks the reach guard about
    /// them.
    ///
    /// # Errors
    /// There is none, there are too many, or one is out of reach.
    pub fn guarded(servers: &[Ipv4Addr], reach: Reach) -> Result<Self, ResolverError> {
        let sockets: Vec<SocketAddr> =
            servers.iter().map(|server| (IpAddr::V4(*server), PORT).into()).collect();
        let builder = builder(&sockets)?;
        for server in servers {
            reach.check(*server)?;
        }
        Self::build(builder, ResolveHosts::Never, Some((servers.to_vec(), reach)))
    }

    fn build(
        mut builder: ResolverBuilder<TokioRuntimeProvider>,
        hosts: ResolveHosts,
        guarded: Option<(Vec<Ipv4Addr>, Reach)>,
    ) -> Result<Self, ResolverError> {
        set_options(builder.options_mut(), hosts);
        let hickory = builder.build().map_err(|error| ResolverError::System(error.into()))?;
        Ok(Self(Arc::new(Inner { hickory, asking: Semaphore::new(ASKING_MAX), guarded })))
    }

    /// True for clones of one resolver.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The IPv4 addresses of a name, in the order of the answer, for what the node itself asks: who
    /// dials one asks the reach guard about it first.
    ///
    /// # Errors
    /// The name has none, or no server answers.
    pub async fn ipv4(&self, host: &HostName) -> Result<Vec<Ipv4Addr>, ResolveError> {
        Ok(self.addresses(host).await?.addresses)
    }

    /// The addresses of a name, in the order of the answer.
    pub(crate) async fn addresses(&self, host: &HostName) -> Result<Answer, ResolveError> {
        if let Some((servers, reach)) = &self.0.guarded {
            for server in servers {
                reach.check(*server)?;
            }
        }
        let name = fqdn(host)?;
        let asked = timeout(DEADLINE, async {
            let _asking = self.0.asking.acquire().await.map_err(failed)?;
            self.0.hickory.lookup(name, RecordType::A).await.map_err(refined)
        });
        let lookup = asked.await.map_err(|_elapsed| ResolveError::Timeout)??;
        let address = |data: &RData| match data {
            RData::A(address) => Some(address.0),
            _other => None,
        };
        let addresses = lookup.answers().iter().filter_map(|record| address(&record.data));
        let addresses: Vec<Ipv4Addr> = addresses.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress);
        }
        let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
        Ok(Answer { addresses, ttl })
    }
}

fn builder(servers: &[SocketAddr]) -> Result<ResolverBuilder<TokioRuntimeProvider>, ResolverError> {
    if servers.is_empty() || servers.len() > SERVERS_MAX {
        return Err(ResolverError::Servers { count: servers.len() });
    }
    let server = |at: &SocketAddr| {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (at.port(), at.port());
        NameServerConfig::new(at.ip(), true, vec![udp, tcp])
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
}

fn set_options(options: &mut ResolverOpts, hosts: ResolveHosts) {
    options.timeout = ATTEMPT;
    options.attempts = RETRIES;
    options.edns0 = true;
    options.use_hosts_file = hosts;
    // What is kept is kept per sandbox, in a form that has a bound in bytes.
    options.cache_size = 0;
}

/// The name as it stands, with no search domain behind it.
fn fqdn(host: &HostName) -> Result<Name, ResolveError> {
    let mut name = Name::from_labels(host.labels().map(str::as_bytes)).map_err(failed)?;
    name.set_fqdn(true);
    Ok(name)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ResolveError {
    ResolveError::Failed(Box::new(error))
}

fn refined(error: NetError) -> ResolveError {
    if error.is_nx_domain() {
        ResolveError::NoName
    } else if error.is_no_records_found() {
        ResolveError::NoAddress
    } else {
        failed(error)
    }
}

#[cfg(test)]
mod tests;
