//! What an archive has said so far: nothing may be said twice, stand below what is no folder, or be
//! a link to what has not come.

use std::collections::HashMap;
use std::collections::hash_map;

use crate::{EntryPath, Header, Kind};

use super::Problem;

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Something is below it, so it is a folder.
    Implied,
    /// A folder, with its mode and owners.
    Directory(u32, u32, u32),
    /// Something that links may have as their target.
    Leaf,
}

/// What follows of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new.
    New,
    /// A folder that was told before, in the same words.
    Again,
}

/// All paths so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    paths: HashMap<EntryPath, Known>,
    bytes: u64,
}

impl Seen {
    /// Takes in an entry.
    pub(super) fn take(&mut self, header: &Header, bytes_max: u64) -> Result<Verdict, Problem> {
        if let Kind::Hardlink { target } = &header.kind
            && self.paths.get(target) != Some(&Known::Leaf)
        {
            return Err(Problem::LinkTarget { target: target.clone() });
        }
        self.take_parents(&header.path, bytes_max)?;
        let known = match header.kind {
            Kind::Directory => Known::Directory(header.mode, header.uid, header.gid),
            Kind::File { .. } | Kind::Symlink { .. } | Kind::Hardlink { .. } | Kind::Fifo => {
                Known::Leaf
            }
        };
        self.bytes = self.bytes.saturating_add(header.path.as_bytes().len() as u64);
        let verdict = match self.paths.entry(header.path.clone()) {
            hash_map::Entry::Vacant(place) => {
                place.insert(known);
                Verdict::New
            }
            hash_map::Entry::Occupied(mut place) => match (*place.get(), known) {
                (Known::Implied, Known::Directory(..)) => {
                    place.insert(known);
                    Verdict::New
                }
                (Known::Directory(..), Known::Directory(..))
                    if *place.get() == known && header.xattrs.is_empty() =>
                {
                    Verdict::Again
                }
                (_, _) => return Err(Problem::Duplicate),
            },
        };
        self.check(bytes_max)?;
        Ok(verdict)
    }

    /// Takes in the folders above an entry, from the nearest on up to the first that is known.
    fn take_parents(&mut self, path: &EntryPath, bytes_max: u64) -> Result<(), Problem> {
        let mut folder = path.parent();
        while let Some(parent) = folder {
            match self.paths.get(&parent) {
                Some(Known::Implied | Known::Directory(..)) => break,
                Some(Known::Leaf) => return Err(Problem::Below { parent }),
                None => {}
            }
            folder = parent.parent();
            self.bytes = self.bytes.saturating_add(parent.as_bytes().len() as u64);
            self.check(bytes_max)?;
            self.paths.insert(parent, Known::Implied);
        }
        Ok(())
    }

    fn check(&self, most: u64) -> Result<(), Problem> {
        if self.bytes > most { Err(Problem::Paths { most }) } else { Ok(()) }
    }
}
