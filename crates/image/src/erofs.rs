//! Lays out a tree as an EROFS image: uncompressed, the content of files at block boundaries.
//!
//! ```text
//! block 0     1024 bytes of zeros, superblock, then inodes from slot 36 on, the root first
//! ...         inodes; folders and symbolic links have their last, incomplete block behind theirs
//! ...         whole blocks of folders, and of symbolic links too long to stand behind their inode
//! ...         content of files, in the order in which the layers give it
//! ```
//!
//! The image has to be read by Linux and by gVisor, whose reader knows less: no compression, no
//! chunks, no extended attributes (an inode that has some cannot be opened), no content of files
//! behind their inode. Both sides of that reader look at names by binary search, so names are
//! sorted by their bytes, `.` and `..` among them.
//!
//! The same tree gives the same bytes.

mod directory;
mod format;
mod plan;
mod write;

pub(crate) use format::BLOCK_BYTES;
pub(crate) use plan::{Extent, Plan, TooLarge};
