//! Which connectors there are.
//!
//! ```text
//! reserve ─▶ reserved ─ connected ─▶ connected ─ goes ─▶ away ─ a day ─▶ forgotten
//!               └─ goes ─▶ as before                      └─ reserve ─▶ reserved
//! ```
//!
//! The name of a connector that is away stays known for a while: policies that name it stay
//! possible, and a sandbox is told that the connector is away rather than that there is no tunnel.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courier_egress::TunnelError;
use courier_protocol::node::{OfferedTunnel, ReserveError, TunnelKind};
use courier_types::egress::TunnelName;
use courier_types::{ProjectId, Timestamp};

use super::connection::Way;
use crate::config::Clock;

/// Most connectors of one project: each may cost 16 MiB.
const PROJECT_MAX: usize = 32;

/// Most connectors of a node.
const NODE_MAX: usize = 128;

/// How long the name of a connector that is away is remembered.
const REMEMBERED_FOR: Duration = Duration::from_hours(24);

/// Whose connector, and its name.
type Key = (ProjectId, TunnelName);

/// The connectors of all projects.
pub(super) struct Connectors {
    clock: Clock,
    known: Mutex<HashMap<Key, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    port: u16,
    state: State,
    /// Since when it is in that state.
    since: Timestamp,
}

#[derive(Debug, Clone)]
enum State {
    /// Somebody was told that it may be this connector, and is not yet.
    Reserved,
    Connected(Way),
    Away,
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectors").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Connectors {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// Takes a name, unless a connector has it.
    pub(super) fn reserve(
        connectors: &Arc<Self>,
        (project, name): (&ProjectId, &TunnelName),
        port: u16,
    ) -> Result<Reserved, ReserveError> {
        let now = (connectors.clock)();
        let key = (project.clone(), name.clone());
        let mut known = connectors.known();
        let before = known.get(&key).cloned();
        match &before {
            Some(Known { state: State::Reserved | State::Connected(_), .. }) => {
                return Err(ReserveError::Connected { name: name.clone() });
            }
            Some(Known { state: State::Away, .. }) => {}
            None => make_room(&mut known, project, now)?,
        }
        known.insert(key.clone(), Known { port, state: State::Reserved, since: now });
        drop(known);
        let connectors = Arc::clone(connectors);
        Ok(Reserved { connectors, key, port, before, was_connected: false })
    }

    pub(super) fn offered(&self, project: &ProjectId) -> Vec<OfferedTunnel> {
        let now = (self.clock)();
        let mut known = self.known();
        known.retain(|_key, known| !known.is_forgotten(now));
        let of_project = known.iter().filter(|((of, _name), _known)| of == project);
        let offer = |((_project, name), known): (&Key, &Known)| OfferedTunnel {
            name: name.clone(),
            port: known.port,
            kind: TunnelKind::Connector {
                connected: matches!(known.state, State::Connected(_)),
                since: known.since,
            },
        };
        of_project.map(offer).collect()
    }

    pub(super) fn port(&self, project: &ProjectId, name: &TunnelName) -> Option<u16> {
        self.known().get(&(project.clone(), name.clone())).map(|known| known.port)
    }

    /// The way through a connector.
    pub(super) fn way(&self, project: &ProjectId, name: &TunnelName) -> Result<Way, TunnelError> {
        match self.known().get(&(project.clone(), name.clone())).map(|known| &known.state) {
            Some(State::Connected(way)) => Ok(way.clone()),
            Some(State::Reserved | State::Away) => {
                Err(TunnelError::Disconnected { name: name.clone() })
            }
            None => Err(TunnelError::Unknown { name: name.clone() }),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    const fn is_away(&self) -> bool {
        matches!(self.state, State::Away)
    }

    fn is_forgotten(&self, now: Timestamp) -> bool {
        self.is_away() && now.since(self.since) >= REMEMBERED_FOR
    }
}

/// Makes room for one more of a project: of what is away, the oldest is forgotten first.
fn make_room(
    known: &mut HashMap<Key, Known>,
    project: &ProjectId,
    now: Timestamp,
) -> Result<(), ReserveError> {
    known.retain(|_key, known| !known.is_forgotten(now));
    if known.keys().filter(|(of, _name)| of == project).count() >= PROJECT_MAX {
        forget_oldest(known, |of| of == project, PROJECT_MAX)?;
    }
    if known.len() >= NODE_MAX {
        forget_oldest(known, |_of| true, NODE_MAX)?;
    }
    Ok(())
}

fn forget_oldest(
    known: &mut HashMap<Key, Known>,
    counts: impl Fn(&ProjectId) -> bool,
    limit: usize,
) -> Result<(), ReserveError> {
    let away = known.iter().filter(|((of, _name), known)| known.is_away() && counts(of));
    let oldest = away.min_by_key(|(_key, known)| known.since).map(|(key, _known)| key.clone());
    let oldest = oldest.ok_or(ReserveError::Full { limit })?;
    known.remove(&oldest);
    Ok(())
}

/// A name that is taken; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    connectors: Arc<Connectors>,
    key: Key,
    port: u16,
    /// What was known of that name.
    before: Option<Known>,
    was_connected: bool,
}

impl Reserved {
    /// The connector is there, and this is the way through it.
    pub(super) fn connected(&mut self, way: impl FnOnce(u16) -> Way) {
        let (port, since) = (self.port, (self.connectors.clock)());
        let state = State::Connected(way(port));
        self.connectors.known().insert(self.key.clone(), Known { port, state, since });
        self.was_connected = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let since = (self.connectors.clock)();
        let away = Known { port: self.port, state: State::Away, since };
        let after = if self.was_connected { Some(away) } else { self.before.take() };
        let mut known = self.connectors.known();
        match after {
            Some(after) => known.insert(self.key.clone(), after),
            None => known.remove(&self.key),
        };
    }
}
