//! The file tree that an ordered list of layers makes, without the content of its files.
//!
//! Names lead to nodes, and several names may lead to one node: those are hard links. A name that
//! gets another node leaves the old one to the other names, so a link keeps the content that it had
//! when it was made. Layers come from strangers: every walk is a loop, never a recursion.

use std::collections::BTreeMap;

use courier_archive::{EntryPath, Header, Kind, Whiteout};

mod walk;

/// Most nodes of a tree. The largest public images have some 500,000 files; one node takes some 200
/// bytes of memory.
pub(crate) const NODES_MAX: usize = 2_000_000;

/// Most bytes of all names and targets of symbolic links in a tree. Those of the largest public images
/// have some 50 MB.
const TEXT_BYTES_MAX: usize = 128 << 20;

/// Most names that are walked over to put all entries in their places, symbolic links on the way
/// included. The largest public images have some 10,000,000; this many take seconds.
const WALK_MAX: u64 = 100_000_000;

/// Mode of folders that no layer describes.
const FOLDER_MODE: u32 = 0o755;

/// Where a node is in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// The root folder.
    pub(crate) const ROOT: Self = Self(0);

    /// As an index of what is kept for each node.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of a node besides what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permissions, set-ID and sticky bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Seconds since the Unix epoch, and nanoseconds in that second.
    pub(crate) mtime: (i64, u32),
}

impl Attributes {
    /// Those of something of root's.
    pub(crate) const fn of_root(mode: u32, mtime: (i64, u32)) -> Self {
        Self { mode, uid: 0, gid: 0, mtime }
    }
}

impl From<&Header> for Attributes {
    fn from(header: &Header) -> Self {
        Self { mode: header.mode, uid: header.uid, gid: header.gid, mtime: header.mtime }
    }
}

/// Where the content of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// It is the guest daemon.
    Daemon,
    /// It follows an entry of a layer.
    Layer {
        /// Which layer, counted from 0.
        layer: u32,
        /// Which entry, counted from 0 and with whiteouts.
        entry: u64,
    },
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A folder: its names, in the order of their bytes.
    Directory(BTreeMap<Box<[u8]>, NodeId>),
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// Where they are.
        source: Source,
    },
    /// A symbolic link to that.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
}

/// A file of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// What is known of it.
    pub(crate) attributes: Attributes,
    /// What it is.
    pub(crate) content: Content,
}

/// Why a layer does not fit on those below it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// One of its folders is something else.
    #[error("{path} lies below something that is no folder")]
    NotFolder {
        /// The entry.
        path: EntryPath,
    },
    /// One of its folders is a symbolic link that leads nowhere in too many steps.
    #[error("{path} lies below symbolic links that lead in circles")]
    Circle {
        /// The entry.
        path: EntryPath,
    },
    /// A hard link to nothing.
    #[error("{path} is a hard link to {target}, which is not there")]
    NoTarget {
        /// The entry.
        path: EntryPath,
        /// What it is a link to.
        target: EntryPath,
    },
    /// A hard link to a folder.
    #[error("{path} is a hard link to {target}, which is a folder")]
    FolderTarget {
        /// The entry.
        path: EntryPath,
        /// What it is a link to.
        target: EntryPath,
    },
    /// All layers together have too many entries.
    #[error("the layers have more than {NODES_MAX} entries together")]
    TooMany,
    /// All layers together have too long names.
    #[error(
        "the names in the layers and the targets of their symbolic links are longer than \
         {TEXT_BYTES_MAX} bytes together"
    )]
    TooLong,
    /// All layers together have too long ways to their entries.
    #[error(
        "the paths in the layers have more than {WALK_MAX} names together, with those of links"
    )]
    TooFar,
    /// All layers together hold too much.
    #[error("the layers hold more than {most} bytes together")]
    TooLarge {
        /// Most, where each entry counts as a block besides its content.
        most: u64,
    },
}

/// A file tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Bytes of names and of targets, with those that are gone.
    text_bytes: usize,
    /// Names that may still be walked over.
    walk_left: u64,
}

impl Tree {
    /// The root folder alone.
    pub(crate) fn new() -> Self {
        let attributes = Attributes::of_root(FOLDER_MODE, (0, 0));
        let root = Node { attributes, content: Content::Directory(BTreeMap::new()) };
        Self { nodes: vec![root], text_bytes: 0, walk_left: WALK_MAX }
    }

