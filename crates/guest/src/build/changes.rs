//! What has changed between two looks at a file system, as the entries of a layer.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::iter::Peekable;

use courier_archive::{EntryPath, WHITEOUT_PREFIX, Whiteout};

use super::tree::{Sort, Stamp};

/// All entries of a file system at one moment, in order.
pub(super) type Look = Vec<(EntryPath, Stamp)>;

/// An entry of a layer to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there, and new or different.
    Put(EntryPath),
    /// It is a mount point: an empty folder.
    MountPoint(EntryPath),
    /// Something is gone.
    Gone(Whiteout),
}

/// Why changes cannot be a layer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChangesError {
    /// A file has a name that means something else in a layer.
    #[error("/{path} cannot be in a template: names that begin with '.wh.' have a meaning there")]
    Name {
        /// Which.
        path: EntryPath,
    },
    /// A file that is gone has so long a name that its absence cannot be said.
    #[error("the name of /{path}, which is gone, is too long for a layer to say so")]
    Unsayable {
        /// Which.
        path: EntryPath,
    },
}

/// Everything that is there, as new.
pub(super) fn all(look: &Look) -> Result<Vec<Change>, ChangesError> {
    look.iter().map(|(path, stamp)| put(path, *stamp)).collect()
}

/// What is in `now` and not so in `before`, and what is gone, in the order of the layer.
///
/// A folder whose time alone changed is only told when something in it changed too: caches of
/// fonts and the like look at it, but a file that came and went is no change.
pub(super) fn between(before: &Look, now: &Look) -> Result<Vec<Change>, ChangesError> {
    let mut found = Found::default();
    let (mut old, mut new) = (before.iter().peekable(), now.iter().peekable());
    while let Some(step) = next(&mut old, &mut new) {
        match step {
            Step::Gone(path) => found.gone(path),
            Step::New(path, stamp) => found.put(path, *stamp)?,
            Step::Both(path, old, new) => found.compare(path, *old, *new)?,
        }
    }
    found.finish(before)
}

/// What one path is in the two looks.
enum Step<'a> {
    Gone(&'a EntryPath),
    New(&'a EntryPath, &'a Stamp),
    Both(&'a EntryPath, &'a Stamp, &'a Stamp),
}

/// An iterator over a look.
type Entries<'a> = Peekable<std::slice::Iter<'a, (EntryPath, Stamp)>>;

fn next<'a>(old: &mut Entries<'a>, new: &mut Entries<'a>) -> Option<Step<'a>> {
    let order = match (old.peek(), new.peek()) {
        (Some((old, _)), Some((new, _))) => old.cmp(new),
        (Some(_), None) => Ordering::Less,
        (None, _) => Ordering::Greater,
    };
    match order {
        Ordering::Less => old.next().map(|(path, _)| Step::Gone(path)),
        Ordering::Greater => new.next().map(|(path, stamp)| Step::New(path, stamp)),
        Ordering::Equal => {
            let ((_, before), (path, now)) = (old.next()?, new.next()?);
            Some(Step::Both(path, before, now))
        }
    }
}

#[derive(Debug, Default)]
struct Found<'a> {
    changes: Vec<Change>,
    /// Folders whose time alone changed.
    touched: Vec<&'a EntryPath>,
    /// Folders in which something changed; `None` is the root.
    changed_in: HashSet<Option<EntryPath>>,
    /// What is gone, without what was below it.
    gone: Vec<&'a EntryPath>,
    /// What is gone or no folder any more: whatever was below it goes without saying.
    below: Option<&'a EntryPath>,
}

impl<'a> Found<'a> {
    fn gone(&mut self, path: &'a EntryPath) {
        if self.below.is_some_and(|above| path.is_in(above)) {
            return;
        }
        self.below = Some(path);
        self.gone.push(path);
        self.changed_in.insert(path.parent());
    }

    fn put(&mut self, path: &EntryPath, stamp: Stamp) -> Result<(), ChangesError> {
        self.changed_in.insert(path.parent());
        self.changes.push(put(path, stamp)?);
        Ok(())
    }

    fn compare(
        &mut self,
        path: &'a EntryPath,
        before: Stamp,
        now: Stamp,
    ) -> Result<(), ChangesError> {
        if before.sort == Sort::Directory && now.sort != Sort::Directory {
            self.below = Some(path);
        }
        if before == now {
            return Ok(());
        }
        if now.sort == Sort::Directory && before.is_alike(now) {
            self.touched.push(path);
            return Ok(());
        }
        self.put(path, now)
    }

    fn finish(mut self, before: &Look) -> Result<Vec<Change>, ChangesError> {
        for folder in std::mem::take(&mut self.touched) {
            if self.changed_in.contains(&Some(folder.clone())) {
                self.changes.push(Change::Put(folder.clone()));
            }
        }
        for whiteout in whiteouts(&self.gone, before) {
            self.changes.push(Change::Gone(whiteout));
        }
        let mut sorted = Vec::with_capacity(self.changes.len());
        for change in self.changes {
            sorted.push((change.entry()?, change));
        }
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(sorted.into_iter().map(|(_, change)| change).collect())
    }
}

impl Change {
    /// The path that it has in the layer.
    fn entry(&self) -> Result<EntryPath, ChangesError> {
        match self {
            Self::Put(path) | Self::MountPoint(path) => Ok(path.clone()),
            Self::Gone(whiteout) => whiteout.header().map(|header| header.path).map_err(|_long| {
                let path = match whiteout {
                    Whiteout::Of(path) | Whiteout::Opaque(Some(path)) => path.clone(),
                    Whiteout::Opaque(None) => unreachable!("that name is short"),
                };
                ChangesError::Unsayable { path }
            }),
        }
    }
}

/// A folder all of whose entries are gone is opaque; else each says so of itself.
fn whiteouts(gone: &[&EntryPath], before: &Look) -> Vec<Whiteout> {
    let mut left: HashMap<Option<EntryPath>, usize> = HashMap::new();
    for path in gone {
        left.insert(path.parent(), 0);
    }
    for (path, _) in before {
        if let Some(count) = left.get_mut(&path.parent()) {
            *count += 1;
        }
    }
    for path in gone {
        if let Some(count) = left.get_mut(&path.parent()) {
            *count -= 1;
        }
    }
    let mut told = HashSet::new();
    let mut whiteouts = Vec::new();
    for path in gone {
        let folder = path.parent();
        if folder.is_none() || left.get(&folder).is_some_and(|left| *left > 0) {
            whiteouts.push(Whiteout::Of((*path).clone()));
        } else if told.insert(folder.clone()) {
            whiteouts.push(Whiteout::Opaque(folder));
        }
    }
    whiteouts
}

fn put(path: &EntryPath, stamp: Stamp) -> Result<Change, ChangesError> {
    if path.name().starts_with(WHITEOUT_PREFIX) {
        return Err(ChangesError::Name { path: path.clone() });
    }
    Ok(match stamp.sort {
        Sort::MountPoint => Change::MountPoint(path.clone()),
        Sort::File | Sort::Directory | Sort::Symlink | Sort::Fifo => Change::Put(path.clone()),
    })
}
