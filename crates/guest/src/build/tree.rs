//! Walks the root file system, or another one: by directory descriptors, in the order of paths,
//! without following a link or entering a mount.

use std::collections::HashSet;
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use courier_archive::{EntryPath, PathError};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes;
use crate::folder::open_folder;

/// Where the kernel lists what is mounted.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Why a file system cannot be walked.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    /// The list of mounts cannot be read.
    #[error("cannot read {MOUNTS}: {0}")]
    Mounts(std::io::Error),
    /// The root cannot be opened.
    #[error("cannot open the root: {0}")]
    Root(Errno),
    /// Something in it cannot be looked at.
    #[error("cannot read /{path}: {errno}")]
    Read {
        /// Which.
        path: EntryPath,
        /// Why.
        errno: Errno,
    },
    /// It has a path that no layer can have.
    #[error("/{folder} has an entry that cannot be in a layer: {error}")]
    Path {
        /// The folder that it is in.
        folder: String,
        /// Why.
        error: PathError,
    },
}

/// What kind of entry something is, as far as layers have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Directory,
    Symlink,
    Fifo,
    /// A folder that something is mounted on. What it is like below is not seen.
    MountPoint,
}

/// What an entry looks like from outside. Whoever changes a file changes its `ctime`, which nobody
/// can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) sort: Sort,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Size in bytes; 0 for what is no file.
    size: u64,
    pub(super) mtime: (i64, u32),
    /// Time of the last change of anything; (0, 0) for folders, whose copies for writing differ.
    ctime: (i64, u32),
    /// Of a folder: a hash of its attributes, as its `ctime` does not count.
    attributes: u64,
}

/// A file system to be walked.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// Paths below the root that something is mounted on.
    mounts: HashSet<Vec<u8>>,
}

/// One folder on the way down.
struct Level {
    fd: OwnedFd,
    path: Option<EntryPath>,
    /// Its names, in descending order: the next one is the last.
    names: Vec<CString>,
}

impl Tree {
    /// The file system below `root`, without what is mounted in it.
    pub(super) fn open(root: &Path) -> Result<Self, TreeError> {
        let fd = rustix::fs::open(
            root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(TreeError::Root)?;
        let list = std::fs::read(MOUNTS).map_err(TreeError::Mounts)?;
        Ok(Self { root: fd, mounts: mounts(&list, root) })
    }

    /// The root.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Shows every entry that a layer can have, folders before what is in them. What vanishes
    /// meanwhile is not shown.
    pub(super) fn walk(
        &self,
        skip: &dyn Fn(&EntryPath) -> bool,
        show: &mut dyn FnMut(EntryPath, Stamp),
    ) -> Result<(), TreeError> {
        let root = open_folder(self.root(), c".").map_err(TreeError::Root)?;
        let names = names(&root).map_err(TreeError::Root)?;
        let mut levels = vec![Level { fd: root, path: None, names }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let path = EntryPath::within(level.path.as_ref(), name.to_bytes());
            let path = path.map_err(|error| TreeError::Path {
                folder: level.path.as_ref().map(EntryPath::to_string).unwrap_or_default(),
                error,
            })?;
            if skip(&path) {
                continue;
            }
            let below = self.look(level.fd.as_fd(), &name, &path, show);
            if let Some(level) = below.map_err(|errno| TreeError::Read { path, errno })? {
                levels.push(level);
            }
        }
        Ok(())
    }

    /// Shows one entry; returns the level below it where it is a folder to go into.
    fn look(
        &self,
        parent: BorrowedFd<'_>,
        name: &CString,
        path: &EntryPath,
        show: &mut dyn FnMut(EntryPath, Stamp),
    ) -> Result<Option<Level>, Errno> {
        if self.mounts.contains(path.as_bytes()) {
            if is_folder(parent, name)? {
                show(path.clone(), Stamp::mount_point());
            }
            return Ok(None);
        }
        let status = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            status => status?,
        };
        let Some(sort) = sort(&status) else { return Ok(None) };
        if sort != Sort::Directory {
            show(path.clone(), Stamp::new(sort, &status, 0));
            return Ok(None);
        }
        let fd = match open_folder(parent, name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            fd => fd?,
        };
        let mut hasher = DefaultHasher::new();
        attributes::read(fd.as_fd())?.hash(&mut hasher);
        show(path.clone(), Stamp::new(sort, &status, hasher.finish()));
        let names = names(&fd)?;
        Ok(Some(Level { fd, path: Some(path.clone()), names }))
    }
}

