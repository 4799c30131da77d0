//! How much a sandbox may ask: names are bytes that leave, whoever answers for them.
//!
//! A rule for one name lets nothing be said by asking: there is one thing to ask. A rule for all
//! names below one lets its labels be chosen by the guest, so these are counted in bytes.

use std::num::NonZeroUsize;
use std::time::Duration;

use courier_types::egress::HostName;
use lru::LruCache;
use tokio::time::Instant;

/// How many questions a second, of any kind: a program's start asks some tens at once.
const QUESTIONS: Rate = Rate { interval: Duration::from_millis(20), burst: 200 };

/// How many bytes of new names below a wildcard's: 1 KiB at once and 1 KiB a minute more, so 2 KiB
/// in any minute. Some 100 new names of ten characters in the first minute.
const BELOW: Rate = Rate { interval: Duration::from_nanos(58_593_750), burst: 1_024 };

/// How many bytes of new names under a rule that lets any public name pass: 32 KiB at once and
/// 32 KiB a minute more. Visiting many pages stays below it, and who may connect anywhere has
/// easier ways to say something; this keeps names from being the unnoticed one.
const ANY: Rate = Rate { interval: Duration::from_nanos(1_831_054), burst: 32_768 };

/// What a name costs that was asked before: which of at most [`KNOWN_MAX`] it is says 10 bits.
const AGAIN_BYTES: usize = 2;
/// Most names that count as asked before.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// One flow record per budget in this time: who is over a budget asks a lot.
const TELL_SPAN: Duration = Duration::from_secs(10);

/// How wide the rule is that lets a name pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Width {
    /// It is about this name, or about finitely many.
    Exact,
    /// About every name below this.
    Below(HostName),
    /// About every public name.
    Any,
}

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    /// What the flow log says; `None` where it said so a moment ago.
    pub(super) why: Option<&'static str>,
}

/// So many at once, and one more in each interval.
#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

/// What is left of a rate.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    why: &'static str,
    /// When it will be full again.
    full_at: Instant,
    told_at: Option<Instant>,
}

impl Bucket {
    fn new(rate: Rate, why: &'static str) -> Self {
        Self { rate, why, full_at: Instant::now(), told_at: None }
    }

    fn take(&mut self, count: usize) -> Result<(), Spent> {
        let now = Instant::now();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let wait = self.full_at.saturating_duration_since(now);
        let wait = wait.saturating_add(self.rate.interval.saturating_mul(count));
        if wait <= self.rate.interval.saturating_mul(self.rate.burst) {
            self.full_at = now + wait;
            return Ok(());
        }
        let silent = self.told_at.is_some_and(|told| now.duration_since(told) < TELL_SPAN);
        if silent {
            return Err(Spent { why: None });
        }
        self.told_at = Some(now);
        Err(Spent { why: Some(self.why) })
    }
}

/// The budgets of one sandbox.
#[derive(Debug)]
pub(super) struct Budgets {
    questions: Bucket,
    below: Bucket,
    any: Bucket,
    known: LruCache<HostName, ()>,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self {
            questions: Bucket::new(QUESTIONS, "more than 50 DNS questions a second"),
            below: Bucket::new(
                BELOW,
                "new names below a wildcard's are limited to 1 KiB a minute; a rule for the exact name has no such limit",
            ),
            any: Bucket::new(ANY, "new names are limited to 32 KiB a minute"),
            known: LruCache::sparse(KNOWN_MAX),
        }
    }

    /// Counts a question of any kind.
    pub(super) fn count_question(&mut self) -> Result<(), Spent> {
        self.questions.take(1)
    }

    /// Counts a name that goes out.
    pub(super) fn count_name(&mut self, host: &HostName, width: &Width) -> Result<(), Spent> {
        let (bucket, parent) = match width {
            Width::Exact => return Ok(()),
            Width::Below(parent) => (&mut self.below, parent.as_str().len()),
            Width::Any => (&mut self.any, 0),
        };
        if self.known.get(host).is_some() {
            return bucket.take(AGAIN_BYTES);
        }
        bucket.take(host.as_str().len().saturating_sub(parent))?;
        self.known.put(host.clone(), ());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
