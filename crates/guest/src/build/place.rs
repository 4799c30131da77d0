//! Finds where a path leads below a root, following links as a process would whose root that is, and
//! makes folders that are missing. No link leads out.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;

use crate::folder::open_folder;

/// Most links on one way, as the kernel has it (`MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

/// Most folders that are open at once on one way.
const DEPTH_MAX: usize = 256;

/// Who owns something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// The superuser.
    pub(super) const ROOT: Self = Self { uid: 0, gid: 0 };

    /// It as the kernel wants it.
    pub(super) fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Spot {
    /// To a folder.
    Folder(OwnedFd),
    /// To something else: its folder, and its name there.
    Other(OwnedFd, CString),
    /// To nothing: the last folder that is there, and the names that are not.
    Missing(OwnedFd, VecDeque<CString>),
}

/// Where `path` leads from `root`; `.`, `..` and a `/` at either end are as usual.
///
/// # Errors
/// The kernel's; [`Errno::NOTDIR`] where something on the way is no folder.
pub(super) fn find(root: BorrowedFd<'_>, path: &[u8]) -> Result<Spot, Errno> {
    let mut way = vec![open_folder(root, c".")?];
    let mut ahead = names(path)?;
    let mut links = 0;
    loop {
        // The root is never taken off the way.
        let here = way.last().ok_or(Errno::NOENT)?.as_fd();
        let Some(name) = ahead.pop_front() else {
            return way.pop().map(Spot::Folder).ok_or(Errno::NOENT);
        };
        if name.as_bytes() == b".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let errno = match open_folder(here, &name) {
            Ok(_) if way.len() >= DEPTH_MAX => return Err(Errno::NAMETOOLONG),
            Ok(folder) => {
                way.push(folder);
                continue;
            }
            Err(errno) => errno,
        };
        if errno == Errno::NOENT {
            let here = way.pop().ok_or(Errno::NOENT)?;
            ahead.push_front(name);
            return Ok(Spot::Missing(here, ahead));
        }
        let target = match rustix::fs::readlinkat(here, &name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::INVAL) if ahead.is_empty() => {
                let here = way.pop().ok_or(Errno::NOENT)?;
                return Ok(Spot::Other(here, name));
            }
            Err(Errno::INVAL) => return Err(Errno::NOTDIR),
            Err(_unreadable) => return Err(errno),
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        if target.starts_with(b"/") {
            way.truncate(1);
        }
        for name in names(&target)?.into_iter().rev() {
            ahead.push_front(name);
        }
    }
}

/// Makes folders one in another, of mode 0755: the last one is `owner`'s, those above it root's.
///
/// # Errors
/// The kernel's.
pub(super) fn make(
    mut folder: OwnedFd,
    mut names: VecDeque<CString>,
    owner: Owner,
) -> Result<OwnedFd, Errno> {
    while let Some(name) = names.pop_front() {
        if name.as_bytes() == b".." {
            // Of what is not there yet nothing can be above.
            return Err(Errno::NOENT);
        }
        let owner = if names.is_empty() { owner } else { Owner::ROOT };
        folder = make_one(folder.as_fd(), &name, owner)?;
    }
    Ok(folder)
}

/// Makes one folder of mode 0755 and opens it.
///
/// # Errors
/// The kernel's; one that is there is an error.
pub(super) fn make_one(
    folder: BorrowedFd<'_>,
    name: &CString,
    owner: Owner,
) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
    let made = open_folder(folder, name)?;
    let (uid, gid) = owner.ids();
    rustix::fs::fchown(&made, uid, gid)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
    Ok(made)
}

/// The names of a path, without those that say nothing.
fn names(path: &[u8]) -> Result<VecDeque<CString>, Errno> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(|name| CString::new(name).map_err(|_nul| Errno::INVAL))
        .collect()
}
