//! Sets of ports.

use courier_types::egress::PortRange;

/// Ports per word of the set.
const WORD: u16 = 64;

/// A set of ports: a bit for each, none of it there while it is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct PortSet(Vec<u64>);

impl PortSet {
    /// Adds the ranges.
    pub(super) fn extend(&mut self, ranges: &[PortRange]) {
        if !ranges.is_empty() && self.0.is_empty() {
            self.0 = vec![0; usize::from(u16::MAX / WORD) + 1];
        }
        for (at, mask) in ranges.iter().flat_map(|range| masks(*range)) {
            if let Some(word) = self.0.get_mut(at) {
                *word |= mask;
            }
        }
    }

    /// True when every port of the range is in it.
    pub(super) fn has_all(&self, range: PortRange) -> bool {
        masks(range).all(|(at, mask)| self.0.get(at).is_some_and(|word| word & mask == mask))
    }

    /// True when the ranges together have every port of the range.
    pub(super) fn is_covered(range: PortRange, by: &[PortRange]) -> bool {
        if by.iter().any(|one| one.first() <= range.first() && range.last() <= one.last()) {
            return true;
        }
        // One alone does not, so it takes two.
        let mut set = Self::default();
        if by.len() > 1 {
            set.extend(by);
        }
        set.has_all(range)
    }
}

/// The words that have ports of the range, each with the bits of those.
fn masks(range: PortRange) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (range.first(), range.last());
    (first / WORD..=last / WORD).map(move |word| {
        let low = if word == first / WORD { first % WORD } else { 0 };
        let high = if word == last / WORD { last % WORD } else { WORD - 1 };
        (usize::from(word), (u64::MAX << low) & (u64::MAX >> (WORD - 1 - high)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        serde_json::from_str(&format!("\"{first}-{last}\"")).unwrap()
    }

    #[test]
    fn an_empty_set_has_no_port_and_a_full_one_all() {
        let mut set = PortSet::default();
        assert!(!set.has_all(range(1, 1)));
        set.extend(&[PortRange::ALL]);
        assert!(set.has_all(PortRange::ALL) && set.has_all(range(65_535, 65_535)));
    }

    proptest! {
        #[test]
        fn a_set_has_what_was_added(ranges in proptest::collection::vec((1_u16..300, 0_u16..90), 0..6), asked in (1_u16..300, 0_u16..90)) {
            let ranges: Vec<PortRange> =
                ranges.iter().map(|(first, more)| range(*first, first + more)).collect();
            let asked = range(asked.0, asked.0 + asked.1);
            let all = (asked.first()..=asked.last())
                .all(|port| ranges.iter().any(|range| range.contains(port)));
            let mut set = PortSet::default();
            set.extend(&ranges);
            prop_assert_eq!(set.has_all(asked), all);
            prop_assert_eq!(PortSet::is_covered(asked, &ranges), all);
        }
    }
}
