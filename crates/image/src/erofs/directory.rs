//! The content of a folder: blocks that each begin with their entries, the names behind them.

use super::format::{BLOCK_BYTES, ENTRY_BYTES, Record};

/// Bytes of a block, as lengths in memory are counted.
const BLOCK: usize = BLOCK_BYTES as usize;

/// An entry of a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// Number of the inode's place.
    pub(super) slot: u64,
    /// See [`super::format::entry_type`].
    pub(super) kind: u8,
}

/// How long the content of a folder with names of these lengths is, in their order.
pub(super) fn size(lengths: impl Iterator<Item = usize>) -> u64 {
    let (mut whole, mut last) = (0_u64, 0_usize);
    for length in lengths {
        let entry = ENTRY_BYTES.saturating_add(length);
        if last.saturating_add(entry) > BLOCK {
            whole = whole.saturating_add(BLOCK_BYTES);
            last = 0;
        }
        last = last.saturating_add(entry);
    }
    whole.saturating_add(last as u64)
}

/// The content of a folder. All blocks but the last are filled up.
pub(super) fn content(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        let (block, after) = rest.split_at(fitting(rest));
        content.extend(block_of(block));
        rest = after;
    }
    content
}

/// How many of the entries fit into one block.
fn fitting(entries: &[Entry<'_>]) -> usize {
    let mut used = 0_usize;
    let fits = |entry: &&Entry<'_>| {
        used = used.saturating_add(ENTRY_BYTES).saturating_add(entry.name.len());
        used <= BLOCK
    };
    entries.iter().take_while(fits).count().max(1)
}

fn block_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut record = Record(Vec::with_capacity(BLOCK));
    let mut name_at = ENTRY_BYTES.saturating_mul(entries.len());
    for entry in entries {
        let at = u16::try_from(name_at).unwrap_or(u16::MAX);
        record = record.long(entry.slot).short(at).byte(entry.kind).byte(0);
        name_at = name_at.saturating_add(entry.name.len());
    }
    entries.iter().fold(record, |record, entry| record.bytes(entry.name)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[Vec<u8>]) -> Vec<Entry<'_>> {
        names.iter().map(|name| Entry { name, slot: 36, kind: 1 }).collect()
    }

    #[test]
    fn the_size_that_is_planned_is_the_size_that_is_written() {
        for (count, length) in [(2, 1), (100, 28), (101, 28), (103, 28), (500, 255), (4_000, 3)] {
            let names: Vec<Vec<u8>> = (0..count).map(|_| vec![b'n'; length]).collect();
            let written = content(&entries(&names)).len();
            assert_eq!(size(names.iter().map(Vec::len)), written as u64, "{count} of {length}");
        }
    }

    #[test]
    fn a_block_that_is_full_to_its_last_byte_is_one_block() {
        // 102 entries of 12 + 28 bytes and one of 12 + 4 are 4,096 bytes.
        let mut names = vec![vec![b'a'; 28]; 102];
        names.push(vec![b'b'; 4]);
        assert_eq!(content(&entries(&names)).len(), BLOCK);
        names.push(vec![b'c'; 1]);
        assert_eq!(content(&entries(&names)).len(), BLOCK + 13);
    }
}
