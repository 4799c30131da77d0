//! Takes injected values out of answers, as they flow.
//!
//! Every byte that is part of any form of a value is dropped, and each run of such bytes becomes one
//! mark. Which bytes those are depends on the answer alone, not on how it was cut into chunks: bytes
//! are held back only while they could be the beginning of a form, so that events flow at once.

use std::fmt;
use std::sync::Arc;

use aho_corasick::BuildError;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

mod patterns;
mod search;

use search::Search;
pub(crate) use search::Searches;

/// What stands where a value was.
const MARK: &[u8] = b"[redacted]";

/// What stands for each byte of a value where lengths must stay.
const FILL: u8 = b'*';

/// Why there is no redactor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedactorError {
    /// The values are too long.
    #[error("the values are too long to be looked for")]
    TooLong(#[from] BuildError),
    /// Too much is looked for at once.
    #[error("too many long values are looked for in the sandbox's other answers")]
    TooMany,
}

/// Looks for the forms of some values in one answer.
pub(crate) struct Redactor {
    search: Arc<Search>,
    lengths: Lengths,
    /// Bytes that could be the beginning of a form.
    held: Zeroizing<Vec<u8>>,
    /// How many of them, from the first, are known to be part of a form.
    covered: usize,
    /// Whether the byte before them was part of a form.
    inside: bool,
}

/// What happens to lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    Change,
    Stay,
}

impl Redactor {
    /// A redactor of these values, which shares what is in use with others of its sandbox.
    ///
    /// # Errors
    /// They are too long, or too much is looked for at once.
    pub(crate) fn new(
        values: Vec<Zeroizing<Vec<u8>>>,
        searches: &Searches,
    ) -> Result<Self, RedactorError> {
        Ok(Self {
            search: searches.of(values)?,
            lengths: Lengths::Change,
            held: Zeroizing::default(),
            covered: 0,
            inside: false,
        })
    }

    /// The same, but every byte of a form is replaced by one: for answers whose lengths are told
    /// beforehand or within, such as a WebSocket's frames.
    #[must_use]
    pub(crate) fn keeping_lengths(self) -> Self {
        Self { lengths: Lengths::Stay, ..self }
    }

    /// Takes values out of headers, of an answer or its trailers.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if self.search.forms.is_match(value.as_bytes()) {
                let ranges = self.ranges(value.as_bytes());
                let clean = write(value.as_bytes(), &ranges, self.lengths, &mut false);
                // What is left of a header's value is one: the mark is visible ASCII.
                *value = HeaderValue::from_bytes(&clean)
                    .unwrap_or_else(|_never| HeaderValue::from_static("[redacted]"));
            }
        }
    }

    /// Takes the next bytes of the answer's body; returns those that can go on.
    #[must_use]
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let bytes = Zeroizing::new([self.held.as_slice(), chunk].concat());
        let ranges = self.coverage(&bytes);
        let hold_from = self.hold_from(&bytes);
        let (go, held) = bytes.split_at(hold_from);
        let out = write(go, &ranges, self.lengths, &mut self.inside);
        let covers = ranges.iter().find(|range| range.start <= hold_from && hold_from < range.end);
        self.covered = covers.map_or(0, |range| range.end.saturating_sub(hold_from));
        self.held = Zeroizing::new(held.to_vec());
        out
    }

    /// The answer has ended: what was held back and is not part of a form.
    #[must_use]
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.held);
        let ranges = self.coverage(&bytes);
        let out = write(&bytes, &ranges, self.lengths, &mut self.inside);
        (self.covered, self.inside) = (0, false);
        out
    }

    /// Which bytes are part of a form, with what is known of the first ones.
    fn coverage(&self, bytes: &[u8]) -> Vec<Covered> {
        let mut ranges = self.ranges(bytes);
        if self.covered > 0 {
            ranges.push(Covered { start: 0, end: self.covered });
        }
        merge(ranges)
    }

    /// Which bytes are part of a form, in ascending order, without overlaps.
    fn ranges(&self, bytes: &[u8]) -> Vec<Covered> {
        let mut ranges: Vec<Covered> = Vec::new();
        for found in self.search.forms.find_overlapping_iter(bytes) {
            let found = Covered { start: found.start(), end: found.end() };
            // They come by their ends, so those that a later one swallows are the last.
            while ranges.last().is_some_and(|last| found.start <= last.start) {
                ranges.pop();
            }
            match ranges.last_mut() {
                Some(last) if found.start <= last.end => last.end = found.end,
                _ => ranges.push(found),
            }
        }
        ranges
    }

    /// Where the longest end of the bytes begins that could be the beginning of a form.
    fn hold_from(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.search.longest.saturating_sub(1));
        let begins = |start: &usize| bytes.get(*start..).is_some_and(|end| self.is_beginning(end));
        (first..bytes.len()).find(begins).unwrap_or(bytes.len())
    }

    /// True when some form begins with these bytes and is longer.
    fn is_beginning(&self, bytes: &[u8]) -> bool {
        let at = self.search.patterns.partition_point(|pattern| pattern.as_slice() <= bytes);
        self.search.patterns.get(at).is_some_and(|pattern| pattern.starts_with(bytes))
    }
}

/// Bytes that are part of a form.
#[derive(Debug, Clone, Copy)]
struct Covered {
    start: usize,
    end: usize,
}

/// In ascending order, those that touch made one.
fn merge(mut ranges: Vec<Covered>) -> Vec<Covered> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let touches = next.start <= kept.end;
        if touches {
            kept.end = kept.end.max(next.end);
        }
        touches
    });
    ranges
}

/// The bytes without those that are covered; `inside` is whether the byte before the first one was,
/// and becomes whether the last one was.
fn write(bytes: &[u8], ranges: &[Covered], lengths: Lengths, inside: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for range in ranges {
        let (start, end) = (range.start.min(bytes.len()), range.end.min(bytes.len()));
        let clear = bytes.get(at..start).unwrap_or_default();
        out.extend_from_slice(clear);
        *inside = *inside && clear.is_empty();
        if start < end {
            match lengths {
                Lengths::Stay => out.resize(out.len().saturating_add(end - start), FILL),
                Lengths::Change if *inside => {}
                Lengths::Change => out.extend_from_slice(MARK),
            }
            *inside = true;
        }
        at = end;
    }
    let clear = bytes.get(at..).unwrap_or_default();
    out.extend_from_slice(clear);
    *inside = *inside && clear.is_empty();
    out
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor")
            .field("patterns", &self.search.patterns.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
