//! Why files were not put in place, in words for the build's author.

use std::io;

use courier_archive::{DecompressError, EntryPath, ReadError};
use http::StatusCode;
use rustix::io::Errno;

use crate::path::PathError;
use crate::user::LookupError;

use super::select::SourceError;

/// Why files were not put in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The source is none.
    #[error("the source {text:?} cannot be copied: {error}")]
    Source {
        /// The source.
        text: String,
        /// Why.
        error: SourceError,
    },
    /// Nothing in the archive is what the source means.
    #[error("{text:?} is not in the build's context")]
    NothingMatches {
        /// The source.
        text: String,
    },
    /// The archive is none.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// The archive is compressed in an unknown way.
    #[error(transparent)]
    Compression(#[from] DecompressError),
    /// The destination is no path.
    #[error("the destination cannot be: {0}")]
    Path(#[from] PathError),
    /// The destination cannot be reached.
    #[error("the destination {destination:?} cannot be written to: {errno}")]
    Destination {
        /// The destination.
        destination: String,
        /// Why.
        errno: Errno,
    },
    /// Several files for one name.
    #[error(
        "{path} is not the only file for {destination:?}: several need a folder, which ends with '/'"
    )]
    SeveralFiles {
        /// The second file.
        path: EntryPath,
        /// The destination.
        destination: String,
    },
    /// The owner's user or group does not exist.
    #[error(transparent)]
    User(#[from] LookupError),
    /// The owner's group does not exist.
    #[error("invalid group: '{group}'")]
    Group {
        /// The name.
        group: String,
    },
    /// A hard link's target is not copied.
    #[error("{path} is a link to {target}, which is not copied")]
    LinkOutside {
        /// The link.
        path: EntryPath,
        /// Its target.
        target: EntryPath,
    },
    /// Something above the entry, in the image or the archive, is no folder but a file or a link.
    #[error("{path} cannot be copied: a file or link is where its folder would be")]
    NoFolder {
        /// The entry.
        path: EntryPath,
    },
    /// The entry could not be written.
    #[error("{path} cannot be copied: {source}")]
    Entry {
        /// The entry.
        path: EntryPath,
        /// Why.
        source: io::Error,
    },
}

impl UnpackError {
    /// An entry that could not be written.
    pub(super) fn entry(path: &EntryPath, errno: Errno) -> Self {
        match errno {
            Errno::NOTDIR | Errno::LOOP => Self::NoFolder { path: path.clone() },
            errno => Self::Entry { path: path.clone(), source: errno.into() },
        }
    }

    /// The HTTP status that says whose fault it is.
    pub(crate) fn status(&self) -> StatusCode {
        let is_full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::NothingMatches { .. } => StatusCode::NOT_FOUND,
            Self::User(LookupError::Read { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::User(_) | Self::Group { .. } => StatusCode::UNAUTHORIZED,
            Self::Entry { source, .. } if is_full(source) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Source { .. }
            | Self::Archive(_)
            | Self::Compression(_)
            | Self::Path(_)
            | Self::Destination { .. }
            | Self::SeveralFiles { .. }
            | Self::LinkOutside { .. }
            | Self::NoFolder { .. }
            | Self::Entry { .. } => StatusCode::BAD_REQUEST,
        }
    }
}
