//! Reads an image with a reader that is not ours.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;
use rustix::fs::FileType;

/// What an image says about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) links: u32,
    /// Other names with this are names of the same thing.
    pub(crate) inode: u64,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Folder,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

/// Everything below the root of an image, by path.
pub(crate) type Names = BTreeMap<Vec<u8>, Found>;

/// Reads all of an image.
#[track_caller]
pub(crate) fn read(image: &Path) -> Names {
    let bytes = std::fs::read(image).unwrap();
    let system = EroFS::new(SliceImage::new(&bytes)).unwrap();
    let mut names = Names::new();
    for entry in system.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let path = entry.dir_entry.path().as_bytes()[1..].to_vec();
        let found = found(&system, entry.inode);
        assert!(names.insert(path, found).is_none(), "a name comes twice");
    }
    names
}

fn found(system: &EroFS<SliceImage<'_>>, inode: Inode) -> Found {
    let what = match inode.file_type() {
        FileType::Directory => What::Folder,
        FileType::RegularFile => {
            let mut content = Vec::new();
            system.open_inode_file(inode).unwrap().read_to_end(&mut content).unwrap();
            What::File(content)
        }
        FileType::Symlink => {
            What::Symlink(system.read_link_inode(inode).unwrap().as_bytes().to_vec())
        }
        FileType::Fifo => What::Fifo,
        other => panic!("{other:?}"),
    };
    Found {
        what,
        mode: inode.permissions().mode(),
        owner: (inode.uid(), inode.gid()),
        mtime: inode.modified_unix(),
        links: inode.nlink(),
        inode: inode.id(),
    }
}

/// The content of a file in an image.
#[track_caller]
pub(crate) fn content(names: &Names, path: &str) -> String {
    match &names.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is not there")).what {
        What::File(content) => String::from_utf8(content.clone()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}
