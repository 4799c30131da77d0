//! Writes what a sandbox hands out into one folder of the host, and nowhere else.
//!
//! A guest chooses names and contents. So a name is taken apart into its components, each must be a
//! plain name, and every step goes by the handle of the folder before it and follows no symbolic
//! link: there is no path for the kernel to resolve, hence none to trick it with. Files are written
//! under a passing name and renamed, so that a file is there whole or not at all, and so that what
//! already had the name is replaced (where that was asked for) rather than written through.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Folders inside folders, at most: no honest tree is deeper, and every level holds a descriptor.
const MAX_DEPTH: usize = 64;
/// Files and folders out of one sandbox, at most.
const MAX_ENTRIES: u64 = 100_000;
/// Mode of new files, before the umask: what a sandbox wrote is not executable here.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// Mode of new folders, before the umask.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
/// Folders are opened so at every step.
const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why something was not written to the host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// The name would leave the folder or is none.
    #[error("the sandbox gave a name that no file here may have: {name:?}")]
    Name {
        /// The name, cut.
        name: String,
    },
    /// Something has the name and nobody said that it may be replaced.
    #[error(
        "{path} exists already, and only a file that you name is replaced: remove it, or take it to another place"
    )]
    Exists {
        /// Where.
        path: String,
    },
    /// A symbolic link or something else that is no folder is in the way.
    #[error("{path} is not a folder of its own (a symbolic link is not followed)")]
    NotAFolder {
        /// Where.
        path: String,
    },
    /// More than a sandbox can hold.
    #[error("the sandbox hands out more than {limit}; it was stopped there")]
    TooMuch {
        /// The bound, with its unit.
        limit: String,
    },
    /// The host refused.
    #[error("{path} cannot be written")]
    Io {
        /// Where.
        path: String,
        /// The host's answer.
        #[source]
        source: std::io::Error,
    },
}

/// What happens to a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and the transfer fails.
    Keep,
    /// It is replaced: the user named it.
    Replace,
}

/// One folder of the host, the only place that a transfer can write to.
#[derive(Debug)]
pub(crate) struct Sink {
    root: OwnedFd,
    shown: PathBuf,
    bytes_left: u64,
    bytes_limit: u64,
    entries_left: u64,
}

impl Sink {
    /// Opens the folder that the user named. This path is the user's own and is trusted: symbolic
    /// links in it are followed. `max_bytes` bounds the contents of all files together.
    pub(crate) fn open(folder: &Path, max_bytes: u64) -> Result<Self, SinkError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(folder, flags, Mode::empty()).map_err(|errno| io(folder, errno))?;
        Ok(Self {
            root,
            shown: folder.to_owned(),
            bytes_left: max_bytes,
            bytes_limit: max_bytes,
            entries_left: MAX_ENTRIES,
        })
    }

    /// Makes a folder, and those above it, where they are not there.
    pub(crate) fn folder(&mut self, name: &[u8]) -> Result<(), SinkError> {
        self.count_entry()?;
        self.descend(&components(name)?).map(|_handle| ())
    }

    /// Begins a file; folders above it are made.
    pub(crate) fn file(&mut self, name: &[u8], existing: Existing) -> Result<Draft, SinkError> {
        self.count_entry()?;
        let mut parts = components(name)?;
        let Some(last) = parts.pop() else { return Err(bad_name(name)) };
        let folder = self.descend(&parts)?;
        let mut shown = self.shown.clone();
        shown.extend(&parts);
        shown.push(&last);
        if existing == Existing::Keep
            && rustix::fs::statat(&folder, &last, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        {
            return Err(SinkError::Exists { path: shown.display().to_string() });
        }
        Draft::begin(folder, last, shown, existing)
    }

    /// Counts contents before they are written.
    pub(crate) fn count_bytes(&mut self, bytes: usize) -> Result<(), SinkError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let limit = || SinkError::TooMuch { limit: format!("{} bytes", self.bytes_limit) };
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(limit)?;
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), SinkError> {
        let limit = || SinkError::TooMuch { limit: format!("{MAX_ENTRIES} files and folders") };
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(limit)?;
        Ok(())
    }

    /// Opens the folder at the end of `parts`, one step at a time, and makes what is missing.
    fn descend(&self, parts: &[OsString]) -> Result<OwnedFd, SinkError> {
        let mut shown = self.shown.clone();
        let mut here = self
            .root
            .try_clone()
            .map_err(|source| SinkError::Io { path: shown.display().to_string(), source })?;
        for part in parts {
            shown.push(part);
            match rustix::fs::mkdirat(&here, part, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(io(&shown, errno)),
            }
            here = match rustix::fs::openat(&here, part, FOLDER_FLAGS, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(SinkError::NotAFolder { path: shown.display().to_string() });
                }
                Err(errno) => return Err(io(&shown, errno)),
            };
        }
        Ok(here)
    }
}

/// A file that is being written; it takes its name in [`finish`](Self::finish), and leaves nothing
/// when dropped before.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    folder: OwnedFd,
    passing_name: OsString,
    name: OsString,
    shown: PathBuf,
    existing: Existing,
    finished: bool,
}

