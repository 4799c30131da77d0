//! The network of one sandbox: everything on its link, under the policy that came with it.
//!
//! What always holds: nothing reads the link before there is a policy; whatever ends here, by itself,
//! by a panic or because the [`Network`] is dropped, closes the link and every connection.

mod context;
mod open;
mod tasks;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use courier_types::SandboxId;
use courier_types::egress::{ExplainRequest, Explanation, FlowEvent, NetworkSpec, UpstreamProxy};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

pub(crate) use self::context::{Context, THROUGH_MAX};
use self::open::{Closing, OpenConnections};
pub(crate) use self::open::{Revoked, Ticket};
pub(crate) use self::tasks::Tasks;
use crate::broker::Broker;
use crate::connection::Gate;
use crate::dial::{Descriptors, Dialer, Proxy, ProxyError, Reach};
use crate::dns::{Dns, DnsSetup, Resolver, ResolverError};
use crate::flow::FlowLog;
use crate::http::Room;
use crate::policy::{CompileError, Compiled, ExplainError, explain};
use crate::source::CredentialSource;
use crate::stack::{self, StackHandle};
use crate::tls::UpstreamTrust;
use crate::tls::ca::{CaError, SandboxCa};
use crate::tunnel::Tunnels;

/// Why a network is not there, or not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The policy cannot be put in force.
    #[error("the egress policy cannot be put in force")]
    Policy(#[from] CompileError),
    /// The sandbox's own proxy.
    #[error("the egress proxy cannot be used")]
    Proxy(#[from] ProxyError),
    /// The sandbox's own DNS servers.
    #[error("the DNS servers cannot be used")]
    Resolver(#[from] ResolverError),
    /// The sandbox's CA.
    #[error("the sandbox has no CA")]
    Ca(#[from] CaError),
    /// The link.
    #[error("the sandbox's network link cannot be used")]
    Link(#[source] io::Error),
    /// It has ended.
    #[error("the sandbox's network has ended")]
    Ended,
}

/// What a node's networks share.
pub struct HostSide {
    resolver: Resolver,
    reach: Reach,
    trust: UpstreamTrust,
    descriptors: Descriptors,
    ca_seed: Zeroizing<[u8; 32]>,
}

impl HostSide {
    /// `ca_seed` is what the CAs of all sandboxes are derived from: random, the node's own, and the
    /// same after a restart. The process's limit of open files is read here: raise it before.
    #[must_use]
    pub fn new(resolver: Resolver, reach: Reach, trust: UpstreamTrust, ca_seed: [u8; 32]) -> Self {
        let descriptors = Descriptors::of_process();
        Self { resolver, reach, trust, descriptors, ca_seed: Zeroizing::new(ca_seed) }
    }

    /// Whether a network could be made of that spec, or be given it.
    ///
    /// # Errors
    /// What [`Network::start`] and [`Network::set`] would say of it.
    pub fn check(&self, spec: &NetworkSpec) -> Result<(), NetworkError> {
        Parts::new(spec, self, &self.direct()).map(drop)
    }

    /// Connections without a proxy, with the limits of one sandbox.
    fn direct(&self) -> Dialer {
        Dialer::new(self.reach.clone(), self.descriptors.clone())
    }
}

impl fmt::Debug for HostSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resolver, reach, trust, .. } = self;
        f.debug_struct("HostSide")
            .field("resolver", resolver)
            .field("reach", reach)
            .field("trust", trust)
            .finish_non_exhaustive()
    }
}

/// What a network is made of.
#[derive(Debug)]
pub struct Setup {
    /// Whose it is.
    pub sandbox: SandboxId,
    /// What it may reach, presets resolved.
    pub spec: NetworkSpec,
    /// Who gives the values of secrets.
    pub source: Arc<dyn CredentialSource>,
    /// Who opens private tunnels.
    pub tunnels: Arc<dyn Tunnels>,
    /// What the node's networks share.
    pub host: Arc<HostSide>,
    /// Where what is seen of it is written.
    pub flows: FlowLog,
}

/// A running network. Dropping it closes the link and every connection.
#[derive(Debug)]
pub struct Network {
    context: Arc<Context>,
    host: Arc<HostSide>,
    /// Directly; the dialers in force have its limits.
    direct: Dialer,
    dialer: watch::Sender<Dialer>,
    resolver: watch::Sender<Resolver>,
    /// The proxy in force. Locked for as long as a replacement takes.
    proxy: Mutex<Option<UpstreamProxy>>,
    closed: CancellationToken,
    _end: DropGuard,
}

/// The parts that a spec makes.
struct Parts {
    policy: Compiled,
    dialer: Dialer,
    resolver: Resolver,
}

impl Parts {
    fn new(spec: &NetworkSpec, host: &HostSide, direct: &Dialer) -> Result<Self, NetworkError> {
        let policy = Compiled::new(&spec.egress)?;
        let proxy = spec.upstream_proxy.as_ref();
        let proxy = proxy.map(|proxy| Proxy::new(proxy, host.resolver.clone(), &host.trust));
        let resolver = match spec.dns_servers.as_slice() {
            [] => host.resolver.clone(),
            servers => Resolver::guarded(servers, host.reach.clone())?,
        };
        Ok(Self { policy, dialer: direct.with_proxy(proxy.transpose()?), resolver })
    }
}

impl Network {
    /// Puts the policy in force and then serves the link, the host's end of a connected
    /// `SOCK_SEQPACKET` pair with one IP packet in each record. Must be called within a runtime.
    ///
    /// # Errors
    /// The spec or the link cannot be used. The link is closed then.
    pub fn start(link: OwnedFd, setup: Setup) -> Result<Self, NetworkError> {
        let Setup { sandbox, spec, source, tunnels, host, flows } = setup;
        let direct = host.direct();
        let Parts { policy, dialer, resolver } = Parts::new(&spec, &host, &direct)?;
        let tasks = Tasks::new();
        let open = OpenConnections::new(policy, tasks.clone());
        let (dialer, resolver) = (watch::Sender::new(dialer), watch::Sender::new(resolver));
        let context = Arc::new(Context {
            ca: SandboxCa::derive(&host.ca_seed, &sandbox)?,
            policy: open.policy(),
            open,
            pins: Arc::default(),
            reach: host.reach.clone(),
            dialer: dialer.subscribe(),
            trust: host.trust.clone(),
            broker: Broker::new(source, sandbox.clone()),
            tunnels,
            through: Arc::new(Semaphore::new(THROUGH_MAX)),
            room: Room::default(),
            flows,
            tasks,
            sandbox,
        });
        let gate = Gate::new(Arc::clone(&context), dns(&context, resolver.subscribe()));
        let stack = stack::spawn(link, Arc::new(gate)).map_err(NetworkError::Link)?;
        let closed = CancellationToken::new();
        tokio::spawn(watch_over(stack, context.tasks.clone(), closed.clone().drop_guard()));
        let (end, proxy) = (context.tasks.end_guard(), Mutex::new(spec.upstream_proxy));
        Ok(Self { context, host, direct, dialer, resolver, proxy, closed, _end: end })
    }

    /// Replaces policy, proxy and DNS servers. Before this returns, every connection that the new
    /// spec does not allow is being closed: those that the policy denies, and all of them when the
    /// proxy is another.
    ///
    /// # Errors
    /// The spec cannot be used, or the network has ended. Then everything stays as it is.
    pub fn set(&self, spec: &NetworkSpec) -> Result<(), NetworkError> {
        let mut proxy = self.proxy.lock().unwrap_or_else(PoisonError::into_inner);
        if self.context.tasks.is_ended() {
            return Err(NetworkError::Ended);
        }
        let parts = Parts::new(spec, &self.host, &self.direct)?;
        let closing = if *proxy == spec.upstream_proxy { Closing::Denied } else { Closing::All };
        proxy.clone_from(&spec.upstream_proxy);
        self.resolver.send_replace(parts.resolver);
        self.dialer.send_replace(parts.dialer);
        let closed = self.context.open.replace(parts.policy, closing);
        self.context.flows.write(FlowEvent::Policy { closed });
        Ok(())
    }

    /// Says what would be decided now, and why.
    ///
    /// # Errors
    /// The request names no host, port, method or path.
    pub fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ExplainError> {
        let policy = Arc::clone(&self.context.policy.borrow());
        explain(&policy, request)
    }

    /// What was seen of it.
    #[must_use]
    pub fn flows(&self) -> FlowLog {
        self.context.flows.clone()
    }

    /// The certificate of the sandbox's own CA, PEM, for its trust stores.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.context.ca.pem()
    }

    /// Waits until the network has ended: the sandbox's end of the link is gone, or something here
    /// broke.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

fn dns(context: &Context, resolver: watch::Receiver<Resolver>) -> Dns {
    Dns::new(DnsSetup {
        sandbox: context.sandbox.clone(),
        policy: context.policy.clone(),
        resolver,
        reach: context.reach.clone(),
        pins: Arc::clone(&context.pins),
        tunnels: Arc::clone(&context.tunnels),
        flows: context.flows.clone(),
    })
}

/// Ends everything when one part has ended.
async fn watch_over(stack: StackHandle, tasks: Tasks, _closed: DropGuard) {
    let _end = tasks.end_guard();
    tokio::select! {
        () = stack.closed() => {}
        () = tasks.ended() => {}
    }
    drop(stack);
}

#[cfg(test)]
mod tests;
