//! How fast packets are read that belong to no open connection: a guest that floods its link
//! with them is read more slowly, at the cost of its own traffic and of nobody else's processor.

use std::time::Duration;

use tokio::time::Instant;

/// How many packets that belong to no open connection are read in a [`WINDOW`] before reading rests. A
/// packet costs the host some 5 µs, so a flood costs 2 to 3 % of a core; 500 connections at once fit
/// into one window.
pub(super) const PACKETS: u32 = 500;
/// The span that is counted.
pub(super) const WINDOW: Duration = Duration::from_millis(100);

/// Counts.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    count: u32,
}

impl Pace {
    /// Starts to count.
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    /// Counts one packet; says until when to rest where there were too many.
    pub(super) fn count(&mut self, now: Instant) -> Option<Instant> {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
        (self.count > PACKETS).then(|| self.since + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_rests_until_the_window_is_over_and_a_trickle_never_does() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert!((0..PACKETS).all(|_| pace.count(begin).is_none()));
        assert_eq!(pace.count(begin), Some(begin + WINDOW));
        assert_eq!(pace.count(begin + WINDOW), None);
        let mut pace = Pace::new(begin);
        let trickle = (0..10_000).map(|n| begin + WINDOW * n / PACKETS);
        assert!(trickle.map(|now| pace.count(now)).all(|rest| rest.is_none()));
    }
}
