//! Where the entries of a `COPY` go, and whose they are.

use std::collections::{HashSet, VecDeque};
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use courier_archive::EntryPath;
use courier_protocol::envd::build::Unpack;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::path;
use crate::user::Accounts;

use super::super::place::{self, Owner, Spot};
use super::UnpackError;
use super::select::Selected;
use crate::folder::open_folder;

/// Where everything goes.
#[derive(Debug)]
pub(super) struct Target {
    destination: String,
    owner: Owner,
    state: State,
    /// Folders below the destination that were made by this copy; the empty path is itself.
    made: HashSet<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    /// Into a folder that is there.
    Folder(OwnedFd),
    /// Nothing is there yet: what comes first decides what it will be.
    Open { folder: OwnedFd, names: VecDeque<CString>, is_folder: bool },
    /// It is a file, or will be this file: its folder and its name, and who came first.
    File { folder: OwnedFd, name: CString, first: Option<EntryPath> },
}

impl Target {
    /// Finds the destination; nothing is made yet.
    pub(super) fn find(
        root: &Path,
        accounts: &Accounts,
        order: &Unpack,
        owner: Owner,
    ) -> Result<Self, UnpackError> {
        let destination = order.destination.clone();
        let failed =
            |errno| UnpackError::Destination { destination: order.destination.clone(), errno };
        let base = if destination.starts_with('~') {
            accounts.lookup(&order.user)?.home
        } else {
            Path::new("/").join(&order.workdir)
        };
        let path = path::resolve(&destination, &base)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
        let spot = place::find(root.as_fd(), path.as_os_str().as_encoded_bytes());
        let is_folder = destination.ends_with('/') || destination.ends_with("/.");
        let state = match spot.map_err(failed)? {
            Spot::Folder(folder) => State::Folder(folder),
            Spot::Missing(folder, names) => State::Open { folder, names, is_folder },
            Spot::Other(..) if is_folder => return Err(failed(Errno::NOTDIR)),
            Spot::Other(folder, name) => State::File { folder, name, first: None },
        };
        Ok(Self { destination, owner, state, made: HashSet::new() })
    }

    /// The folder that an entry which is no folder goes to, and its name there.
    pub(super) fn place(
        &mut self,
        path: &EntryPath,
        selected: Selected<'_>,
    ) -> Result<(OwnedFd, CString), UnpackError> {
        let failed = |errno| UnpackError::entry(path, errno);
        let name = |bytes: &[u8]| CString::new(bytes).map_err(|_nul| failed(Errno::INVAL));
        if !selected.below.is_empty() {
            let mut parts = selected.below.rsplitn(2, |byte| *byte == b'/');
            let last = name(parts.next().unwrap_or_default())?;
            return Ok((self.folder(path, parts.next().unwrap_or_default())?, last));
        }
        if let State::Open { is_folder: false, .. } = self.state {
            self.become_file(path)?;
        }
        match &mut self.state {
            State::File { folder, name, first } => {
                if first.get_or_insert_with(|| path.clone()) != path {
                    let destination = self.destination.clone();
                    return Err(UnpackError::SeveralFiles { path: path.clone(), destination });
                }
                let folder = open_folder(folder.as_fd(), c".").map_err(failed)?;
                Ok((folder, name.clone()))
            }
            State::Folder(_) | State::Open { .. } => {
                Ok((self.folder(path, b"")?, name(selected.name)?))
            }
        }
    }

    /// The folder at a path below the destination, made with those above it where it is missing.
    pub(super) fn folder(
        &mut self,
        path: &EntryPath,
        below: &[u8],
    ) -> Result<OwnedFd, UnpackError> {
        let failed = |errno| UnpackError::entry(path, errno);
        let mut folder = self.whole(path)?;
        let mut end = 0;
        for name in below.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            end += name.len();
            let name = CString::new(name).map_err(|_nul| failed(Errno::INVAL))?;
            folder = match open_folder(folder.as_fd(), &name) {
                Err(Errno::NOENT) => {
                    let so_far = below.get(..end).unwrap_or_default();
                    self.made.insert(so_far.to_vec());
                    place::make_one(folder.as_fd(), &name, self.owner).map_err(failed)?
                }
                opened => opened.map_err(failed)?,
            };
            end += 1;
        }
        Ok(folder)
    }

    /// Whether this copy made the folder at a path below the destination.
    pub(super) fn is_ours(&self, below: &[u8]) -> bool {
        self.made.contains(below)
    }

    /// The destination as a folder, made where nothing is there.
    fn whole(&mut self, path: &EntryPath) -> Result<OwnedFd, UnpackError> {
        let failed = |errno| UnpackError::entry(path, errno);
        if let State::Open { folder, names, .. } = &self.state {
            let start = open_folder(folder.as_fd(), c".").map_err(failed)?;
            let made = place::make(start, names.clone(), self.owner).map_err(failed)?;
            self.made.insert(Vec::new());
            self.state = State::Folder(made);
        }
        match &self.state {
            State::Folder(folder) => open_folder(folder.as_fd(), c".").map_err(failed),
            State::Open { .. } | State::File { .. } => Err(failed(Errno::NOTDIR)),
        }
    }

    /// Makes the folders above a destination that will be one file.
    fn become_file(&mut self, path: &EntryPath) -> Result<(), UnpackError> {
        let failed = |errno| UnpackError::entry(path, errno);
        let State::Open { folder, names, .. } = &self.state else { return Ok(()) };
        let start = open_folder(folder.as_fd(), c".").map_err(failed)?;
        let mut names = names.clone();
        let name = names.pop_back().ok_or_else(|| failed(Errno::NOENT))?;
        let folder = place::make(start, names, Owner::ROOT).map_err(failed)?;
        self.state = State::File { folder, name, first: None };
        Ok(())
    }
}

/// Whose the files are: the order's owner, else the current user, else root.
pub(super) fn owner(accounts: &Accounts, order: &Unpack) -> Result<Owner, UnpackError> {
    let text = order.owner.as_deref().filter(|owner| !owner.is_empty()).unwrap_or(&order.user);
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let by_user = match (user, number(user)) {
        ("", _) => Owner::ROOT,
        (_, Some(uid)) => Owner { uid, gid: uid },
        (name, None) => {
            let user = accounts.lookup(name)?;
            Owner { uid: user.uid, gid: user.gid }
        }
    };
    let Some(group) = group else { return Ok(by_user) };
    let gid = number(group).or_else(|| accounts.group(group));
    let gid = gid.ok_or_else(|| UnpackError::Group { group: group.to_owned() })?;
    Ok(Owner { gid, ..by_user })
}

/// The number of a user or a group; the highest one means "do not change" to the kernel.
fn number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number != u32::MAX)
}