impl Stamp {
    fn new(sort: Sort, status: &Stat, attributes: u64) -> Self {
        let is_file = sort == Sort::File;
        let (mtime, ctime) = times(status);
        Self {
            sort,
            mode: status.st_mode & courier_archive::MODE_BITS,
            uid: status.st_uid,
            gid: status.st_gid,
            size: if is_file { u64::try_from(status.st_size).unwrap_or_default() } else { 0 },
            mtime,
            ctime: if sort == Sort::Directory { (0, 0) } else { ctime },
            attributes,
        }
    }

    const fn mount_point() -> Self {
        Self {
            sort: Sort::MountPoint,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            ctime: (0, 0),
            attributes: 0,
        }
    }

    /// Whether nothing but the time differs.
    pub(super) fn is_alike(self, other: Self) -> bool {
        Self { mtime: other.mtime, ..self } == other
    }
}

/// What an entry is; none for a socket or a device, which no layer has.
pub(super) fn sort(status: &Stat) -> Option<Sort> {
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => Some(Sort::File),
        FileType::Directory => Some(Sort::Directory),
        FileType::Symlink => Some(Sort::Symlink),
        FileType::Fifo => Some(Sort::Fifo),
        FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => None,
    }
}

/// When its content last changed, and when anything of it did.
pub(super) fn times(status: &Stat) -> ((i64, u32), (i64, u32)) {
    let nanos = |nanos| u32::try_from(nanos).unwrap_or_default();
    ((status.st_mtime, nanos(status.st_mtime_nsec)), (status.st_ctime, nanos(status.st_ctime_nsec)))
}

fn is_folder(parent: BorrowedFd<'_>, name: &CString) -> Result<bool, Errno> {
    let status = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(sort(&status) == Some(Sort::Directory))
}

/// All names in a folder, in descending order.
fn names(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Paths below `root`, relative to it, of a list of mounts as in proc(5): the fifth field of each
/// line, in which some bytes are written as octal numbers.
fn mounts(list: &[u8], root: &Path) -> HashSet<Vec<u8>> {
    let root = root.as_os_str().as_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let points = list.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = unescape(line.split(|byte| *byte == b' ').nth(4)?);
        let below = point.strip_prefix(root)?.strip_prefix(b"/")?.to_vec();
        (!below.is_empty()).then_some(below)
    });
    points.collect()
}

/// Undoes `\040` and its like.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let code = (*first == b'\\').then(|| behind.split_at_checked(3)).flatten();
        let code = code.and_then(|(digits, behind)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 8).ok()?, behind))
        });
        let (byte, behind) = code.unwrap_or((*first, behind));
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_the_root_are_found_by_their_paths() {
        let list = b"1 0 0:1 / / rw - erofs none rw\n2 1 0:2 / /proc rw - proc proc rw\n\
            3 1 0:3 / /mnt/a\\040b\\134c rw - tmpfs none rw\n4 1 0:4 / /tmp/root/x rw - a b c\n";
        let all = mounts(list, Path::new("/"));
        assert_eq!(all.len(), 3);
        assert!(all.contains(&b"proc"[..]) && all.contains(&b"mnt/a b\\c"[..]));
        assert_eq!(mounts(list, Path::new("/tmp/root")), HashSet::from([b"x".to_vec()]));
    }
}
