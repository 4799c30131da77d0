//! Pins: which names our own answers gave an address for. Nothing else makes an address dialable
//! by name.

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courier_types::egress::{HostName, TunnelName};
use lru::LruCache;
use tokio::time::Instant;

/// Most addresses of one sandbox; the one that was longest not used goes first.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// Most names of one address: many names share the addresses of a delivery network. The oldest
/// goes first.
const NAMES_MAX: usize = 32;
/// Shortest life of a pin. Programs keep an answer for longer than its TTL; ten minutes covers the
/// caches of the usual runtimes, and the pin says no more than that the name was allowed.
const LIFE_MIN: Duration = Duration::from_mins(10);
/// Longest life of a pin: an address changes its owner sooner or later.
const LIFE_MAX: Duration = Duration::from_hours(1);

/// Tunnels are reachable at addresses of 198.18.0.0/24 (RFC 2544: never on the internet).
const TUNNELS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// As many as one policy may name.
const TUNNELS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Names that learn mode refuses get addresses of 198.19.0.0/16 (RFC 2544).
const LEARN: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
/// Most of them.
const LEARN_MAX: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pinned {
    /// Itself.
    Real,
    /// A tunnel.
    Tunnel(TunnelName),
    /// A name that was refused: never dialled.
    Learn,
}

/// The pins of one sandbox.
#[derive(Debug)]
pub(crate) struct Pins(Mutex<Tables>);

#[derive(Debug)]
struct Tables {
    real: LruCache<Ipv4Addr, Vec<Pin>>,
    tunnels: MadeUp<(TunnelName, HostName)>,
    learn: MadeUp<HostName>,
}

#[derive(Debug)]
struct Pin {
    name: HostName,
    until: Instant,
}

impl Default for Pins {
    fn default() -> Self {
        Self(Mutex::new(Tables {
            real: LruCache::sparse(ADDRESSES_MAX),
            tunnels: MadeUp::new(TUNNELS, TUNNELS_MAX),
            learn: MadeUp::new(LEARN, LEARN_MAX),
        }))
    }
}

impl Pins {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the address stands for, and the names for which it was given out, newest first; `None`
    /// where it never was, or too long ago.
    pub(crate) fn names(&self, address: Ipv4Addr) -> Option<(Pinned, Vec<HostName>)> {
        let mut tables = self.tables();
        if let Some((tunnel, name)) = tables.tunnels.key(address) {
            return Some((Pinned::Tunnel(tunnel.clone()), vec![name.clone()]));
        }
        if let Some(name) = tables.learn.key(address) {
            return Some((Pinned::Learn, vec![name.clone()]));
        }
        let now = Instant::now();
        let pins = tables.real.get_mut(&address)?;
        pins.retain(|pin| pin.until > now);
        let names: Vec<HostName> = pins.iter().rev().map(|pin| pin.name.clone()).collect();
        if names.is_empty() {
            tables.real.pop(&address);
            return None;
        }
        Some((Pinned::Real, names))
    }

    /// Pins addresses that are about to be given out for a name.
    pub(crate) fn pin(&self, name: &HostName, addresses: &[Ipv4Addr], ttl: Duration) {
        let until = Instant::now() + ttl.clamp(LIFE_MIN, LIFE_MAX);
        let mut tables = self.tables();
        for address in addresses {
            let pins = tables.real.get_or_insert_mut(*address, Vec::new);
            pins.retain(|pin| pin.name != *name);
            if pins.len() >= NAMES_MAX {
                pins.remove(0);
            }
            pins.push(Pin { name: name.clone(), until });
        }
    }

    /// The address that stands for a tunnel.
    pub(crate) fn pin_tunnel(&self, tunnel: TunnelName, name: HostName) -> Ipv4Addr {
        self.tables().tunnels.address((tunnel, name))
    }

    /// The address that stands for a name that is refused.
    pub(crate) fn pin_refused(&self, name: HostName) -> Ipv4Addr {
        self.tables().learn.address(name)
    }
}

/// Addresses that stand for keys: as long as there are some left, a key keeps its own.
#[derive(Debug)]
struct MadeUp<K: Eq + std::hash::Hash> {
    base: u32,
    /// The place of each key's address behind the base.
    places: LruCache<K, u32>,
    keys: Vec<K>,
}

impl<K: Eq + std::hash::Hash + Clone> MadeUp<K> {
    fn new(base: Ipv4Addr, max: NonZeroUsize) -> Self {
        Self { base: base.to_bits(), places: LruCache::sparse(max), keys: Vec::new() }
    }

    fn key(&mut self, address: Ipv4Addr) -> Option<&K> {
        let place = address.to_bits().checked_sub(self.base)?;
        let key = self.keys.get(usize::try_from(place).ok()?)?;
        self.places.promote(key);
        Some(key)
    }

    fn address(&mut self, key: K) -> Ipv4Addr {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => self.give_place(key),
        };
        Ipv4Addr::from_bits(self.base + place)
    }

    /// A place that is free, or that of the key that was longest not used.
    fn give_place(&mut self, key: K) -> u32 {
        let freed = (self.keys.len() >= self.places.cap().get()).then(|| self.places.pop_lru());
        let place = match freed.flatten() {
            Some((_, place)) => {
                if let Some(slot) = usize::try_from(place).ok().and_then(|at| self.keys.get_mut(at))
                {
                    *slot = key.clone();
                }
                place
            }
            None => {
                self.keys.push(key.clone());
                u32::try_from(self.keys.len() - 1).unwrap_or(0)
            }
        };
        self.places.put(key, place);
        place
    }
}

#[cfg(test)]
mod tests;
