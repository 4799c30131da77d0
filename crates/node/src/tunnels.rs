//! Private tunnels of a node: those that its operator configured, and those whose connectors are
//! connected to the server.
//!
//! ```text
//! sandbox of project P ─▶ egress (policy) ─▶ Tunnels of P ─┬─▶ the operator's: dialled from here
//!                                                          └─▶ P's connector: a CONNECT stream
//! ```
//!
//! What always holds: a sandbox sees the operator's tunnels and those of its own project, no others;
//! whatever goes through a connector ends with the connector's connection.

mod connection;
mod connectors;
mod guarded;
mod own;
mod stream;
mod target;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use courier_egress::{TunnelError, TunnelStream, Tunnels};
use courier_protocol::node::{OfferedTunnel, ReserveError, TunnelHub, TunnelNames, TunnelSlot};
use courier_types::egress::TunnelName;
use courier_types::{ProjectId, SandboxId};

use crate::config::{Clock, system_clock};
use connection::Slot;
use connectors::Connectors;
use own::Own;
pub use own::{TunnelSpec, TunnelSpecError, TwoOfOneName};
pub use target::{DialError, TargetError, TunnelTarget};

/// All private tunnels of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TunnelRegistry {
    own: Arc<Own>,
    connectors: Arc<Connectors>,
}

impl Default for TunnelRegistry {
    /// Without any of the operator's.
    fn default() -> Self {
        Self::over(Own::default(), system_clock())
    }
}

impl TunnelRegistry {
    /// With the operator's tunnels.
    ///
    /// # Errors
    /// Two of them have one name.
    pub fn new(specs: Vec<TunnelSpec>, clock: Clock) -> Result<Self, TwoOfOneName> {
        Ok(Self::over(Own::new(specs)?, clock))
    }

    fn over(own: Own, clock: Clock) -> Self {
        Self { own: Arc::new(own), connectors: Arc::new(Connectors::new(clock)) }
    }

    /// The tunnels as the sandboxes of a project see them; without a project, the operator's only.
    #[must_use]
    pub fn of(&self, project: Option<&ProjectId>) -> Arc<dyn Tunnels> {
        Arc::new(ProjectTunnels { registry: self.clone(), project: project.cloned() })
    }
}

impl TunnelNames for TunnelRegistry {
    fn offered(&self, project: &ProjectId) -> Vec<OfferedTunnel> {
        let mut all = self.own.offered();
        all.extend(self.connectors.offered(project));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl TunnelHub for TunnelRegistry {
    fn reserve(
        &self,
        project: &ProjectId,
        name: &TunnelName,
        port: u16,
    ) -> Result<Box<dyn TunnelSlot>, ReserveError> {
        if self.own.port(name).is_some() {
            return Err(ReserveError::Operators { name: name.clone() });
        }
        let reserved = Connectors::reserve(&self.connectors, (project, name), port)?;
        Ok(Box::new(Slot::new(reserved)))
    }
}

/// The tunnels of one project's sandboxes.
struct ProjectTunnels {
    registry: TunnelRegistry,
    project: Option<ProjectId>,
}

impl fmt::Debug for ProjectTunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProjectTunnels").field(&self.project).finish()
    }
}

#[async_trait]
impl Tunnels for ProjectTunnels {
    fn port(&self, _sandbox: &SandboxId, name: &TunnelName) -> Option<u16> {
        let of_project = || {
            let project = self.project.as_ref()?;
            self.registry.connectors.port(project, name)
        };
        self.registry.own.port(name).or_else(of_project)
    }

    async fn open(
        &self,
        _sandbox: &SandboxId,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError> {
        if let Some(opened) = self.registry.own.open(name).await {
            return opened;
        }
        let unknown = || TunnelError::Unknown { name: name.clone() };
        let project = self.project.as_ref().ok_or_else(unknown)?;
        let way = self.registry.connectors.way(project, name)?;
        way.open(name).await
    }
}

#[cfg(test)]
mod tests;
