//! What the connections of one sandbox share.

use std::sync::Arc;

use courier_types::SandboxId;
use tokio::sync::{Semaphore, watch};

use super::open::OpenConnections;
use super::tasks::Tasks;
use crate::broker::Broker;
use crate::dial::{Dialer, Reach};
use crate::dns::Pins;
use crate::flow::FlowLog;
use crate::http::Room;
use crate::policy::Compiled;
use crate::tls::UpstreamTrust;
use crate::tls::ca::SandboxCa;
use crate::tunnel::Tunnels;

/// Most connections of one sandbox through tunnels: a pool of a database's clients and then some. A
/// service behind a tunnel is many sandboxes', and none of them is to take all of it.
pub(crate) const THROUGH_MAX: usize = 128;

/// What the connections of one sandbox share.
#[derive(Debug)]
pub(crate) struct Context {
    /// Whose it is.
    pub(crate) sandbox: SandboxId,
    /// What it may reach, now.
    pub(crate) policy: watch::Receiver<Arc<Compiled>>,
    /// Its connections.
    pub(crate) open: OpenConnections,
    /// Which names our answers gave which addresses for.
    pub(crate) pins: Arc<Pins>,
    /// What is within reach at all.
    pub(crate) reach: Reach,
    /// How it gets outside, now.
    pub(crate) dialer: watch::Receiver<Dialer>,
    /// Its own CA.
    pub(crate) ca: SandboxCa,
    /// Whom it believes outside.
    pub(crate) trust: UpstreamTrust,
    /// What is added to its requests.
    pub(crate) broker: Broker,
    /// Its private tunnels.
    pub(crate) tunnels: Arc<dyn Tunnels>,
    /// Connections that it may still have through them.
    pub(crate) through: Arc<Semaphore>,
    /// How much room its HTTP has.
    pub(crate) room: Room,
    /// What is written about it.
    pub(crate) flows: FlowLog,
    /// Where its tasks run.
    pub(crate) tasks: Tasks,
}

impl Context {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Compiled> {
        Arc::clone(&self.policy.borrow())
    }

    /// The way outside in force.
    pub(crate) fn dialer(&self) -> Dialer {
        self.dialer.borrow().clone()
    }
}
