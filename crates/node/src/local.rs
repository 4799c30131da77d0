//! The node of this machine: `protocol::node::Node` over a driver.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use courier_driver::{Driver, DriverError};
use courier_egress::NetworkError;
use courier_lifecycle::sandbox::{Origin, State};
use courier_protocol::node::{
    Body, ByteStream, Node, NodeError, NodeInfo, NodeRoom, Report, Volumes,
};
use courier_types::egress::{ExplainRequest, Explanation, FlowPage, NetworkSpec};
use courier_types::{AccessToken, EndReason, SandboxId, SandboxSpec, Timestamp, Usage};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::admission::HostMemory;
use crate::config::NodeConfig;
use crate::failure::{DriverFailure, GuestError, node_error};
use crate::guest::{Guest, PortStream};
use crate::registry::{Context, Entry, Registry};
use crate::reports::Reports;
use crate::sandbox::{self, Command, Handle, Making, Purpose, View, jobs};

/// Longest wait for a sandbox to be destroyed, before the caller is told to ask again. The node goes
/// on destroying.
const KILL_DEADLINE: Duration = Duration::from_secs(60);

/// Longest wait for a driver's figures.
const USAGE_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// What guards a sandbox's data plane.
#[derive(Debug, Clone)]
pub enum Guard {
    /// Nothing: whoever reaches the proxy may use it.
    Open,
    /// This token.
    Token(AccessToken),
}

/// How the ports of a sandbox are reached.
#[derive(Debug)]
pub(crate) struct Exposure {
    /// Every port but the guest daemon's wants it, where it is there.
    pub(crate) traffic_token: Option<AccessToken>,
    /// What servers see instead of the real host, with `${PORT}` for the port.
    pub(crate) mask_request_host: Option<String>,
    /// Ports whose servers speak TLS.
    pub(crate) https_ports: Vec<u16>,
}

/// The node of this machine. Dropping it lets go of its sandboxes and leaves their machines as the
/// driver's owner wants them; [`LocalNode::kill_all`] destroys them.
#[derive(Debug)]
pub struct LocalNode {
    context: Arc<Context>,
}

impl Drop for LocalNode {
    fn drop(&mut self) {
        self.context.registry.release();
    }
}

