//! Layers: what one is, how one is made of a stranger's tar, how one is read again.

mod draft;
mod pack;
mod spool;

use courier_archive::{DecompressError, EntryPath, ReadError};

use crate::{Digest, HostError};

pub(crate) use draft::Draft;
pub(crate) use pack::{Packed, Unpacked, open};

/// A layer that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Its name: the SHA-256 of its uncompressed canonical tar.
    pub digest: Digest,
    /// Bytes of that tar.
    pub size_bytes: u64,
    /// Entries in it, with whiteouts.
    pub entries: u64,
}

/// Why a tar did not become a layer. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is compressed in a way that is not taken, or cannot be read.
    #[error(transparent)]
    Compression(#[from] DecompressError),
    /// It is refused, or cannot be read to its end.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// It ends or breaks off inside a file.
    #[error("the content of {path} cannot be read to its end")]
    Content {
        /// Which.
        path: EntryPath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What its headers say besides paths is too long to be kept in memory.
    #[error(
        "the links and extended attributes of the archive are longer than {most} bytes together"
    )]
    Headers {
        /// Most.
        most: u64,
    },
    /// The host is at fault.
    #[error(transparent)]
    Host(#[from] HostError),
}
