//! Makes an image's file system one that sandboxes can be made from: the default user, who may use
//! `sudo`; a `/tmp` on the disk; nothing with a set-ID bit. It may be repeated.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use courier_archive::{EntryPath, MODE_BITS};
use courier_protocol::envd::build::Provisioned;
use courier_types::DEFAULT_USER;
use http::StatusCode;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::http::{self as answers, Response};

use super::accounts::{self, AccountError};
use super::own::{DAEMON, SUDO};
use super::place::{self, Owner, Spot};
use super::tree::{Sort, Tree, TreeError};

/// Programs that every sandbox must have: commands are run by the second, scripts by the first.
const PROGRAMS: [&str; 2] = ["/bin/sh", "/bin/bash"];

/// Package managers of distributions, and where they are.
const PACKAGE_MANAGERS: [&str; 7] =
    ["apt-get", "apk", "dnf", "microdnf", "yum", "zypper", "pacman"];
const PROGRAM_FOLDERS: [&str; 4] = ["/usr/bin", "/sbin", "/usr/sbin", "/bin"];

/// The group whose members may use `sudo`.
const SUDOERS: &str = "sudo";

/// Folders for everybody.
const TEMPORARY: [&str; 2] = ["tmp", "var/tmp"];

/// What keeps these on the disk: a `/tmp` that is empty in an image lives in memory.
const KEEP: &str = ".keep";

/// Set-user-ID and set-group-ID; no sandbox honours them.
const SET_ID_BITS: u32 = 0o6000;

/// Why an image was not made fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// The user was not made.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The file system cannot be walked.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Something could not be changed.
    #[error("cannot change /{path}: {errno}")]
    Change {
        /// Which.
        path: String,
        /// Why.
        errno: Errno,
    },
}

/// Does what is missing.
pub(super) fn provision(root: &Path) -> Result<Provisioned, ProvisionError> {
    let tree = Tree::open(root)?;
    for folder in TEMPORARY {
        open_to_all(&tree, folder)
            .map_err(|errno| ProvisionError::Change { path: folder.to_owned(), errno })?;
    }
    link_sudo(&tree).map_err(|errno| ProvisionError::Change { path: SUDO.to_owned(), errno })?;
    drop_set_id(&tree)?;
    let user = accounts::ensure(root, DEFAULT_USER)?;
    accounts::ensure_member(root, SUDOERS, &user.name)?;
    let missing = PROGRAMS.iter().filter(|path| !is_program(&tree, path));
    Ok(Provisioned {
        user,
        missing: missing.map(|path| (*path).to_owned()).collect(),
        package_manager: package_manager(&tree),
    })
}

/// Answers with what was done, or why it was not.
pub(super) fn answer<T: Serialize, E: Into<ProvisionError>>(done: Result<T, E>) -> Response {
    let error = match done {
        Ok(done) => return answers::json(StatusCode::OK, &done),
        Err(error) => error.into(),
    };
    let status = match &error {
        ProvisionError::Account(AccountError::Name { .. } | AccountError::NoNumber { .. })
        | ProvisionError::Tree(TreeError::Path { .. }) => StatusCode::BAD_REQUEST,
        ProvisionError::Account(_) | ProvisionError::Tree(_) | ProvisionError::Change { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    answers::error(status, &error.to_string())
}

/// Lets everybody use a folder, and keeps it on the disk.
fn open_to_all(tree: &Tree, folder: &str) -> Result<(), Errno> {
    let fd = folder_at(tree, folder)?;
    // What is right already is left alone: a change would be part of a layer.
    if rustix::fs::fstat(&fd)?.st_mode & MODE_BITS != 0o1777 {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o1777))?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(&fd, KEEP, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The folder at a path, made as root's where it is missing.
fn folder_at(tree: &Tree, path: &str) -> Result<OwnedFd, Errno> {
    match place::find(tree.root(), path.as_bytes())? {
        Spot::Folder(folder) => Ok(folder),
        Spot::Missing(folder, names) => place::make(folder, names, Owner::ROOT),
        Spot::Other(..) => Err(Errno::NOTDIR),
    }
}

/// Puts the daemon's `sudo` in place of another one, which could change nobody's user here.
fn link_sudo(tree: &Tree) -> Result<(), Errno> {
    let (folder, name) = SUDO.rsplit_once('/').unwrap_or_default();
    let folder = folder_at(tree, folder)?;
    let target = format!("/{DAEMON}");
    match rustix::fs::readlinkat(&folder, name, Vec::new()) {
        Ok(found) if found.as_bytes() == target.as_bytes() => return Ok(()),
        Err(Errno::NOENT) => {}
        Ok(_) | Err(_) => rustix::fs::unlinkat(&folder, name, AtFlags::empty())?,
    }
    rustix::fs::symlinkat(&target, &folder, name)
}

/// Takes set-ID bits off every file.
fn drop_set_id(tree: &Tree) -> Result<(), ProvisionError> {
    let mut found: Vec<(EntryPath, u32)> = Vec::new();
    tree.walk(&|_path| false, &mut |path, stamp| {
        if stamp.sort == Sort::File && stamp.mode & SET_ID_BITS != 0 {
            found.push((path, stamp.mode & !SET_ID_BITS));
        }
    })?;
    for (path, mode) in found {
        let changed = |errno| ProvisionError::Change { path: path.to_string(), errno };
        if let Spot::Other(folder, name) =
            place::find(tree.root(), path.as_bytes()).map_err(changed)?
        {
            chmod(&folder, &name, mode).map_err(changed)?;
        }
    }
    Ok(())
}

/// Changes a file's mode, and nothing that has taken its place as a link.
fn chmod(folder: &OwnedFd, name: &CString, mode: u32) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
}

/// Whether a path leads to a file that can be executed.
fn is_program(tree: &Tree, path: &str) -> bool {
    let Ok(Spot::Other(folder, name)) = place::find(tree.root(), path.as_bytes()) else {
        return false;
    };
    let status = rustix::fs::statat(folder.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW);
    status.is_ok_and(|status| {
        super::tree::sort(&status) == Some(Sort::File) && status.st_mode & 0o111 != 0
    })
}

fn package_manager(tree: &Tree) -> Option<String> {
    let is_there = |name: &&&str| {
        PROGRAM_FOLDERS.iter().any(|folder| is_program(tree, &format!("{folder}/{name}")))
    };
    PACKAGE_MANAGERS.iter().find(is_there).map(|name| (*name).to_owned())
}