impl LocalNode {
    /// A node over a driver. Must be used within a tokio runtime.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, config: NodeConfig) -> Self {
        let making = Semaphore::new(config.making_limit.clamp(1, Semaphore::MAX_PERMITS));
        let (reports, registry) = (Reports::default(), Registry::default());
        let context = Context { driver, config, reports, registry, making };
        Self { context: Arc::new(context) }
    }

    /// What guards the data plane of a sandbox that runs here; `None` when it does not.
    #[must_use]
    pub fn guard(&self, id: &SandboxId) -> Option<Guard> {
        let handle = self.context.registry.get(id)?;
        if handle.view.borrow().state != State::Running || handle.purpose == Purpose::Build {
            return None;
        }
        Some(handle.spec.access_token.clone().map_or(Guard::Open, Guard::Token))
    }

    /// How the ports of a sandbox are reached, as it was made.
    pub(crate) fn exposure(&self, id: &SandboxId) -> Option<Exposure> {
        let handle = self.context.registry.get(id)?;
        let network = &handle.spec.network;
        Some(Exposure {
            traffic_token: network.traffic_token.clone(),
            mask_request_host: network.mask_request_host.clone(),
            https_ports: network.https_ports.clone(),
        })
    }

    /// Destroys every sandbox of this node, all at once.
    ///
    /// # Errors
    /// The first that could not be destroyed in time.
    pub async fn kill_all(&self) -> Result<(), NodeError> {
        let kills = self.context.registry.ids().into_iter().map(|id| {
            let context = Arc::clone(&self.context);
            tokio::spawn(async move { end(&context, &id, EndReason::Requested).await })
        });
        for kill in kills.collect::<Vec<_>>() {
            kill.await.map_err(|error| NodeError::Node(error.into()))??;
        }
        Ok(())
    }

    /// How it works.
    pub(crate) fn config(&self) -> &NodeConfig {
        &self.context.config
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        self.context.driver.as_ref()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.context.config.clock)()
    }

    fn handle(&self, id: &SandboxId) -> Result<Arc<Handle>, NodeError> {
        self.context.registry.get(id).ok_or_else(|| NodeError::NotFound { id: id.clone() })
    }

    fn guest(&self, id: &SandboxId) -> Result<Arc<Guest>, NodeError> {
        let guest = self.handle(id)?.view.borrow().guest.clone();
        guest.ok_or_else(|| NodeError::NotFound { id: id.clone() })
    }

    /// Connects to a port inside, as [`Node::connect`].
    pub(crate) async fn dial(&self, id: &SandboxId, port: u16) -> Result<PortStream, NodeError> {
        self.guest(id)?.connect(port).await.map_err(|error| match error {
            GuestError::PortClosed => NodeError::PortClosed { id: id.clone(), port },
            other => guest_error(id, other),
        })
    }

    /// Makes a sandbox where there is room, and returns when it runs.
    pub(crate) async fn make(
        &self,
        spec: SandboxSpec,
        making: Making,
    ) -> Result<Arc<Handle>, NodeError> {
        let id = spec.id.clone();
        let host = HostMemory::read().map_err(|error| NodeError::Node(error.into()))?;
        let entry = self.context.registry.get_or_make(&id, |load| {
            let memory_mib = spec.limits.memory_mib().into();
            self.context
                .config
                .capacity
                .admit(load, host, memory_mib)
                .map_err(|what| NodeError::Full { what })?;
            Ok(sandbox::spawn(Arc::clone(&self.context), spec, making))
        });
        match entry {
            Entry::Present(handle) => {
                started(&id, self.settled(&handle).await?)?;
                Ok(handle)
            }
            Entry::Ended => Err(NodeError::NotFound { id }),
            Entry::Refused(error) => Err(error),
        }
    }

    /// Waits until a sandbox runs or has ended.
    async fn settled(&self, handle: &Handle) -> Result<View, NodeError> {
        let config = &self.context.config;
        let starting = config.ready_deadline + handle.start_deadline;
        let patience = config.make_deadline + starting + KILL_DEADLINE;
        let mut view = handle.view.clone();
        let settled = view.wait_for(|view| matches!(view.state, State::Running | State::Ended(_)));
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(view)) => Ok(view.clone()),
            // The task is gone without an end: the node is being let go of.
            Ok(Err(_)) => Err(NodeError::NotFound { id: handle.spec.id.clone() }),
            Err(elapsed) => Err(NodeError::Node(elapsed.into())),
        }
    }
}

/// What came of asking a guest.
fn guest_error(id: &SandboxId, error: GuestError) -> NodeError {
    let id = id.clone();
    match error {
        GuestError::Ended => NodeError::NotFound { id },
        GuestError::Busy { .. } => NodeError::Full { what: error.to_string() },
        GuestError::Socket(_)
        | GuestError::Channel(_)
        | GuestError::Connection(_)
        | GuestError::Request(_)
        | GuestError::BodyBroken
        | GuestError::Stalled
        | GuestError::PortClosed
        | GuestError::Late { .. }
        | GuestError::Answer { .. }
        | GuestError::Network(_)
        | GuestError::Start(_) => NodeError::Guest { id, source: error.into() },
    }
}

/// Ends a sandbox, whether a task owns it or only the driver knows it. Returns when it is gone.
async fn end(context: &Context, id: &SandboxId, reason: EndReason) -> Result<(), NodeError> {
    let Some(handle) = context.registry.get(id) else {
        let destroyed = jobs::destroy(context.driver.as_ref(), id);
        return match tokio::time::timeout(KILL_DEADLINE, destroyed).await {
            Ok(_ended) => Ok(()),
            Err(elapsed) => Err(NodeError::Node(elapsed.into())),
        };
    };
    // A task that no longer takes commands has ended its sandbox.
    let _closed = handle.commands.send(Command::End(reason)).await;
    let mut view = handle.view.clone();
    let ended = view.wait_for(|view| matches!(view.state, State::Ended(_)));
    match tokio::time::timeout(KILL_DEADLINE, ended).await {
        Ok(_ended_or_released) => Ok(()),
        Err(elapsed) => Err(NodeError::Node(elapsed.into())),
    }
}

