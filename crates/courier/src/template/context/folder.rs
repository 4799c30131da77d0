//! Reads a folder so that nothing outside of it is ever read: every name is looked up by the kernel
//! below the folder's descriptor, and links are followed only where they stay inside.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// What may be copied keeps these bits: no set-ID, no sticky.
const MODE_BITS: u32 = 0o777;

/// Whether links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// As long as they stay inside.
    Followed,
    /// Not one.
    Kept,
}

/// Something in a folder.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    base: Rc<OwnedFd>,
    path: PathBuf,
    links: Links,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A regular file.
    File {
        /// Its permission bits.
        mode: u32,
    },
    /// A folder.
    Folder {
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link that was not followed, and what it says.
    Link(Vec<u8>),
    /// A device, socket or pipe.
    Special,
}

impl Spot {
    /// A folder by its path.
    pub(super) fn root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let base = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { base: Rc::new(base), path: PathBuf::new(), links: Links::Followed })
    }

    /// Something below it.
    pub(super) fn below(&self, path: &Path, links: Links) -> Self {
        Self { base: Rc::clone(&self.base), path: self.path.join(path), links }
    }

    /// The same, as the root of what is below it: its own name may have been a link.
    pub(super) fn as_root(&self) -> io::Result<Self> {
        let base = self.open_with(OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self { base: Rc::new(base), path: PathBuf::new(), links: Links::Kept })
    }

    fn open_with(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let (flags, resolve) = match self.links {
            Links::Followed => (flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS),
            Links::Kept => {
                (flags | OFlags::NOFOLLOW, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
            }
        };
        let path = if self.path.as_os_str().is_empty() { Path::new(".") } else { &self.path };
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(self.base.as_fd(), path, flags, Mode::empty(), resolve)?)
    }

    /// Looks what it is.
    ///
    /// # Errors
    /// It is not there, or leads out of the folder ([`leads_out`]).
    pub(super) fn look(&self) -> io::Result<Found> {
        let handle = self.open_with(OFlags::PATH)?;
        let stat = rustix::fs::fstat(&handle)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File { mode: permissions(&stat) },
            FileType::Directory => Found::Folder { mode: permissions(&stat) },
            FileType::Symlink => {
                Found::Link(rustix::fs::readlinkat(&handle, "", Vec::new())?.into_bytes())
            }
            _ => Found::Special,
        })
    }

    /// Opens a regular file; its size and permission bits are those of what was opened.
    ///
    /// # Errors
    /// It cannot be read, or is no regular file any more.
    pub(super) fn open(&self) -> io::Result<(File, u64, u32)> {
        // A pipe that took the file's place must not hold us up.
        let handle = self.open_with(OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = rustix::fs::fstat(&handle)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file any more"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok((File::from(handle), size, permissions(&stat)))
    }

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// It cannot be read, or has more than `most` names.
    pub(super) fn names(&self, most: usize) -> io::Result<Vec<OsString>> {
        let handle = self.open_with(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&handle)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() >= most {
                return Err(io::Error::other(format!("it has more than {most} names")));
            }
            names.push(OsString::from_vec(name));
        }
        names.sort();
        Ok(names)
    }
}

/// True of an error that says that a link leads out of the folder.
pub(super) fn leads_out(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::XDEV.raw_os_error())
}

fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & MODE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside_and_never_out() {
        let all = tempfile::tempdir().unwrap();
        let folder = all.path().join("context");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(all.path().join("secret"), "s").unwrap();
        std::fs::write(folder.join("sub/a"), "a").unwrap();
        symlink("sub", folder.join("inside")).unwrap();
        symlink("/etc", folder.join("absolute")).unwrap();
        symlink("../secret", folder.join("up")).unwrap();
        symlink("/proc/self/cwd", folder.join("magic")).unwrap();
        let root = Spot::root(&folder).unwrap();
        let look = |path: &str, links| root.below(Path::new(path), links).look();
        assert!(matches!(look("inside/a", Links::Followed), Ok(Found::File { .. })));
        assert!(matches!(look("inside", Links::Kept), Ok(Found::Link(target)) if target == b"sub"));
        assert!(look("inside/a", Links::Kept).is_err());
        for path in ["absolute", "absolute/passwd", "up", "../secret", "magic"] {
            let error = look(path, Links::Followed).unwrap_err();
            assert!(leads_out(&error), "{path}: {error}");
            assert!(root.below(Path::new(path), Links::Followed).open().is_err());
        }
        let inner = root.below(Path::new("inside"), Links::Followed).as_root().unwrap();
        assert_eq!(inner.names(9).unwrap(), ["a"]);
        assert!(inner.names(0).is_err());
    }
}
