//! Writes what a plan has besides the content of files: superblock, inodes, folders, links.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;

use super::directory;
use super::format::{self, BLOCK_BYTES, CHECKSUM_AT, Place, SUPERBLOCK_AT};
use super::plan::{Inode, Plan};
use crate::tree::{Content, Tree};

/// How much is written at once.
const BUFFER_BYTES: usize = 256 * 1024;

impl Plan {
    /// Gives `image`, which is new and empty, its whole length and writes everything into it that is
    /// not the content of a file. `identity` becomes the file system's UUID.
    pub(crate) fn write(&self, tree: &Tree, identity: [u8; 16], image: &File) -> io::Result<()> {
        image.set_len(self.bytes())?;
        let mut out = Out { to: BufWriter::with_capacity(BUFFER_BYTES, image), at: 0 };
        out.fill_to(SUPERBLOCK_AT)?;
        let count = self.inodes.len() as u64;
        out.write(&format::superblock(count, self.blocks(), identity))?;
        for (number, inode) in (1_u32..).zip(&self.inodes) {
            self.write_inode(tree, number, inode, &mut out)?;
        }
        // Whole blocks were given out in the same order.
        for inode in self.inodes.iter().filter(|inode| inode.block > 0) {
            if let Some(content) = self.kept_content(tree, inode) {
                let whole = content.len().saturating_sub(in_memory(inode.inline));
                out.fill_to(u64::from(inode.block) * BLOCK_BYTES)?;
                out.write(content.get(..whole).unwrap_or_default())?;
            }
        }
        out.to.flush()?;
        drop(out);
        write_checksum(image)
    }

    fn write_inode(
        &self,
        tree: &Tree,
        number: u32,
        inode: &Inode,
        out: &mut Out<'_>,
    ) -> io::Result<()> {
        let node = tree.node(inode.node);
        let place = Place {
            size: inode.size,
            block: inode.block,
            is_inline: inode.inline > 0,
            links: inode.links,
            number,
        };
        out.fill_to(inode.offset)?;
        out.write(&format::inode(&node.content, &node.attributes, place))?;
        if inode.inline > 0
            && let Some(content) = self.kept_content(tree, inode)
        {
            let rest = content.len().saturating_sub(in_memory(inode.inline));
            out.write(content.get(rest..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// The content of what is no file.
    fn kept_content(&self, tree: &Tree, inode: &Inode) -> Option<Vec<u8>> {
        match &tree.node(inode.node).content {
            Content::Directory(_) => Some(directory::content(&self.entries(tree, inode))),
            Content::Symlink(target) => Some(target.to_vec()),
            Content::File { .. } | Content::Fifo => None,
        }
    }
}

/// A length that is less than a block.
fn in_memory(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Writes from the front to the back.
struct Out<'a> {
    to: BufWriter<&'a File>,
    at: u64,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at = self.at.saturating_add(bytes.len() as u64);
        self.to.write_all(bytes)
    }

    /// Leaves zeros up to there.
    fn fill_to(&mut self, offset: u64) -> io::Result<()> {
        if offset > self.at {
            io::copy(&mut io::Read::take(io::repeat(0), offset - self.at), &mut self.to)?;
            self.at = offset;
        }
        Ok(())
    }
}

/// The checksum is over the first block, inodes included, so it comes last.
fn write_checksum(image: &File) -> io::Result<()> {
    let mut block = vec![0; in_memory(BLOCK_BYTES - SUPERBLOCK_AT)];
    image.read_exact_at(&mut block, SUPERBLOCK_AT)?;
    image.write_all_at(&format::checksum(&block).to_le_bytes(), CHECKSUM_AT)
}
