//! What the store asks of the host's file system, and how it is told what was refused.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tempfile::NamedTempFile;

/// Mode of everything that is published. Who may come near is for the folder above to say.
const PUBLISHED_MODE: u32 = 0o644;

/// Mode of locks: whoever can open one can lock it, and so keep everybody from the store.
const LOCK_MODE: u32 = 0o600;

/// The host could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It refused something.
    #[error("cannot {what} {}", path.display())]
    Refused {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// The file system is full.
    #[error("cannot {what} {}: the file system is full", path.display())]
    Full {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// The file system is too full to begin.
    #[error("{} has {free_mib} MiB free, and {needed_mib} are needed", folder.display())]
    NoSpace {
        /// The store's folder.
        folder: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is needed, with what has to stay free.
        needed_mib: u64,
    },
}

impl HostError {
    /// For `map_err`: what was being done, and to what.
    pub(crate) fn of<E: Into<io::Error>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| {
            let source = source.into();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::Full { what, path, source }
                }
                _ => Self::Refused { what, path, source },
            }
        }
    }
}

/// Written bytes after which free space is looked at again.
const LOOK_BYTES: u64 = 64 << 20;

/// The room that is left to what is written bit by bit.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    reserve: u64,
    unlooked: u64,
}

impl Space {
    /// In the file system of a folder, of which so many bytes stay free.
    pub(crate) fn new(folder: &Path, reserve: u64) -> Self {
        Self { folder: folder.to_owned(), reserve, unlooked: LOOK_BYTES }
    }

    /// To be asked before that many bytes are written.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), HostError> {
        self.unlooked = self.unlooked.saturating_add(bytes);
        if self.unlooked < LOOK_BYTES {
            return Ok(());
        }
        self.unlooked = 0;
        check_space(&self.folder, bytes, self.reserve)
    }
}

/// Checks that `bytes` can be written below `folder` and `reserve` stay free.
pub(crate) fn check_space(folder: &Path, bytes: u64, reserve: u64) -> Result<(), HostError> {
    let space = rustix::fs::statvfs(folder).map_err(HostError::of("look at", folder))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let needed = bytes.saturating_add(reserve);
    if free >= needed {
        return Ok(());
    }
    let (free_mib, needed_mib) = (free >> 20, needed.div_ceil(1 << 20));
    Err(HostError::NoSpace { folder: folder.to_owned(), free_mib, needed_mib })
}

/// A new file that nobody sees before it is published.
pub(crate) fn temporary(folder: &Path) -> Result<NamedTempFile, HostError> {
    NamedTempFile::new_in(folder).map_err(HostError::of("make a file in", folder))
}

/// Puts what is written on disk, so that publishing it is quick.
pub(crate) fn sync(file: &NamedTempFile) -> Result<(), HostError> {
    file.as_file().sync_all().map_err(HostError::of("write", file.path()))
}

/// Gives a synced file its name, in place of what had it: a crash leaves the one or the other.
pub(crate) fn publish(file: NamedTempFile, path: &Path) -> Result<(), HostError> {
    file.as_file()
        .set_permissions(Permissions::from_mode(PUBLISHED_MODE))
        .and_then(|()| file.persist(path).map_err(|error| error.error))
        .map_err(HostError::of("write", path))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Puts the names in a folder on disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), HostError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(HostError::of("sync", folder))
}

/// Bytes that a file takes on disk; 0 where there is none.
pub(crate) fn size_on_disk(path: &Path) -> u64 {
    // st_blocks counts 512 bytes, whatever the file system's own blocks are (stat(2)).
    fs::metadata(path).map_or(0, |meta| meta.blocks().saturating_mul(512))
}

/// Removes a file; gone already is success. How many bytes it took on disk.
pub(crate) fn remove(path: &Path) -> Result<u64, HostError> {
    let bytes = size_on_disk(path);
    match fs::remove_file(path) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(HostError::of("remove", path)(error)),
    }
}

/// Names of the files in a folder. Such that are not UTF-8 are not the store's.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>, HostError> {
    let refused = |error| HostError::of("read", folder)(error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let refused = |error: io::Error| HostError::of("read", folder)(error);
        names.extend(entry.map_err(refused)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Locks a file, which is made where there is none; the lock lives as long as the file is open. `None`
/// where another has it and `operation` does not wait.
pub(crate) fn lock(path: &Path, operation: FlockOperation) -> Result<Option<File>, HostError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(LOCK_MODE)
        .open(path)
        .map_err(HostError::of("open", path))?;
    Ok(try_lock(&file, path, operation)?.then_some(file))
}

/// Locks an open file. False where another has the lock and `operation` does not wait.
pub(crate) fn try_lock(
    file: &File,
    path: &Path,
    operation: FlockOperation,
) -> Result<bool, HostError> {
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(HostError::of("lock", path)(error)),
        }
    }
}
