//! Why an archive was refused.

use std::io;

use crate::{EntryPath, PathError};

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
#[error("entry {entry} of the archive: {problem}")]
pub struct ReadError {
    /// Which entry: its number from 1 and, where it is known, its path.
    pub entry: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an entry, or with the archive at that place.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The archive cannot be read, or is not the compressed stream that it seemed.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// The archive ends in the middle of it.
    #[error("the archive ends here, before its end")]
    Truncated,
    /// Something follows the archive's end.
    #[error("something follows the end of the archive")]
    Trailing,
    /// An error was told before; nothing is read after that.
    #[error("the archive was refused before")]
    Refused,
    /// It has more entries.
    #[error("there are more than {most} entries")]
    Entries {
        /// Most.
        most: u64,
    },
    /// It is longer.
    #[error("the archive is larger than {most} bytes")]
    Bytes {
        /// Most.
        most: u64,
    },
    /// The names in it are longer.
    #[error("all paths together are longer than {most} bytes")]
    Paths {
        /// Most.
        most: u64,
    },
    /// The checksum is not that of the header.
    #[error("the checksum does not match")]
    Checksum,
    /// It is not in the formats of POSIX or GNU.
    #[error("the header is of an unknown format")]
    Format,
    /// A number is none, or is too large.
    #[error("the {0} is not a number in its range")]
    Number(&'static str),
    /// The type is not one of those that are taken.
    #[error("entries of type {} are not taken", char::from(*.0).escape_default())]
    Kind(u8),
    /// It is a device.
    #[error("devices are not taken")]
    Device,
    /// It is a sparse file.
    #[error("sparse files are not taken")]
    Sparse,
    /// The path is not one.
    #[error("{0}")]
    Path(#[from] PathError),
    /// It stands for the root and is no folder, or is a link to the root.
    #[error("only a folder can be the root")]
    Root,
    /// A link's target is empty, too long or has a NUL.
    #[error("the target of the link is empty, too long or contains a NUL")]
    Link,
    /// A hard link's target has not come before, or is a folder.
    #[error("the hard link's target {target} is not an earlier file of the archive")]
    LinkTarget {
        /// The target.
        target: EntryPath,
    },
    /// What is no file has content.
    #[error("only files have content")]
    Content,
    /// It came before.
    #[error("the path comes twice")]
    Duplicate,
    /// It is below something that is no folder.
    #[error("{parent} above it is not a folder")]
    Below {
        /// What is above.
        parent: EntryPath,
    },
    /// An extended header is malformed or too long.
    #[error("the extended header is malformed")]
    Pax,
    /// A global extended header says something about entries.
    #[error("global extended headers are not taken")]
    GlobalPax,
    /// The same thing is said twice about it, or differently.
    #[error("the headers say the same thing twice, or disagree")]
    Twice,
    /// An extended attribute is too long or comes twice.
    #[error("an extended attribute is too long or comes twice")]
    Xattr,
    /// The name begins with `.wh.` and is not a whiteout, or none is taken.
    #[error("names that begin with '.wh.' mean what layers hide; this one cannot be taken")]
    Whiteout,
}