/// The answer to a create or adopt whose sandbox has settled.
fn started(id: &SandboxId, view: View) -> Result<(), NodeError> {
    let State::Ended(reason) = view.state else { return Ok(()) };
    let id = id.clone();
    match view.failure {
        Some(failure) if failure.no_machine() => Err(NodeError::NotFound { id }),
        Some(failure) => match failure.no_room() {
            Some(what) => Err(NodeError::Full { what: what.to_owned() }),
            None => Err(NodeError::NotStarted { id, reason, source: failure.into() }),
        },
        None => Err(NodeError::NotStarted { id, reason, source: GuestError::Ended.into() }),
    }
}

#[async_trait]
impl Node for LocalNode {
    async fn info(&self) -> Result<NodeInfo, NodeError> {
        let driver = &self.context.driver;
        Ok(NodeInfo {
            isolation: driver.isolation(),
            technology: driver.technology(),
            builds: self.context.config.builds.list().await,
        })
    }

    fn room(&self) -> Result<NodeRoom, NodeError> {
        let host = HostMemory::read().map_err(|error| NodeError::Node(error.into()))?;
        let (load, capacity) = (self.context.registry.load(), &self.context.config.capacity);
        Ok(NodeRoom {
            sandboxes: load.sandboxes,
            sandboxes_max: capacity.max_sandboxes,
            memory_limits_bytes: load.memory_mib.saturating_mul(MIB),
            memory_limits_max_bytes: capacity.memory_budget_mib(host).saturating_mul(MIB),
            memory_available_bytes: host.available_mib.saturating_mul(MIB),
            memory_total_bytes: host.total_mib.saturating_mul(MIB),
        })
    }

    async fn create(&self, spec: SandboxSpec) -> Result<(), NodeError> {
        let image = self.context.config.builds.image(&spec.build).await.map_err(NodeError::Node)?;
        let Some(image) = image else {
            return Err(NodeError::UnknownBuild { build: spec.build });
        };
        let start_deadline = self.context.config.start_deadline;
        let (origin, purpose) = (Origin::Fresh, Purpose::Use);
        let making = Making { origin, image, purpose, start_deadline };
        self.make(spec, making).await.map(drop)
    }

    async fn adopt(&self, spec: SandboxSpec) -> Result<(), NodeError> {
        let id = spec.id.clone();
        let making = Making {
            origin: Origin::Adopted,
            image: std::path::PathBuf::new(),
            purpose: Purpose::Use,
            start_deadline: Duration::ZERO,
        };
        let entry = self.context.registry.get_or_make(&id, |_load| {
            Ok::<_, NodeError>(sandbox::spawn(Arc::clone(&self.context), spec, making))
        });
        match entry {
            Entry::Present(handle) => started(&id, self.settled(&handle).await?),
            Entry::Ended => Err(NodeError::NotFound { id }),
            Entry::Refused(error) => Err(error),
        }
    }

