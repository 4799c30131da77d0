//! Whose sandboxes are whose, and what goes when an owner goes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::checked::{Mount, Name};
use crate::host::Host;
use crate::sandbox::{MachineFds, Order, Sandbox};
use crate::wire::{Ended, How, LIST_PAGE, Limits, Refusal, Usage};

/// Most sandboxes at once, as a guard against a client in a loop.
const MAX_SANDBOXES: usize = 4_096;
/// Most records of ended sandboxes that wait for somebody to ask; the oldest goes first.
const MAX_ENDED: usize = 1_024;

/// An owner: a name, in the name space of a uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The client's uid.
    pub(crate) uid: u32,
    /// What it calls itself.
    pub(crate) name: Name,
}

/// What is wanted of a new sandbox.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The caps.
    pub(crate) limits: Limits,
    /// When it is destroyed, in microseconds since the Unix epoch.
    pub(crate) deadline: i64,
    /// The image, open for reading only.
    pub(crate) image: OwnedFd,
    /// The owner's volumes, and where they go.
    pub(crate) volumes: Vec<Mount>,
}

/// Whether an owner's sandboxes outlive its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linger {
    /// They do: a restarted server adopts them.
    Stay,
    /// They do not.
    Go,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: BTreeMap<Name, (Owner, Arc<Sandbox>)>,
    /// Open connections by owner.
    connections: HashMap<Owner, usize>,
    /// In order of their seeing them over.
    ended: VecDeque<Name>,
}

/// All sandboxes of a launcher.
#[derive(Debug)]
pub(crate) struct Registry {
    host: Arc<Host>,
    state: Mutex<State>,
}

impl Registry {
    /// None yet.
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host, state: Mutex::default() }
    }

    /// The host that the sandboxes are on.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Counts a connection.
    pub(crate) fn connected(&self, owner: &Owner) {
        *self.lock().connections.entry(owner.clone()).or_default() += 1;
    }

    /// Counts a connection off. With the last of an owner that does not linger go its sandboxes.
    pub(crate) fn disconnected(&self, owner: &Owner, linger: Linger) {
        let mut state = self.lock();
        let left = state.connections.get_mut(owner).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left > 0 {
            return;
        }
        state.connections.remove(owner);
        if linger == Linger::Stay {
            return;
        }
        let theirs: Vec<Arc<Sandbox>> = state
            .sandboxes
            .values()
            .filter(|(whose, _)| whose == owner)
            .map(|(_, sandbox)| Arc::clone(sandbox))
            .collect();
        drop(state);
        self.destroy_all(&theirs);
    }

    /// Destroys everything.
    pub(crate) fn shut_down(&self) {
        let all: Vec<Arc<Sandbox>> =
            self.lock().sandboxes.values().map(|(_, sandbox)| Arc::clone(sandbox)).collect();
        self.destroy_all(&all);
        self.host.parent.remove();
    }

    fn destroy_all(&self, sandboxes: &[Arc<Sandbox>]) {
        for sandbox in sandboxes {
            sandbox.ask_to_end();
        }
        for sandbox in sandboxes {
            if let Err(refusal) = sandbox.wait_for_end() {
                eprintln!("courier-launcher: {} ended before it ran: {refusal:?}", sandbox.id);
            }
            self.forget(sandbox);
        }
    }

    /// True when nobody needs this launcher.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.connections.is_empty()
            && state.sandboxes.values().all(|(_, sandbox)| sandbox.is_over())
    }

    /// Makes a sandbox, or finds the one that an equal request made before.
    pub(crate) fn create(
        &self,
        owner: &Owner,
        id: &Name,
        wanted: Wanted,
    ) -> Result<MachineFds, Refusal> {
        let sandbox = {
            let mut state = self.lock();
            match state.sandboxes.get(id) {
                Some((whose, sandbox)) if whose == owner => Arc::clone(sandbox),
                Some(_) => return Err(Refusal::invalid("the id is taken")),
                None => {
                    Self::make_room(&mut state)?;
                    let failed = |error| Refusal::host("start a keeper", &error);
                    let Wanted { limits, deadline, image, volumes } = wanted;
                    let sandbox = Arc::new(Sandbox::new(id.clone(), deadline).map_err(failed)?);
                    let order = Order { owner: owner.clone(), limits, image, volumes };
                    sandbox.keep(&self.host, order).map_err(failed)?;
                    state.sandboxes.insert(id.clone(), (owner.clone(), Arc::clone(&sandbox)));
                    sandbox
                }
            }
        };
        let machine = sandbox.machine();
        if machine.is_err() && sandbox.is_over() && sandbox.wait_for_end().is_err() {
            self.forget(&sandbox);
        }
        machine
    }

    fn make_room(state: &mut State) -> Result<(), Refusal> {
        let State { sandboxes, ended, .. } = state;
        for (id, (_, sandbox)) in &*sandboxes {
            if sandbox.is_over() && !ended.contains(id) {
                ended.push_back(id.clone());
            }
        }
        while ended.len() > MAX_ENDED
            && let Some(oldest) = ended.pop_front()
        {
            sandboxes.remove(&oldest);
        }
        let running = sandboxes.len().saturating_sub(ended.len());
        if running < MAX_SANDBOXES {
            return Ok(());
        }
        Err(Refusal::Full {
            what: format!("{running} sandboxes run, {MAX_SANDBOXES} are the most"),
        })
    }

    /// One of the owner's sandboxes.
    pub(crate) fn get(&self, owner: &Owner, id: &Name) -> Result<Arc<Sandbox>, Refusal> {
        match self.lock().sandboxes.get(id) {
            Some((whose, sandbox)) if whose == owner => Ok(Arc::clone(sandbox)),
            _ => Err(Refusal::NotFound),
        }
    }

    /// Destroys one of the owner's sandboxes, from whatever state, and forgets it.
    pub(crate) fn destroy(&self, owner: &Owner, id: &Name) -> Result<Ended, Refusal> {
        let sandbox = self.get(owner, id)?;
        sandbox.ask_to_end();
        let ended = sandbox.wait_for_end();
        self.forget(&sandbox);
        // What never ran is gone as well, and whoever asked for it has been told why.
        Ok(ended.unwrap_or_else(|_never_ran| Ended {
            how: How::Requested,
            usage: Usage::default(),
            log: String::new(),
        }))
    }

    /// A page of ids: of one owner, or of all.
    pub(crate) fn list(&self, owner: Option<&Owner>, after: Option<&Name>) -> (Vec<String>, bool) {
        let state = self.lock();
        let mut ids = state
            .sandboxes
            .iter()
            .filter(|(id, (whose, _))| {
                owner.is_none_or(|owner| owner == whose) && after.is_none_or(|after| *id > after)
            })
            .map(|(id, _)| id.to_string());
        let page = ids.by_ref().take(LIST_PAGE).collect();
        (page, ids.next().is_some())
    }

    /// Forgets a sandbox that is over: that one, and not another that has got its id since.
    fn forget(&self, sandbox: &Arc<Sandbox>) {
        let mut state = self.lock();
        let known = state.sandboxes.get(&sandbox.id);
        if known.is_some_and(|(_, known)| Arc::ptr_eq(known, sandbox)) {
            state.sandboxes.remove(&sandbox.id);
            state.ended.retain(|ended| *ended != sandbox.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
