//! Which connections there are, by their ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;
use super::packet::{Ends, PacketRefusal};

/// The most connections of a sandbox, those that are being opened among them: twice what is asked
/// for.
pub(super) const CONNECTIONS_MAX: usize = 1_024;
/// The most connections that wait for an answer to whether they may be opened. Programs that open
/// more at once try again.
pub(super) const OPENING_MAX: usize = 256;

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    by_ends: HashMap<Ends, Place>,
    opening: usize,
}

/// What stands for two ends.
#[derive(Debug)]
enum Place {
    /// Nobody has said yet whether it may be opened.
    Opening,
    /// A connection.
    Open(Arc<Connection>),
}

/// Whose a segment is.
#[derive(Debug)]
pub(super) enum Owner {
    /// Nobody's.
    Nobody,
    /// That of a connection which is not yet accepted: too early.
    Opening,
    /// A connection's.
    Connection(Arc<Connection>),
}

/// What becomes of a SYN.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It is the first: whoever claimed the place has to find out whether it may be.
    First(Claim),
    /// There is one already.
    Again,
    /// There is no place.
    Full(PacketRefusal),
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        let places = self.lock();
        places.by_ends.len().saturating_sub(places.opening)
    }

    /// Whose a segment is.
    pub(super) fn owner(&self, ends: &Ends) -> Owner {
        match self.lock().by_ends.get(ends) {
            None => Owner::Nobody,
            Some(Place::Opening) => Owner::Opening,
            Some(Place::Open(connection)) => Owner::Connection(Arc::clone(connection)),
        }
    }

    /// Takes a place for the ends of a SYN.
    pub(super) fn claim(self: &Arc<Self>, ends: Ends) -> Claimed {
        let mut places = self.lock();
        if places.by_ends.contains_key(&ends) {
            return Claimed::Again;
        }
        if places.by_ends.len() >= CONNECTIONS_MAX {
            return Claimed::Full(PacketRefusal::Connections);
        }
        if places.opening >= OPENING_MAX {
            return Claimed::Full(PacketRefusal::Opening);
        }
        places.opening += 1;
        places.by_ends.insert(ends, Place::Opening);
        Claimed::First(Claim { table: Arc::clone(self), ends })
    }

    /// Ends every connection.
    pub(super) fn sever(&self) {
        let places = std::mem::take(&mut *self.lock());
        for place in places.by_ends.into_values() {
            if let Place::Open(connection) = place {
                connection.sever();
            }
        }
    }
}

/// A place in the table, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    table: Arc<Table>,
    ends: Ends,
}

impl Claim {
    /// Whose place it is.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    /// Puts a connection there; false once the table was ended.
    pub(super) fn open(&self, connection: Arc<Connection>) -> bool {
        let mut places = self.table.lock();
        let Some(place) = places.by_ends.get_mut(&self.ends) else { return false };
        *place = Place::Open(connection);
        places.opening = places.opening.saturating_sub(1);
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut places = self.table.lock();
        if let Some(Place::Opening) = places.by_ends.remove(&self.ends) {
            places.opening = places.opening.saturating_sub(1);
        }
    }
}
