//! How the folders of an entry are found, and made where there are none.
//!
//! A layer need not have an entry for every folder: those of the layers below are meant, and a
//! symbolic link there leads on, as it does for those who unpack layers on a disk. It never leads
//! out of the tree.

use std::collections::BTreeMap;

use courier_archive::{DEPTH_MAX, EntryPath, NAME_MAX};

use super::{Attributes, Conflict, Content, FOLDER_MODE, Node, NodeId, Tree};

/// Most symbolic links on one path, as Linux has it (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Most names on one path, with those in its symbolic links: twice what the longest path without one
/// has. A million entries may each have the longest.
const STEPS_MAX: usize = 2 * DEPTH_MAX;

/// What is done where a folder is missing.
#[derive(Debug, Clone, Copy)]
enum Missing {
    /// It is made, with that time.
    Make((i64, u32)),
    /// That is the answer.
    Tell,
}

impl Tree {
    /// The folder that an entry lies in, made where there is none.
    pub(super) fn make_folders(
        &mut self,
        path: &EntryPath,
        mtime: (i64, u32),
    ) -> Result<NodeId, Conflict> {
        let folder = self.walk(path, Missing::Make(mtime))?;
        Ok(folder.expect("what is missing was made"))
    }

    /// The folder that an entry lies in; `None` where there is none.
    pub(super) fn find_folders(&mut self, path: &EntryPath) -> Result<Option<NodeId>, Conflict> {
        self.walk(path, Missing::Tell)
    }

    fn walk(&mut self, path: &EntryPath, missing: Missing) -> Result<Option<NodeId>, Conflict> {
        let mut ahead: Vec<Box<[u8]>> = path.components().rev().skip(1).map(Box::from).collect();
        let mut behind = vec![NodeId::ROOT];
        let (mut links, mut steps) = (0_usize, ahead.len());
        while let Some(name) = ahead.pop() {
            self.walk_left = self.walk_left.checked_sub(1).ok_or(Conflict::TooFar)?;
            if &*name == b".." {
                // The root is its own parent.
                behind.truncate(behind.len().saturating_sub(1).max(1));
                continue;
            }
            let here = behind.last().copied().unwrap_or(NodeId::ROOT);
            let Some(next) = self.child(here, &name) else {
                let Missing::Make(mtime) = missing else {
                    return Ok(None);
                };
                // Names in symbolic links were not looked at before.
                if name.len() > NAME_MAX {
                    return Err(Conflict::NotFolder { path: path.clone() });
                }
                behind.push(self.make_folder(here, &name, mtime)?);
                continue;
            };
            match &self.node(next).content {
                Content::Directory(_) => behind.push(next),
                Content::Symlink(target) => {
                    if target.starts_with(b"/") {
                        behind.truncate(1);
                    }
                    let known = ahead.len();
                    let names = target.split(|byte| *byte == b'/').rev();
                    ahead.extend(names.filter(|name| !matches!(*name, b"" | b".")).map(Box::from));
                    links = links.saturating_add(1);
                    steps = steps.saturating_add(ahead.len().saturating_sub(known));
                    if links > LINKS_MAX || steps > STEPS_MAX {
                        return Err(Conflict::Circle { path: path.clone() });
                    }
                }
                Content::File { .. } | Content::Fifo => {
                    return Err(Conflict::NotFolder { path: path.clone() });
                }
            }
        }
        Ok(behind.last().copied())
    }

    fn make_folder(
        &mut self,
        folder: NodeId,
        name: &[u8],
        mtime: (i64, u32),
    ) -> Result<NodeId, Conflict> {
        let attributes = Attributes::of_root(FOLDER_MODE, mtime);
        let id = self.add(Node { attributes, content: Content::Directory(BTreeMap::new()) })?;
        self.bind(folder, name, id)?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use courier_archive::{Header, Kind, Whiteout};

    use super::*;

    fn header(path: &str, kind: Kind) -> Header {
        Header::new(EntryPath::new(path).unwrap(), kind)
    }

    #[test]
    fn long_ways_to_many_entries_come_to_an_end() {
        let deep = ["d"; 200].join("/");
        let mut tree = Tree::new();
        let link = Kind::Symlink { target: deep.clone().into_bytes() };
        let below = [header(&deep, Kind::Directory), header("s", link)];
        tree.apply(0, &below).unwrap();
        tree.walk_left = 1_000;
        let files: Vec<Header> =
            (0..100).map(|n| header(&format!("s/{n}"), Kind::File { size: 0 })).collect();
        assert_eq!(tree.clone().apply(1, &files), Err(Conflict::TooFar));
        let gone: Vec<Header> = (0..100)
            .map(|n| Whiteout::Of(EntryPath::new(format!("s/{n}")).unwrap()).header().unwrap())
            .collect();
        assert_eq!(tree.apply(1, &gone), Err(Conflict::TooFar));
    }
}
