//! A sandbox's network as its task sees it: up, or closed and about to come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_driver::DriverError;
use courier_egress::{FlowLog, Network, NetworkError};
use courier_types::SandboxId;
use courier_types::egress::NetworkSpec;

use super::Happened;
use crate::network::NetworkConfig;
use crate::registry::Context;

/// First pause before a network that broke is brought up again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// A network that breaks so often is not worth more attempts. The last pause is 1.6 s.
const ATTEMPTS_MAX: u32 = 6;

/// One that stayed up for so long counts as mended: what breaks it then is another matter.
const MENDED_AFTER: Duration = Duration::from_secs(60);

/// Longest wait for the driver's descriptors.
const ATTACH_DEADLINE: Duration = Duration::from_secs(10);

/// The network of one sandbox.
#[derive(Debug)]
pub(super) struct Watched {
    /// What is in force, or will be when it comes up again.
    spec: NetworkSpec,
    flows: FlowLog,
    network: Option<Arc<Network>>,
    /// True when what is in force was replaced while it was not up.
    replaced: bool,
    /// How often it broke in a row.
    breaks: u32,
    /// Since when it is up.
    up_since: Option<Instant>,
}

/// What a network is brought up again with.
#[derive(Debug)]
pub(super) struct Again {
    spec: NetworkSpec,
    flows: FlowLog,
    breaks: u32,
}

impl Watched {
    /// One that is not up yet.
    pub(super) const fn new(spec: NetworkSpec, flows: FlowLog) -> Self {
        Self { spec, flows, network: None, replaced: false, breaks: 0, up_since: None }
    }

    /// The network, while it is up.
    pub(super) fn network(&self) -> Option<Arc<Network>> {
        self.network.clone()
    }

    /// What is seen of it.
    pub(super) fn flows(&self) -> FlowLog {
        self.flows.clone()
    }

    /// Takes a network that is up. It may have come up with a spec that was replaced meanwhile.
    pub(super) fn is_up(&mut self, network: Arc<Network>) -> Result<(), NetworkError> {
        if std::mem::take(&mut self.replaced) {
            network.set(&self.spec)?;
        }
        self.network = Some(network);
        self.up_since = Some(Instant::now());
        Ok(())
    }

    /// Replaces what is in force. One that could not be is refused though the network is not up.
    pub(super) fn replace(
        &mut self,
        config: &NetworkConfig,
        spec: NetworkSpec,
    ) -> Result<(), NetworkError> {
        match &self.network {
            Some(network) => network.set(&spec)?,
            None => {
                config.check(&spec)?;
                self.replaced = true;
            }
        }
        self.spec = spec;
        Ok(())
    }

    /// Closes it, and every connection.
    pub(super) fn close(&mut self) {
        self.network = None;
    }

    /// What to bring it up again with.
    pub(super) fn again(&mut self) -> Again {
        if self.up_since.take().is_some_and(|since| since.elapsed() >= MENDED_AFTER) {
            self.breaks = 0;
        }
        self.breaks = self.breaks.saturating_add(1);
        self.replaced = false;
        Again { spec: self.spec.clone(), flows: self.flows.clone(), breaks: self.breaks }
    }
}

/// Fetches the link from the driver again and serves it. Until then the sandbox has no network.
pub(super) async fn reopen(context: Arc<Context>, id: SandboxId, again: Again) -> Happened {
    if again.breaks > ATTEMPTS_MAX {
        return Happened::NetworkLost(NetworkError::Ended);
    }
    tokio::time::sleep(PAUSE.saturating_mul(1 << (again.breaks.saturating_sub(1)))).await;
    let attached = tokio::time::timeout(ATTACH_DEADLINE, context.driver.attach(&id)).await;
    let machine = match attached {
        Ok(Ok(machine)) => machine,
        // The machine is gone, and the driver tells that by itself.
        Ok(Err(DriverError::NotFound { .. })) => std::future::pending().await,
        Ok(Err(error)) => return lost(&id, &error),
        Err(elapsed) => return lost(&id, &elapsed),
    };
    tracing::warn!(sandbox = %id, breaks = again.breaks, "the network of a sandbox is brought up again");
    match context.config.network.start(machine.link, id, (again.spec, again.flows)) {
        Ok(network) => Happened::NetworkBack(Arc::new(network)),
        Err(error) => Happened::NetworkLost(error),
    }
}

fn lost(id: &SandboxId, error: &(dyn std::error::Error + 'static)) -> Happened {
    tracing::error!(sandbox = %id, error, "the link of a sandbox cannot be fetched again");
    Happened::NetworkLost(NetworkError::Ended)
}