impl Draft {
    fn begin(
        folder: OwnedFd,
        name: OsString,
        shown: PathBuf,
        existing: Existing,
    ) -> Result<Self, SinkError> {
        let passing_name = OsString::from(format!(".courier-{:016x}", random()));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &passing_name, flags, FILE_MODE)
            .map_err(|errno| io(&shown, errno))?;
        let file = File::from(file);
        Ok(Self { file, folder, passing_name, name, shown, existing, finished: false })
    }

    /// Adds to the file.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.file
            .write_all(bytes)
            .map_err(|source| SinkError::Io { path: self.shown.display().to_string(), source })
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> Result<(), SinkError> {
        let folder = self.folder.as_fd();
        let flags = match self.existing {
            Existing::Keep => RenameFlags::NOREPLACE,
            Existing::Replace => RenameFlags::empty(),
        };
        match rustix::fs::renameat_with(folder, &self.passing_name, folder, &self.name, flags) {
            Ok(()) => {
                self.finished = true;
                Ok(())
            }
            Err(Errno::EXIST) => Err(SinkError::Exists { path: self.shown.display().to_string() }),
            Err(errno) => Err(io(&self.shown, errno)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let removed = rustix::fs::unlinkat(&self.folder, &self.passing_name, AtFlags::empty());
        if let Err(error) = removed {
            tracing::warn!(%error, folder = %self.shown.display(), "a half file stays");
        }
    }
}

/// Takes a relative name apart; only plain names are let through.
fn components(name: &[u8]) -> Result<Vec<OsString>, SinkError> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut parts = Vec::new();
    for part in name.split(|b| *b == b'/') {
        if part.is_empty() || part == b"." || part == b".." || part.contains(&0) {
            return Err(bad_name(name));
        }
        parts.push(OsString::from_vec(part.to_owned()));
    }
    if parts.len() > MAX_DEPTH {
        return Err(bad_name(name));
    }
    Ok(parts)
}

fn bad_name(name: &[u8]) -> SinkError {
    SinkError::Name { name: String::from_utf8_lossy(name).chars().take(200).collect() }
}

fn io(path: &Path, errno: Errno) -> SinkError {
    SinkError::Io { path: path.display().to_string(), source: errno.into() }
}

/// A number that no other transfer uses now; `EXCL` catches what chance lets through.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(dir: &Path) -> Sink {
        Sink::open(dir, 1 << 20).unwrap()
    }

    fn put(sink: &mut Sink, name: &[u8], existing: Existing) -> Result<(), SinkError> {
        let mut draft = sink.file(name, existing)?;
        draft.write(b"from the sandbox")?;
        draft.finish()
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused_and_nothing_is_written() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("dest");
        std::fs::create_dir(&inner).unwrap();
        let mut sink = sink(&inner);
        let names: [&[u8]; 8] =
            [b"../x", b"/etc/x", b"a/../../x", b"", b".", b"..", b"a//b", b"a\0b"];
        for name in names {
            let error = put(&mut sink, name, Existing::Replace).unwrap_err();
            assert!(matches!(error, SinkError::Name { .. }), "{name:?}: {error}");
        }
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 0);
    }

    #[test]
    fn a_symbolic_link_in_the_folder_is_neither_followed_nor_written_through() {
        let outer = tempfile::tempdir().unwrap();
        let (inner, secret) = (outer.path().join("dest"), outer.path().join("secret"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&secret, "untouched").unwrap();
        std::os::unix::fs::symlink(outer.path(), inner.join("link")).unwrap();
        std::os::unix::fs::symlink(&secret, inner.join("file")).unwrap();
        let mut sink = sink(&inner);
        let through = put(&mut sink, b"link/secret", Existing::Replace).unwrap_err();
        assert!(matches!(through, SinkError::NotAFolder { .. }), "{through}");
        put(&mut sink, b"file", Existing::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
        assert_eq!(std::fs::read_to_string(inner.join("file")).unwrap(), "from the sandbox");
    }

    #[test]
    fn a_file_that_is_there_stays_unless_it_was_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "mine").unwrap();
        let mut sink = sink(dir.path());
        let kept = put(&mut sink, b"a", Existing::Keep).unwrap_err();
        assert!(matches!(kept, SinkError::Exists { .. }), "{kept}");
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "mine");
        put(&mut sink, b"a", Existing::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "from the sandbox");
    }

    #[test]
    fn folders_are_made_on_the_way_and_a_dropped_draft_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = sink(dir.path());
        put(&mut sink, b"a/b/c", Existing::Keep).unwrap();
        assert!(dir.path().join("a/b/c").is_file());
        drop(sink.file(b"a/b/d", Existing::Keep).unwrap());
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn contents_beyond_the_bound_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(dir.path(), 10).unwrap();
        sink.count_bytes(10).unwrap();
        assert!(matches!(sink.count_bytes(1), Err(SinkError::TooMuch { .. })));
    }
}