    /// A node.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.index()).expect("an id is of a node, and nodes are never removed")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(id.index()).expect("an id is of a node, and nodes are never removed")
    }

    /// How many nodes there are, with those that have lost their last name.
    pub(crate) const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Lays a layer on top. `headers` are all of its entries in their order.
    pub(crate) fn apply(&mut self, layer: u32, headers: &[Header]) -> Result<(), Conflict> {
        // What a layer says is gone is gone from the layers below, wherever in the layer it says so.
        for whiteout in headers.iter().filter_map(Header::whiteout) {
            self.hide(&whiteout)?;
        }
        for (entry, header) in (0_u64..).zip(headers) {
            if header.whiteout().is_none() {
                self.put(header, Source::Layer { layer, entry })?;
            }
        }
        Ok(())
    }

    /// Puts an entry in place of whatever has its name.
    pub(crate) fn put(&mut self, header: &Header, source: Source) -> Result<(), Conflict> {
        let attributes = Attributes::from(header);
        let folder = self.make_folders(&header.path, header.mtime)?;
        let name = header.path.name();
        let content = match &header.kind {
            Kind::Directory => {
                let existing = self.child(folder, name);
                if let Some(id) = existing.filter(|id| self.names(*id).is_some()) {
                    self.node_mut(id).attributes = attributes;
                    return Ok(());
                }
                Content::Directory(BTreeMap::new())
            }
            Kind::Hardlink { target } => {
                let id = self.link_target(&header.path, target)?;
                return self.bind(folder, name, id);
            }
            Kind::File { size } => Content::File { size: *size, source },
            Kind::Symlink { target } => {
                self.count(target.len())?;
                Content::Symlink(target.as_slice().into())
            }
            Kind::Fifo => Content::Fifo,
        };
        let id = self.add(Node { attributes, content })?;
        self.bind(folder, name, id)
    }

    /// Makes sure that there is something of that name in the root folder; a folder, if nothing is.
    pub(crate) fn ensure_folder(&mut self, name: &[u8], mode: u32) -> Result<(), Conflict> {
        if self.child(NodeId::ROOT, name).is_none() {
            let attributes = Attributes::of_root(mode, (0, 0));
            let id = self.add(Node { attributes, content: Content::Directory(BTreeMap::new()) })?;
            self.bind(NodeId::ROOT, name, id)?;
        }
        Ok(())
    }

    fn link_target(&mut self, path: &EntryPath, target: &EntryPath) -> Result<NodeId, Conflict> {
        let missing = || Conflict::NoTarget { path: path.clone(), target: target.clone() };
        let folder = self.find_folders(target)?.ok_or_else(missing)?;
        let id = self.child(folder, target.name()).ok_or_else(missing)?;
        if self.names(id).is_some() {
            let (path, target) = (path.clone(), target.clone());
            return Err(Conflict::FolderTarget { path, target });
        }
        Ok(id)
    }

    /// Hides what a whiteout names. Where there is nothing to hide, it hides nothing.
    fn hide(&mut self, whiteout: &Whiteout) -> Result<(), Conflict> {
        let path = match whiteout {
            Whiteout::Opaque(None) => {
                self.clear(NodeId::ROOT);
                return Ok(());
            }
            Whiteout::Opaque(Some(path)) | Whiteout::Of(path) => path,
        };
        let folder = match self.find_folders(path) {
            Ok(Some(folder)) => folder,
            // What was not looked for may be there.
            Err(Conflict::TooFar) => return Err(Conflict::TooFar),
            Ok(None) | Err(_) => return Ok(()),
        };
        match whiteout {
            Whiteout::Of(_) => self.unbind(folder, path.name()),
            Whiteout::Opaque(_) => {
                if let Some(id) = self.child(folder, path.name()) {
                    self.clear(id);
                }
            }
        }
        Ok(())
    }

    /// The names in a folder; `None` where it is none.
    pub(crate) fn names(&self, id: NodeId) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.node(id).content {
            Content::Directory(names) => Some(names),
            Content::File { .. } | Content::Symlink(_) | Content::Fifo => None,
        }
    }

    /// What a name in a folder leads to.
    pub(crate) fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names(folder)?.get(name).copied()
    }

    fn add(&mut self, node: Node) -> Result<NodeId, Conflict> {
        let index = self.nodes.len();
        if index >= NODES_MAX {
            return Err(Conflict::TooMany);
        }
        self.nodes.push(node);
        u32::try_from(index).map(NodeId).map_err(|_beyond| Conflict::TooMany)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Conflict> {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        if self.text_bytes > TEXT_BYTES_MAX { Err(Conflict::TooLong) } else { Ok(()) }
    }

    fn bind(&mut self, folder: NodeId, name: &[u8], id: NodeId) -> Result<(), Conflict> {
        self.count(name.len())?;
        if let Content::Directory(names) = &mut self.node_mut(folder).content {
            names.insert(name.into(), id);
        }
        Ok(())
    }

    fn unbind(&mut self, folder: NodeId, name: &[u8]) {
        if let Content::Directory(names) = &mut self.node_mut(folder).content {
            names.remove(name);
        }
    }

    fn clear(&mut self, folder: NodeId) {
        if let Content::Directory(names) = &mut self.node_mut(folder).content {
            names.clear();
        }
    }
}
