//! The sandboxes of a node: handles on their tasks, and the ids that have ended.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courier_driver::Driver;
use courier_egress::FlowLog;
use courier_types::SandboxId;
use tokio::sync::Semaphore;

use crate::admission::Load;
use crate::config::NodeConfig;
use crate::reports::Reports;
use crate::sandbox::Handle;

/// How many ended ids are remembered, so that a late or repeated call cannot bring one back.
const ENDED_LIMIT: usize = 16_384;

/// How many ended sandboxes' flow logs are kept: one that was run to learn what it needs is over when
/// somebody asks.
const ENDED_FLOWS_LIMIT: usize = 64;

/// How much of each is kept, in bytes of memory: a thousand records and more, 32 MiB for all.
const ENDED_FLOWS_BYTES: usize = 512 * 1024;

/// What the tasks of one node share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) config: NodeConfig,
    pub(crate) reports: Reports,
    pub(crate) registry: Registry,
    /// Turns to make a machine: more at once would only make all of them slow.
    pub(crate) making: Semaphore,
}

/// The sandboxes of a node.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    handles: HashMap<SandboxId, Arc<Handle>>,
    ended: HashSet<SandboxId>,
    ended_order: VecDeque<SandboxId>,
    /// The flow logs of the sandboxes that ended last, the oldest first.
    ended_flows: VecDeque<(SandboxId, FlowLog)>,
}

impl Table {
    fn load(&self) -> Load {
        let limits = self.handles.values().map(|handle| handle.spec.limits.memory_mib());
        Load { sandboxes: self.handles.len(), memory_mib: limits.map(u64::from).sum() }
    }
}

/// What came of asking for a handle that may have to be made.
pub(crate) enum Entry<E> {
    /// It was there, or has been made.
    Present(Arc<Handle>),
    /// The sandbox has ended already.
    Ended,
    /// It was refused.
    Refused(E),
}

impl Registry {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of a sandbox that has not ended.
    pub(crate) fn get(&self, id: &SandboxId) -> Option<Arc<Handle>> {
        self.table().handles.get(id).map(Arc::clone)
    }

    /// Ids of all sandboxes that have not ended.
    pub(crate) fn ids(&self) -> Vec<SandboxId> {
        self.table().handles.keys().cloned().collect()
    }

    /// The handle of a sandbox, made by `make` where there is none. `make` gets the present load and
    /// runs under the lock, so that two creates cannot both take the last room.
    pub(crate) fn get_or_make<E>(
        &self,
        id: &SandboxId,
        make: impl FnOnce(Load) -> Result<Handle, E>,
    ) -> Entry<E> {
        let mut table = self.table();
        if let Some(handle) = table.handles.get(id) {
            return Entry::Present(Arc::clone(handle));
        }
        if table.ended.contains(id) {
            return Entry::Ended;
        }
        match make(table.load()) {
            Ok(handle) => {
                let handle = Arc::new(handle);
                table.handles.insert(id.clone(), Arc::clone(&handle));
                Entry::Present(handle)
            }
            Err(refused) => Entry::Refused(refused),
        }
    }

    /// What there is.
    pub(crate) fn load(&self) -> Load {
        self.table().load()
    }

    /// Forgets a sandbox that has ended, and remembers that it did.
    pub(crate) fn ended(&self, id: &SandboxId) {
        let mut table = self.table();
        if let Some(handle) = table.handles.remove(id) {
            handle.flows.keep_newest(ENDED_FLOWS_BYTES);
            table.ended_flows.push_back((id.clone(), handle.flows.clone()));
        }
        if table.ended_flows.len() > ENDED_FLOWS_LIMIT {
            table.ended_flows.pop_front();
        }
        if table.ended.insert(id.clone()) {
            table.ended_order.push_back(id.clone());
        }
        if table.ended_order.len() > ENDED_LIMIT
            && let Some(oldest) = table.ended_order.pop_front()
        {
            table.ended.remove(&oldest);
        }
    }

    /// The flow log of a sandbox: of one that is there, or of one that ended not long ago.
    pub(crate) fn flows(&self, id: &SandboxId) -> Option<FlowLog> {
        let table = self.table();
        if let Some(handle) = table.handles.get(id) {
            return Some(handle.flows.clone());
        }
        table.ended_flows.iter().find(|(ended, _)| ended == id).map(|(_, flows)| flows.clone())
    }

    /// Lets go of every sandbox: their tasks end, the machines stay as they are.
    pub(crate) fn release(&self) {
        self.table().handles.clear();
    }
}
