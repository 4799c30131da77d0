//! What stands where in an EROFS image: `Documentation/filesystems/erofs.rst` and
//! `fs/erofs/erofs_fs.h` of Linux. Numbers are little endian.

use crc::{CRC_32_ISCSI, Crc};

use crate::tree::{Attributes, Content};

/// Binary logarithm of [`BLOCK_BYTES`].
const BLOCK_BITS: u8 = 12;
/// A block: a page, because gVisor maps files into sandboxes by pages.
pub(crate) const BLOCK_BYTES: u64 = 1 << BLOCK_BITS;
/// Where the superblock begins.
pub(super) const SUPERBLOCK_AT: u64 = 1_024;
/// Bytes of the superblock.
const SUPERBLOCK_BYTES: usize = 128;
/// Its first bytes.
const MAGIC: u32 = 0xe0f5_e1e2;
/// Where in it the checksum is.
pub(super) const CHECKSUM_AT: u64 = SUPERBLOCK_AT + 4;
/// The superblock has a checksum, and inodes have the time of their content.
const FEATURES: u32 = 1 | 2;
/// Where the first inode is.
pub(super) const INODES_AT: u64 = SUPERBLOCK_AT + SUPERBLOCK_BYTES as u64;
/// Inodes are numbered by their place, in these steps.
pub(super) const SLOT_BYTES: u64 = 32;
/// Bytes of an inode with nanoseconds and 32 bits of uid and gid.
pub(super) const INODE_BYTES: u64 = 64;
/// Bytes of a folder's entry without its name.
pub(super) const ENTRY_BYTES: usize = 12;
/// Format bit of inodes of [`INODE_BYTES`].
const EXTENDED: u16 = 1;
/// Content in whole blocks only.
const FLAT_PLAIN: u16 = 0 << 1;
/// Content in whole blocks, and its rest behind the inode.
const FLAT_INLINE: u16 = 2 << 1;
/// The checksum's polynomial is Castagnoli's; unlike the usual one it is not inverted at the end.
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Bytes being put together.
#[derive(Debug, Default)]
pub(super) struct Record(pub(super) Vec<u8>);

impl Record {
    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self
    }

    fn zeros(mut self, length: usize) -> Self {
        self.0.resize(length, 0);
        self
    }
}

/// The superblock, without its checksum.
pub(super) fn superblock(inodes: u64, blocks: u32, identity: [u8; 16]) -> Vec<u8> {
    let root = u16::try_from(INODES_AT / SLOT_BYTES).unwrap_or(u16::MAX);
    Record::default()
        .word(MAGIC)
        .word(0)
        .word(FEATURES)
        .byte(BLOCK_BITS)
        .byte(0) // extra slots of the superblock
        .short(root)
        .long(inodes)
        .long(0) // time of the image: every inode has its own
        .word(0)
        .word(blocks)
        .word(0) // inodes are numbered from block 0 on
        .word(0)
        .bytes(&identity)
        .zeros(SUPERBLOCK_BYTES)
        .0
}

/// The checksum of the first block, from the superblock on and with 0 in the checksum's place.
pub(super) fn checksum(from_superblock: &[u8]) -> u32 {
    !CHECKSUM.checksum(from_superblock)
}

/// What an inode is, as modes have it (`S_IFMT`).
fn mode_type(content: &Content) -> u16 {
    match content {
        Content::Directory(_) => 0o040_000,
        Content::File { .. } => 0o100_000,
        Content::Symlink(_) => 0o120_000,
        Content::Fifo => 0o010_000,
    }
}

/// What an inode is, as folders' entries have it.
pub(super) const fn entry_type(content: &Content) -> u8 {
    match content {
        Content::File { .. } => 1,
        Content::Directory(_) => 2,
        Content::Fifo => 5,
        Content::Symlink(_) => 7,
    }
}

/// The parts of an inode that its place decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Bytes of its content.
    pub(super) size: u64,
    /// The first whole block of it; 0 where there is none.
    pub(super) block: u32,
    /// Whether its rest stands behind the inode.
    pub(super) is_inline: bool,
    /// How many names it has; of folders, also those that their subfolders give it.
    pub(super) links: u32,
    /// A number, from 1 on.
    pub(super) number: u32,
}

/// An inode.
pub(super) fn inode(content: &Content, attributes: &Attributes, place: Place) -> Vec<u8> {
    let layout = if place.is_inline { FLAT_INLINE } else { FLAT_PLAIN };
    let permissions = u16::try_from(attributes.mode & 0o7777).unwrap_or_default();
    let (seconds, nanoseconds) = attributes.mtime;
    Record::default()
        .short(EXTENDED | layout)
        .short(0) // extended attributes
        .short(mode_type(content) | permissions)
        .short(0)
        .long(place.size)
        .word(place.block)
        .word(place.number)
        .word(attributes.uid)
        .word(attributes.gid)
        .long(seconds.cast_unsigned())
        .word(nanoseconds)
        .word(place.links)
        .zeros(usize::try_from(INODE_BYTES).unwrap_or_default())
        .0
}
