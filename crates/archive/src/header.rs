//! What an archive says about one entry.

use std::collections::BTreeMap;

use crate::EntryPath;

/// The bits of a mode that are kept: permissions, set-ID and sticky.
pub const MODE_BITS: u32 = 0o7777;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it says, as it is: 1 to 4,095 bytes without a NUL. It may lead anywhere.
        target: Vec<u8>,
    },
    /// Another name of an earlier entry.
    Hardlink {
        /// That entry's path.
        target: EntryPath,
    },
    /// A named pipe.
    Fifo,
}

/// What an archive says about one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
    /// Its mode, without the type: [`MODE_BITS`].
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// When its content last changed: seconds since the Unix epoch, and nanoseconds in that second.
    pub mtime: (i64, u32),
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Header {
    /// An entry of root's, of mode 0644 (0755 for a folder, 0777 for a link), without a time.
    #[must_use]
    pub const fn new(path: EntryPath, kind: Kind) -> Self {
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink { .. } => 0o777,
            Kind::File { .. } | Kind::Hardlink { .. } | Kind::Fifo => 0o644,
        };
        Self { path, kind, mode, uid: 0, gid: 0, mtime: (0, 0), xattrs: BTreeMap::new() }
    }

    /// Bytes of content that follow it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            Kind::Directory | Kind::Symlink { .. } | Kind::Hardlink { .. } | Kind::Fifo => 0,
        }
    }
}
