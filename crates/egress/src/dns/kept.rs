//! Answers that are kept, per sandbox: whether a neighbour asked for a name shows nowhere.

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::time::Duration;

use courier_types::egress::HostName;
use lru::LruCache;
use tokio::time::Instant;

use super::resolver::{Answer, Resolver};

/// Most answers, of at most 300 bytes each with their names.
const ANSWERS_MAX: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Longest time that an answer is kept, whatever its TTL says.
const TTL_MAX: Duration = Duration::from_hours(1);

/// The answers of one resolver to one sandbox.
#[derive(Debug)]
pub(super) struct Kept {
    from: Option<Resolver>,
    answers: LruCache<HostName, (Vec<Ipv4Addr>, Instant)>,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self { from: None, answers: LruCache::sparse(ANSWERS_MAX) }
    }

    /// What is kept of that resolver for the name, and for how long it still holds.
    pub(super) fn get(&mut self, from: &Resolver, host: &HostName) -> Option<Answer> {
        if !self.from.as_ref().is_some_and(|known| known.is(from)) {
            return None;
        }
        let (addresses, until) = self.answers.get(host)?;
        let ttl = until.saturating_duration_since(Instant::now());
        if ttl.is_zero() {
            self.answers.pop(host);
            return None;
        }
        Some(Answer { addresses: addresses.clone(), ttl })
    }

    /// Keeps an answer for its TTL. What another resolver said is forgotten.
    pub(super) fn put(&mut self, from: &Resolver, host: HostName, answer: &Answer) {
        if !self.from.as_ref().is_some_and(|known| known.is(from)) {
            self.from = Some(from.clone());
            self.answers.clear();
        }
        if !answer.ttl.is_zero() {
            let until = Instant::now() + answer.ttl.min(TTL_MAX);
            self.answers.put(host, (answer.addresses.clone(), until));
        }
    }
}
