//! Where everything of an image will stand, decided before a byte of it is written.

use super::directory::{self, Entry};
use super::format::{BLOCK_BYTES, INODE_BYTES, INODES_AT, SLOT_BYTES, entry_type};
use crate::tree::{Content, Node, NodeId, Source, Tree};

/// The tree does not fit into the format's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image would be larger than the 16 TiB that the format has room for")]
pub(crate) struct TooLarge;

/// The content of a file, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where it comes from.
    pub(crate) source: Source,
    /// Where in the image it begins.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) size: u64,
}

/// An inode, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) node: NodeId,
    /// The folder that it was first found in; of a folder, its only one.
    pub(super) parent: NodeId,
    pub(super) links: u32,
    /// Where in the image it begins.
    pub(super) offset: u64,
    /// Bytes of its content.
    pub(super) size: u64,
    /// How many of them stand behind the inode.
    pub(super) inline: u64,
    /// Its first whole block; 0 where there is none.
    pub(super) block: u32,
}

/// Where everything will stand.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of their places, the root first.
    pub(super) inodes: Vec<Inode>,
    /// Index of the inode of each node; those without a name have none.
    index: Vec<Option<usize>>,
    extents: Vec<Extent>,
    blocks: u32,
}

impl Plan {
    /// Decides where everything of a tree goes.
    pub(crate) fn of(tree: &Tree) -> Result<Self, TooLarge> {
        let mut plan = Self {
            inodes: Vec::new(),
            index: vec![None; tree.len()],
            extents: Vec::new(),
            blocks: 0,
        };
        plan.find(tree);
        plan.place_inodes(tree)?;
        plan.place_blocks(tree)?;
        Ok(plan)
    }

    /// Bytes of the image.
    pub(crate) const fn bytes(&self) -> u64 {
        self.blocks as u64 * BLOCK_BYTES
    }

    /// Blocks of the image.
    pub(super) const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The contents of files, in the order of their sources and of their places.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The entries of a folder in their order, with `.` and `..`.
    pub(super) fn entries<'a>(&self, tree: &'a Tree, inode: &Inode) -> Vec<Entry<'a>> {
        let Some(names) = tree.names(inode.node) else {
            return Vec::new();
        };
        let own: [(&[u8], NodeId); 2] = [(b".", inode.node), (b"..", inode.parent)];
        let mut entries: Vec<Entry<'a>> = names
            .iter()
            .map(|(name, id)| (&**name, *id))
            .chain(own)
            .map(|(name, id)| Entry {
                name,
                slot: self.slot(id),
                kind: entry_type(&tree.node(id).content),
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.name);
        entries
    }

    fn slot(&self, id: NodeId) -> u64 {
        let inode = self.index_of(id).and_then(|index| self.inodes.get(index));
        inode.map_or(0, |inode| inode.offset / SLOT_BYTES)
    }

    fn index_of(&self, id: NodeId) -> Option<usize> {
        self.index.get(id.index()).copied().flatten()
    }

    /// Finds every node that has a name, folders before what is in them, in the order of the names.
    fn find(&mut self, tree: &Tree) {
        let mut ahead = vec![(NodeId::ROOT, NodeId::ROOT)];
        while let Some((node, parent)) = ahead.pop() {
            if let Some(inode) = self.index_of(node).and_then(|at| self.inodes.get_mut(at)) {
                inode.links = inode.links.saturating_add(1);
                continue;
            }
            if let Some(index) = self.index.get_mut(node.index()) {
                *index = Some(self.inodes.len());
            }
            let names = tree.names(node);
            let is_folder = |id: &&NodeId| tree.names(**id).is_some();
            let subfolders = names.map(|names| names.values().filter(is_folder).count());
            // A folder has its name, its own `.`, and the `..` of each folder in it.
            let links = subfolders.map_or(1, |count| count.saturating_add(2));
            let links = u32::try_from(links).unwrap_or(u32::MAX);
            let size = size_of_content(tree.node(node));
            let (offset, inline, block) = (0, 0, 0);
            self.inodes.push(Inode { node, parent, links, offset, size, inline, block });
            ahead
                .extend(names.into_iter().flat_map(|all| all.values().rev()).map(|id| (*id, node)));
        }
    }

    /// Puts inodes one behind the other. Neither they nor what stands behind them may be in two
    /// blocks.
    fn place_inodes(&mut self, tree: &Tree) -> Result<(), TooLarge> {
        let mut end = INODES_AT;
        for inode in &mut self.inodes {
            inode.inline = inline_of(&tree.node(inode.node).content, inode.size);
            let needed = INODE_BYTES + inode.inline;
            if end % BLOCK_BYTES + needed > BLOCK_BYTES {
                end = end.next_multiple_of(BLOCK_BYTES);
            }
            inode.offset = end;
            end = (end + needed).next_multiple_of(SLOT_BYTES);
        }
        self.blocks = u32::try_from(end.div_ceil(BLOCK_BYTES)).map_err(|_beyond| TooLarge)?;
        Ok(())
    }

    /// Puts whole blocks behind the inodes: first those of folders and symbolic links, then those of
    /// files in the order in which their content comes.
    fn place_blocks(&mut self, tree: &Tree) -> Result<(), TooLarge> {
        let mut files = Vec::new();
        for (index, inode) in self.inodes.iter_mut().enumerate() {
            match tree.node(inode.node).content {
                Content::File { size, source } if size > 0 => files.push((source, index)),
                Content::File { .. } => {}
                Content::Directory(_) | Content::Symlink(_) | Content::Fifo => {
                    let bytes = inode.size - inode.inline;
                    if bytes > 0 {
                        inode.block = take(&mut self.blocks, bytes)?;
                    }
                }
            }
        }
        files.sort_unstable();
        for (source, index) in files {
            let Some(inode) = self.inodes.get_mut(index) else { continue };
            inode.block = take(&mut self.blocks, inode.size)?;
            let offset = u64::from(inode.block) * BLOCK_BYTES;
            self.extents.push(Extent { source, offset, size: inode.size });
        }
        Ok(())
    }
}

/// Takes as many blocks as hold `bytes`; the first of them.
fn take(end: &mut u32, bytes: u64) -> Result<u32, TooLarge> {
    let first = *end;
    let count = u32::try_from(bytes.div_ceil(BLOCK_BYTES)).map_err(|_beyond| TooLarge)?;
    *end = first.checked_add(count).ok_or(TooLarge)?;
    Ok(first)
}

fn size_of_content(node: &Node) -> u64 {
    match &node.content {
        Content::Directory(names) => {
            // `.` and `..` stand where they belong among the names.
            let mut sorted: Vec<&[u8]> = names.keys().map(|name| &**name).collect();
            sorted.extend([b"." as &[u8], b".."]);
            sorted.sort_unstable();
            directory::size(sorted.into_iter().map(<[u8]>::len))
        }
        Content::File { size, .. } => *size,
        Content::Symlink(target) => target.len() as u64,
        Content::Fifo => 0,
    }
}

/// How much of a content stands behind its inode: the rest behind its whole blocks, where it is a
/// folder or a symbolic link and the rest fits into the inode's block. A symbolic link is there whole
/// or not at all.
fn inline_of(content: &Content, size: u64) -> u64 {
    let rest = size % BLOCK_BYTES;
    let fits = rest <= BLOCK_BYTES - INODE_BYTES;
    match content {
        Content::Directory(_) | Content::Symlink(_) if fits => rest,
        Content::Directory(_) | Content::Symlink(_) | Content::File { .. } | Content::Fifo => 0,
    }
}
