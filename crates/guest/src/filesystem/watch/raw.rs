//! Events as the kernel queues them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::inotify::{ReadFlags, Reader};
use rustix::io::Errno;

use super::super::error::FilesystemError;
use super::Tree;

/// Bytes read at once: some 500 events with short names.
const BUFFER: usize = 16 * 1_024;

/// Most events held that were read and not told yet. It is more than Linux's default queue holds,
/// so that one look at a new directory sees everything that is waiting.
const PENDING_MAX: usize = 32_768;

/// One event of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// The watch it came by.
    pub(super) watch: i32,
    /// What happened.
    pub(super) flags: ReadFlags,
    /// Joins the two halves of a move.
    pub(super) cookie: u32,
    /// The name in the watched directory; none when it happened to that directory itself.
    pub(super) name: Option<OsString>,
}

/// Reads what one call gives, without waiting; false when nothing is there.
pub(super) fn read_some(
    tree: &Tree,
    pending: &mut VecDeque<RawEvent>,
) -> Result<bool, FilesystemError> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
    let mut reader = Reader::new(tree, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) => pending.push_back(RawEvent {
                watch: event.wd(),
                flags: event.events(),
                cookie: event.cookie(),
                name: event
                    .file_name()
                    .filter(|name| !name.is_empty())
                    .map(|name| OsString::from_vec(name.to_bytes().to_vec())),
            }),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(FilesystemError::io("watch", tree.path(), errno)),
        }
        if reader.is_buffer_empty() {
            return Ok(true);
        }
    }
}

/// Reads everything that is waiting, up to the bound on what is held.
pub(super) fn read_all(
    tree: &Tree,
    pending: &mut VecDeque<RawEvent>,
) -> Result<(), FilesystemError> {
    while pending.len() < PENDING_MAX && read_some(tree, pending)? {}
    Ok(())
}
