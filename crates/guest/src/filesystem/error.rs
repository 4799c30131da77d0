//! What can go wrong with files, told alike by the RPCs and by the HTTP API: an error knows whose
//! fault it is, and only the edge turns that into a code or a status.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::path::PathError;

use super::list::ENTRIES_MAX;
use super::watch::{DIRECTORIES_MAX, WATCHES_MAX};

/// Why something with files could not be done.
#[derive(Debug, Error)]
pub(crate) enum FilesystemError {
    /// The text names no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nothing is there.
    #[error("path '{}' does not exist", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Something is there, but no directory.
    #[error("path '{}' is not a directory", path.display())]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// The directory to make is there already.
    #[error("directory already exists: {}", path.display())]
    DirectoryExists {
        /// Where.
        path: PathBuf,
    },
    /// Something else is where a directory should be made.
    #[error("path already exists but it is not a directory: {}", path.display())]
    NotADirectoryInTheWay {
        /// Where.
        path: PathBuf,
    },
    /// Something is there whose content cannot be read or written as a file's.
    #[error("path '{}' is a {kind}", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The root directory cannot be removed.
    #[error("the root directory cannot be removed")]
    RemoveRoot,
    /// Writers fill a directory faster than it is emptied.
    #[error("directory '{}' keeps being filled while it is removed", path.display())]
    KeepsFilling {
        /// Which tree was to be removed.
        path: PathBuf,
    },
    /// A listing has too many entries for one answer.
    #[error(
        "directory '{}' has more than {ENTRIES_MAX} entries at this depth; list it with less depth, or its subdirectories one by one",
        path.display()
    )]
    TooManyEntries {
        /// Which was to be listed.
        path: PathBuf,
    },
    /// The directory is on a file system whose changes the kernel may not see.
    #[error("cannot watch path on network filesystem: {}", path.display())]
    NetworkMount {
        /// Where.
        path: PathBuf,
    },
    /// No watcher has that id.
    #[error("watcher with id {id} not found")]
    UnknownWatcher {
        /// The id asked for.
        id: String,
    },
    /// There are too many watches already.
    #[error("more than {WATCHES_MAX} directories are being watched; end some watches first")]
    TooManyWatches,
    /// A recursive watch has too many directories.
    #[error("more than {DIRECTORIES_MAX} directories are below '{}'; watch a smaller tree", path.display())]
    TooManyDirectories {
        /// The watched one.
        path: PathBuf,
    },
    /// More happened than was read.
    #[error("events below '{}' were lost because they were not read in time; list the directory to see its state", path.display())]
    EventsLost {
        /// The watched directory.
        path: PathBuf,
    },
    /// The daemon itself failed at something that it needs for the answer.
    #[error("the file operation ended before it had an answer")]
    Unfinished(#[from] tokio::task::JoinError),
    /// The kernel refused.
    #[error("cannot {action} '{}'", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Whose fault an error is, and of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The caller's: nothing is there.
    Missing,
    /// The caller's: it is there already.
    Exists,
    /// The caller's: the request makes no sense here.
    Invalid,
    /// The caller's: not allowed.
    Denied,
    /// The sandbox's disk is full.
    NoSpace,
    /// A limit on simultaneous things is reached.
    Exhausted,
    /// Something that was asked for is gone for good.
    Lost,
    /// Ours, or the kernel's.
    Internal,
}

impl FilesystemError {
    /// An error of the kernel while `action` was tried with `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT) => Self::Missing { path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }

    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. } | Self::UnknownWatcher { .. } => Fault::Missing,
            Self::DirectoryExists { .. } => Fault::Exists,
            Self::Path(_)
            | Self::NotADirectory { .. }
            | Self::NotADirectoryInTheWay { .. }
            | Self::NotAFile { .. }
            | Self::RemoveRoot
            | Self::TooManyEntries { .. }
            | Self::TooManyDirectories { .. }
            | Self::NetworkMount { .. } => Fault::Invalid,
            Self::TooManyWatches => Fault::Exhausted,
            Self::EventsLost { .. } => Fault::Lost,
            Self::Unfinished(_) | Self::KeepsFilling { .. } => Fault::Internal,
            Self::Io { source, .. } => fault_of(source),
        }
    }

    /// The error and its causes in one line, as clients see it.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

fn fault_of(error: &io::Error) -> Fault {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Fault::Missing,
        Some(Errno::EXIST | Errno::NOTEMPTY) => Fault::Exists,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Fault::NoSpace,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY | Errno::BUSY) => {
            Fault::Denied
        }
        Some(
            Errno::NOTDIR
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::XDEV
            | Errno::NXIO,
        ) => Fault::Invalid,
        _ => Fault::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_is_told_in_the_words_of_the_wire() {
        let error = FilesystemError::io("open", Path::new("/a"), Errno::NOENT);
        assert_eq!(error.chain(), "path '/a' does not exist");
        assert_eq!(error.fault(), Fault::Missing);
    }

    #[test]
    fn the_chain_ends_with_the_kernels_words() {
        let error = FilesystemError::io("open", Path::new("/a"), Errno::LOOP);
        assert!(error.chain().starts_with("cannot open '/a': Too many levels of symbolic links"));
        assert_eq!(error.fault(), Fault::Invalid);
    }
}
