//! One watched directory, with everything below it where that was asked for.
//!
//! A [`Tree`] is an inotify instance and what each of its watches stands for; a [`Watch`] reads the
//! tree's events and keeps the tree complete: each new directory is watched before its events are
//! told. Two things make that exact:
//! - the daemon's own directories are added by [`Tree::add_made`] the moment they are made, before
//!   anything is in them;
//! - a directory made by someone else is looked through once it is watched; what is in it already
//!   is told as created, unless the kernel's own event about it is waiting.

mod events;
mod raw;
mod tree;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use courier_protocol::envd::filesystem::FilesystemEvent;
use tokio::sync::OwnedSemaphorePermit;

use crate::user::{Accounts, Names};

use super::error::FilesystemError;
use raw::RawEvent;
pub(crate) use tree::{DIRECTORIES_MAX, Scope, Tree};

/// Most watches at once, streamed and polled together. Each is one inotify instance; Linux allows
/// a user 128 of them by default.
pub(crate) const WATCHES_MAX: usize = 100;

/// Events told in one go; more are told in the next.
const BATCH_MAX: usize = 4_096;

/// Whether events carry the entry that they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Name and type only.
    Name,
    /// The entry too, where it still exists.
    Entry,
}

/// Events in the order of the kernel.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What happened.
    pub(crate) events: Vec<FilesystemEvent>,
    /// Whether there is more to read at once.
    pub(crate) is_more: bool,
}

/// The reading end of one watch.
#[derive(Debug)]
pub(crate) struct Watch {
    tree: Arc<Tree>,
    /// Read from the kernel, not told yet.
    pending: VecDeque<RawEvent>,
    detail: Detail,
    accounts: Accounts,
    _slot: OwnedSemaphorePermit,
}

impl Watch {
    /// Reads the events of `tree`; `slot` is given back when the watch ends.
    pub(crate) fn new(
        tree: Arc<Tree>,
        detail: Detail,
        accounts: Accounts,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self { tree, pending: VecDeque::new(), detail, accounts, _slot: slot }
    }

    /// What is watched, for waiting until there is something to read.
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Everything that happened up to now, without waiting.
    ///
    /// # Errors
    /// [`FilesystemError::EventsLost`] when the kernel dropped events, or another one when the tree
    /// cannot be kept complete. Reading may go on after it, from then on.
    pub(crate) fn drain(&mut self) -> Result<Batch, FilesystemError> {
        let names = match self.detail {
            Detail::Name => None,
            Detail::Entry => Some(self.accounts.names()),
        };
        let mut events = Vec::new();
        while events.len() < BATCH_MAX {
            if self.pending.is_empty() && !raw::read_some(&self.tree, &mut self.pending)? {
                return Ok(Batch { events, is_more: false });
            }
            while let Some(event) = self.pending.pop_front() {
                self.tell(&event, names.as_ref(), &mut events)?;
                if events.len() >= BATCH_MAX {
                    break;
                }
            }
        }
        Ok(Batch { events, is_more: true })
    }

    fn tell(
        &mut self,
        event: &RawEvent,
        names: Option<&Names>,
        events: &mut Vec<FilesystemEvent>,
    ) -> Result<(), FilesystemError> {
        let teller = events::Teller { root: self.tree.path(), names };
        let mut told = Vec::new();
        self.tree.take_in(event, &mut self.pending, &mut told)?;
        events.extend(told.into_iter().map(|told| teller.event(&told)));
        Ok(())
    }
}

/// Something that happened to a path below the watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Relative path; empty for the watched directory itself.
    path: PathBuf,
    kind: courier_protocol::envd::filesystem::EventType,
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify()
    }
}

impl AsRawFd for Tree {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify().as_raw_fd()
    }
}

/// Refuses a path on a file system whose changes are made elsewhere, unseen by the kernel.
///
/// # Errors
/// [`FilesystemError::NetworkMount`], or the kernel's error.
pub(crate) fn refuse_network_mount(path: &Path) -> Result<(), FilesystemError> {
    /// NFS, CIFS, SMB, SMB2 and FUSE, from the kernel's `linux/magic.h`.
    const NETWORK_MAGICS: [u32; 5] = [0x6969, 0xff53_4d42, 0x517b, 0xfe53_4d42, 0x6573_5546];
    let status =
        rustix::fs::statfs(path).map_err(|errno| FilesystemError::io("statfs", path, errno))?;
    // The field is signed on some architectures; the magic is its low 32 bits everywhere.
    let magic = u32::try_from(status.f_type & 0xffff_ffff).unwrap_or(0);
    if NETWORK_MAGICS.contains(&magic) {
        return Err(FilesystemError::NetworkMount { path: path.to_owned() });
    }
    Ok(())
}
