//! What looks for the forms of some values: made once for all answers of a sandbox that have to be
//! searched for the same ones at a time.
//!
//! A search takes some 50 bytes of memory for each byte of all forms, and so thousands for each byte
//! of the values: without sharing, and without a bound, a guest could fill the node's memory with
//! requests whose answers do not end. Nothing is kept: with the last answer the search goes, and the
//! values with it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use zeroize::Zeroizing;

use super::RedactorError;
use super::patterns::{self, Pattern};

/// Most bytes of all searches of one sandbox at a time: those for some ten of the longest values. A
/// single one may be larger.
const BYTES_MAX: usize = 64 << 20;

/// Looks for the forms of some values.
pub(super) struct Search {
    values: Vec<Zeroizing<Vec<u8>>>,
    pub(super) forms: AhoCorasick,
    /// In ascending order.
    pub(super) patterns: Vec<Pattern>,
    /// Length of the longest pattern in bytes.
    pub(super) longest: usize,
}

impl Search {
    /// A search for these values.
    pub(super) fn new(values: Vec<Zeroizing<Vec<u8>>>) -> Result<Self, RedactorError> {
        let patterns = patterns::patterns(&values);
        // The searcher keeps copies of its own; they go with it, at the end of the answer. Of its
        // kinds this one is built in the least time, which each request with a value pays: others
        // take seconds for the longest values.
        let forms = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::NoncontiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(patterns.iter().map(|pattern| pattern.as_slice()))?;
        let longest = patterns.iter().map(|pattern| pattern.len()).max().unwrap_or(0);
        Ok(Self { values, forms, patterns, longest })
    }
}

/// The searches of one sandbox that are in use. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Searches(Arc<Mutex<Vec<Weak<Search>>>>);

impl std::fmt::Debug for Searches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Searches(…)")
    }
}

impl Searches {
    /// A search for these values: one that is in use, or a new one.
    pub(super) fn of(&self, values: Vec<Zeroizing<Vec<u8>>>) -> Result<Arc<Search>, RedactorError> {
        // Held while one is made: who wants the same one gets it, and all others count it.
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        searches.retain(|search| search.strong_count() > 0);
        let used: Vec<Arc<Search>> = searches.iter().filter_map(Weak::upgrade).collect();
        if let Some(search) = used.iter().find(|search| search.values == values) {
            return Ok(Arc::clone(search));
        }
        let search = Arc::new(Search::new(values)?);
        let bytes: usize = used.iter().map(|search| search.forms.memory_usage()).sum();
        if !used.is_empty() && bytes.saturating_add(search.forms.memory_usage()) > BYTES_MAX {
            return Err(RedactorError::TooMany);
        }
        searches.push(Arc::downgrade(&search));
        Ok(search)
    }
}