    async fn reap_except(&self, keep: &[SandboxId]) -> Result<Vec<SandboxId>, NodeError> {
        let mut doomed = self.context.driver.list().await.map_err(node_error)?;
        let is_builds = |id: &SandboxId| {
            let handle = self.context.registry.get(id);
            handle.is_some_and(|handle| handle.purpose == Purpose::Build)
        };
        // A build's guard ends its sandbox. One of a build that died with an earlier process has no
        // handle here.
        doomed.retain(|id| !keep.contains(id) && !is_builds(id));
        for id in &doomed {
            end(&self.context, id, EndReason::Lost).await?;
        }
        Ok(doomed)
    }

    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), NodeError> {
        let handle = self.handle(id)?;
        let _order = handle.deadline_order.lock().await;
        if handle.commands.send(Command::SetDeadline(deadline)).await.is_err() {
            return Err(NodeError::NotFound { id: id.clone() });
        }
        let state = handle.view.borrow().state;
        match state {
            // The task tells the driver as soon as there is a machine.
            State::Making(_) => Ok(()),
            State::Greeting(_) | State::Running => {
                match jobs::move_deadline(self.context.driver.as_ref(), id, deadline).await {
                    Ok(()) => Ok(()),
                    Err(DriverFailure::Driver(error)) => Err(node_error(error)),
                    Err(other @ (DriverFailure::Late { .. } | DriverFailure::Doomed)) => {
                        Err(NodeError::Node(other.into()))
                    }
                }
            }
            State::Doomed(_) | State::Ending(_) | State::Ended(_) => {
                Err(NodeError::NotFound { id: id.clone() })
            }
        }
    }

    async fn kill(&self, id: &SandboxId) -> Result<(), NodeError> {
        end(&self.context, id, EndReason::Requested).await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, NodeError> {
        match tokio::time::timeout(USAGE_DEADLINE, self.context.driver.usage(id)).await {
            Ok(usage) => usage.map_err(|error: DriverError| node_error(error)),
            Err(elapsed) => Err(NodeError::Node(elapsed.into())),
        }
    }

    async fn set_network(&self, id: &SandboxId, network: NetworkSpec) -> Result<(), NodeError> {
        let handle = self.handle(id)?;
        let gone = || NodeError::NotFound { id: id.clone() };
        let (answer, answered) = oneshot::channel();
        let command = Command::SetNetwork(Box::new(network), answer);
        if handle.commands.send(command).await.is_err() {
            return Err(gone());
        }
        let set = answered.await.map_err(|_task_is_gone| gone())?;
        set.map_err(|error| NodeError::Network { id: id.clone(), source: error.into() })
    }

    async fn flows(
        &self,
        id: &SandboxId,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<FlowPage, NodeError> {
        let log = self.context.registry.flows(id);
        let log = log.ok_or_else(|| NodeError::NotFound { id: id.clone() })?;
        let page = log.page(after, limit);
        if !page.flows.is_empty() || wait.is_zero() {
            return Ok(page);
        }
        let mut reader = log.follow(after);
        let handle = self.context.registry.get(id);
        let ended = async {
            let Some(handle) = handle else { return };
            // An error says that the task is gone, and with it whatever could still be written.
            let mut view = handle.view.clone();
            let _gone = view.wait_for(|view| matches!(view.state, State::Ended(_))).await;
        };
        tokio::select! {
            page = reader.next(limit) => Ok(page),
            () = ended => {
                let page = log.page(after, limit);
                // An empty page would send whoever follows round and round.
                let all_read = page.flows.is_empty();
                if all_read { Err(NodeError::NotFound { id: id.clone() }) } else { Ok(page) }
            }
            () = tokio::time::sleep(wait) => Ok(FlowPage::default()),
        }
    }

    async fn explain(
        &self,
        id: &SandboxId,
        request: ExplainRequest,
    ) -> Result<Explanation, NodeError> {
        let network = self.handle(id)?.view.borrow().network.clone();
        let failed = |source| NodeError::Network { id: id.clone(), source };
        let network = network.ok_or_else(|| failed(NetworkError::Ended.into()))?;
        network.explain(&request).map_err(|error| failed(error.into()))
    }

    async fn request(
        &self,
        id: &SandboxId,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NodeError> {
        self.guest(id)?.request(request).await.map_err(|error| guest_error(id, error))
    }

    async fn connect(&self, id: &SandboxId, port: u16) -> Result<Box<dyn ByteStream>, NodeError> {
        Ok(Box::new(self.dial(id, port).await?.compat()))
    }

    async fn next_report(&self) -> Report {
        self.context.reports.next().await
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }
}
