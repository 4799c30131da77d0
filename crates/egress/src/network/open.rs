//! The open connections of one sandbox, and the policy that each of them needs to stay.
//!
//! A connection enters with what it stands on. When the policy is replaced, every one is judged anew
//! by the same function that let it in, under the same lock under which others enter: none can slip
//! in by the old policy once the new one is in force.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::tasks::Tasks;
use crate::policy::Compiled;

/// What a connection stands on: true while the policy still lets it go on.
pub(crate) type Stake = Box<dyn Fn(&Compiled) -> bool + Send + Sync>;

/// The policy does not let the connection go on, as of now.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the policy was replaced and does not allow the connection any more")]
pub(crate) struct Revoked;

/// Which connections a replacement closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Those that the new policy does not allow.
    Denied,
    /// All: they took a way that is no longer to be taken.
    All,
}

/// The policy in force and the connections under it. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct OpenConnections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    policy: watch::Sender<Arc<Compiled>>,
    tasks: Tasks,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, Entry>,
}

struct Entry {
    stake: Stake,
    tasks: Tasks,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl OpenConnections {
    /// None yet, under that policy; their tasks are children of `tasks`.
    pub(crate) fn new(policy: Compiled, tasks: Tasks) -> Self {
        let policy = watch::Sender::new(Arc::new(policy));
        Self(Arc::new(Shared { policy, tasks, table: Mutex::default() }))
    }

    /// The policy, as it is replaced.
    pub(crate) fn policy(&self) -> watch::Receiver<Arc<Compiled>> {
        self.0.policy.subscribe()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a connection.
    ///
    /// # Errors
    /// The policy has been replaced meanwhile and does not allow it.
    pub(crate) fn enter(&self, stake: Stake) -> Result<Ticket, Revoked> {
        let tasks = self.0.tasks.child();
        let mut table = self.table();
        if !stake(&self.0.policy.borrow()) {
            return Err(Revoked);
        }
        let number = table.next;
        table.next = number.wrapping_add(1);
        table.entries.insert(number, Entry { stake, tasks: tasks.clone() });
        Ok(Ticket { open: self.clone(), number, tasks })
    }

    /// Puts a policy in force, closes what may not stay, and says how many those were.
    pub(crate) fn replace(&self, policy: Compiled, closing: Closing) -> u32 {
        let policy = Arc::new(policy);
        let table = self.table();
        self.0.policy.send_replace(Arc::clone(&policy));
        let mut closed = 0_u32;
        for entry in table.entries.values() {
            if closing == Closing::All || !(entry.stake)(&policy) {
                entry.tasks.end();
                closed = closed.saturating_add(1);
            }
        }
        closed
    }
}

/// A connection's place among the open ones. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Ticket {
    open: OpenConnections,
    number: u64,
    tasks: Tasks,
}

impl Ticket {
    /// Where the connection's tasks run: they end when it may not go on.
    pub(crate) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// From now on the connection stands on something else, since more is known of it.
    ///
    /// # Errors
    /// The policy has been replaced meanwhile and does not allow it.
    pub(crate) fn stand_on(&self, stake: Stake) -> Result<(), Revoked> {
        let mut table = self.open.table();
        if !stake(&self.open.0.policy.borrow()) {
            return Err(Revoked);
        }
        if let Some(entry) = table.entries.get_mut(&self.number) {
            entry.stake = stake;
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.open.table().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use courier_types::egress::{Layer, LayerSource, Layers, Policy};

    use super::*;

    fn policy(text: &str) -> Compiled {
        let policy: Policy = serde_json::from_str(text).unwrap();
        Compiled::new(&Layers(vec![Layer { source: LayerSource::Sandbox, policy }])).unwrap()
    }

    fn tunnel(name: &'static str) -> Stake {
        Box::new(move |policy| policy.allows_tunnel(&name.parse().unwrap()))
    }

    fn open(text: &str) -> OpenConnections {
        OpenConnections::new(policy(text), Tasks::new())
    }

    #[test]
    fn a_replacement_ends_what_it_does_not_allow_and_nothing_else() {
        let open = open(r#"{"tunnels":["a","b"]}"#);
        let (a, b) = (open.enter(tunnel("a")).unwrap(), open.enter(tunnel("b")).unwrap());
        assert_eq!(open.replace(policy(r#"{"tunnels":["a"]}"#), Closing::Denied), 1);
        assert!(!a.tasks().is_ended() && b.tasks().is_ended());
        assert!(open.policy().borrow().allows_tunnel(&"a".parse().unwrap()));
    }

    #[test]
    fn nothing_enters_by_a_policy_that_is_no_longer_in_force() {
        let open = open(r#"{"tunnels":["a"]}"#);
        let a = open.enter(tunnel("a")).unwrap();
        assert!(open.enter(tunnel("b")).is_err());
        assert!(a.stand_on(tunnel("b")).is_err() && a.stand_on(tunnel("a")).is_ok());
    }

    #[test]
    fn a_new_way_out_closes_every_connection_that_took_the_old_one() {
        let open = open(r#"{"tunnels":["a"]}"#);
        let a = open.enter(tunnel("a")).unwrap();
        assert_eq!(open.replace(policy(r#"{"tunnels":["a"]}"#), Closing::All), 1);
        assert!(a.tasks().is_ended());
    }

    #[test]
    fn a_connection_that_has_ended_is_not_counted() {
        let open = open(r#"{"tunnels":["a"]}"#);
        drop(open.enter(tunnel("a")).unwrap());
        assert_eq!(open.replace(policy("{}"), Closing::Denied), 0);
    }
}
