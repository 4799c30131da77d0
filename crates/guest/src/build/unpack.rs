//! Puts files of an archive in place, as Docker's `COPY` does.
//!
//! The destination is found before the first entry is read, through links that the image has.
//! Below it no link is ever followed, whoever made it, and the archive's owners do not count.

mod error;
mod select;
mod target;

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use courier_archive::{Bounds, Header, Kind, Reader, decompress};
use courier_protocol::envd::build::{Unpack, Unpacked};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::user::Accounts;
pub(super) use error::UnpackError;
use select::{Selected, Source};
use target::{Target, owner};

use super::place::Owner;

/// The bits of a mode that are given: no set-ID.
const MODE_BITS: u32 = 0o1777;

/// Unpacks what `order` means of an archive, below `root`.
///
/// # Errors
/// [`UnpackError`]; what was put in place before stays.
pub(super) fn unpack(
    root: &Path,
    accounts: &Accounts,
    order: &Unpack,
    archive: impl Read,
) -> Result<Unpacked, UnpackError> {
    let source = Source::parse(&order.source)
        .map_err(|error| UnpackError::Source { text: order.source.clone(), error })?;
    let owner = owner(accounts, order)?;
    let target = Target::find(root, accounts, order, owner)?;
    let mut reader = Reader::new(decompress(archive)?, Bounds::CONTEXT);
    let mut job =
        Job { source, owner, mode: order.mode, target, done: Unpacked { entries: 0, bytes: 0 } };
    while let Some(mut entry) = reader.next_entry()? {
        let header = entry.header.clone();
        job.put(&header, &mut entry)?;
    }
    if job.done.entries == 0 {
        return Err(UnpackError::NothingMatches { text: order.source.clone() });
    }
    Ok(job.done)
}

struct Job {
    source: Source,
    owner: Owner,
    mode: Option<u32>,
    target: Target,
    done: Unpacked,
}

impl Job {
    /// Puts an entry in place, where the source means it.
    fn put(&mut self, header: &Header, content: impl Read) -> Result<(), UnpackError> {
        let failed = |errno: Errno| UnpackError::entry(&header.path, errno);
        let Some(selected) = self.source.select(&header.path) else { return Ok(()) };
        self.done.entries = self.done.entries.saturating_add(1);
        if header.kind == Kind::Directory {
            return self.put_folder(header, selected);
        }
        let (folder, name) = self.target.place(&header.path, selected)?;
        let folder = folder.as_fd();
        clear(folder, &name).map_err(failed)?;
        match &header.kind {
            Kind::File { size } => {
                self.done.bytes = self.done.bytes.saturating_add(*size);
                self.put_file(header, (folder, &name), content)
            }
            Kind::Symlink { target } => {
                rustix::fs::symlinkat(target.as_slice(), folder, &name).map_err(failed)?;
                self.own(folder, &name).map_err(failed)
            }
            Kind::Hardlink { target } => {
                let selected = self.source.select(target);
                let selected = selected.ok_or_else(|| UnpackError::LinkOutside {
                    path: header.path.clone(),
                    target: target.clone(),
                })?;
                let (other, other_name) = self.target.place(target, selected)?;
                let none = AtFlags::empty();
                rustix::fs::linkat(&other, &other_name, folder, &name, none).map_err(failed)
            }
            Kind::Fifo => {
                let mode = Mode::from_raw_mode(self.mode_of(header));
                let made = rustix::fs::mknodat(folder, &name, FileType::Fifo, mode, 0);
                made.and_then(|()| self.own(folder, &name)).map_err(failed)
            }
            Kind::Directory => Ok(()),
        }
    }

    fn put_file(
        &self,
        header: &Header,
        (folder, name): (BorrowedFd<'_>, &CString),
        mut content: impl Read,
    ) -> Result<(), UnpackError> {
        let failed = |errno: Errno| UnpackError::entry(&header.path, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let private = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, private);
        let mut file = std::fs::File::from(file.map_err(failed)?);
        io::copy(&mut content, &mut file)
            .map_err(|source| UnpackError::Entry { path: header.path.clone(), source })?;
        let (uid, gid) = self.owner.ids();
        rustix::fs::fchown(&file, uid, gid).map_err(failed)?;
        let mode = Mode::from_raw_mode(self.mode_of(header));
        rustix::fs::fchmod(&file, mode).map_err(failed)?;
        rustix::fs::futimens(&file, &times(header)).map_err(failed)
    }

    /// Makes a folder; one that was there keeps its mode and owner.
    fn put_folder(&mut self, header: &Header, selected: Selected<'_>) -> Result<(), UnpackError> {
        let failed = |errno: Errno| UnpackError::entry(&header.path, errno);
        let folder: OwnedFd = self.target.folder(&header.path, selected.below)?;
        if self.target.is_ours(selected.below) {
            let mode = Mode::from_raw_mode(self.mode_of(header));
            rustix::fs::fchmod(&folder, mode).map_err(failed)?;
        }
        Ok(())
    }

    /// The mode that an entry gets.
    fn mode_of(&self, header: &Header) -> u32 {
        let mode = self.mode.unwrap_or(header.mode);
        let may_enter = match header.kind {
            // Whoever may read a folder may enter it.
            Kind::Directory if self.mode.is_some() => (mode & 0o444) >> 2,
            Kind::Directory
            | Kind::File { .. }
            | Kind::Symlink { .. }
            | Kind::Hardlink { .. }
            | Kind::Fifo => 0,
        };
        (mode | may_enter) & MODE_BITS
    }

    fn own(&self, folder: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        let (uid, gid) = self.owner.ids();
        rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Removes what an entry replaces; a folder is not replaced.
fn clear(folder: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => Err(Errno::ISDIR),
        Err(errno) => Err(errno),
    }
}

fn times(header: &Header) -> Timestamps {
    let (tv_sec, nanos) = header.mtime;
    let time = Timespec { tv_sec, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
