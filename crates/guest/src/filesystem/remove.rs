//! Removing a tree, as `rm -rf` does: without recursion and with few descriptors, so that no tree,
//! however deep, can exhaust the daemon.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType};
use rustix::io::Errno;

use super::error::FilesystemError;
use crate::folder::open_folder;

/// Most directories open at once. What lies deeper is first moved up to the root of the tree.
const OPEN_MAX: usize = 64;

/// How often one directory is emptied again because something was put into it meanwhile.
const PASSES_MAX: u32 = 64;

/// Most directories moved up in one removal: enough for a chain of six million levels.
const MOVES_MAX: u64 = 100_000;

/// One directory on the way down.
struct Level {
    dir: Dir,
    /// Its name in the level above; the whole path for the first.
    name: CString,
    passes: u32,
}

/// Removes what is at `path`, with everything in it; nothing there is fine too. Links are removed,
/// not followed.
///
/// # Errors
/// [`FilesystemError`]; some of the tree may be gone already then.
pub(crate) fn remove(path: &Path) -> Result<(), FilesystemError> {
    if path == Path::new("/") {
        return Err(FilesystemError::RemoveRoot);
    }
    match remove_tree(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY) => Err(FilesystemError::KeepsFilling { path: path.to_owned() }),
        Err(errno) => Err(FilesystemError::io("remove", path, errno)),
    }
}

fn remove_tree(path: &Path) -> Result<(), Errno> {
    match rustix::fs::unlink(path) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let root = rustix::path::Arg::into_c_str(path)?.into_owned();
    let mut levels = vec![open(CWD, root, 0)?];
    let mut moved_up = 0_u64;
    while let Some(level) = levels.last_mut() {
        match next_child(&mut level.dir)? {
            Some(Child { name, kind }) => {
                let parent = level.dir.fd()?;
                if is_removed(parent, &name, kind)? {
                    continue;
                }
                if levels.len() < OPEN_MAX {
                    let child = open(levels_parent(&levels)?, name, 0)?;
                    levels.push(child);
                } else {
                    move_up(&levels, &name, &mut moved_up)?;
                    // The root has a child that its current pass may not see: not a writer's doing.
                    levels.iter_mut().take(1).for_each(|root| root.passes = 0);
                }
            }
            None => {
                let Some(emptied) = levels.pop() else { break };
                finish(&mut levels, emptied)?;
            }
        }
    }
    Ok(())
}

struct Child {
    name: CString,
    kind: FileType,
}

fn next_child(dir: &mut Dir) -> Result<Option<Child>, Errno> {
    for entry in dir.by_ref() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(Some(Child { name: entry.file_name().to_owned(), kind: entry.file_type() }));
        }
    }
    Ok(None)
}

/// Removes a child unless it is a directory.
fn is_removed(parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    if kind == FileType::Directory {
        return Ok(false);
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The descriptor of the deepest open directory, or the working directory above the first.
fn levels_parent(levels: &[Level]) -> Result<BorrowedFd<'_>, Errno> {
    levels.last().map_or(Ok(CWD), |level| level.dir.fd())
}

/// Moves a directory that lies too deep to the root of the tree, under a name that is free there.
fn move_up(levels: &[Level], name: &CStr, moved_up: &mut u64) -> Result<(), Errno> {
    let root = levels.first().map_or(Ok(CWD), |level| level.dir.fd())?;
    let parent = levels_parent(levels)?;
    while *moved_up < MOVES_MAX {
        *moved_up += 1;
        let free = format!(".removed-{moved_up}");
        match rustix::fs::renameat(parent, name, root, &free) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes a directory that was just emptied, or opens it again when it has been filled meanwhile.
fn finish(levels: &mut Vec<Level>, emptied: Level) -> Result<(), Errno> {
    let parent = levels_parent(levels)?;
    match rustix::fs::unlinkat(parent, &*emptied.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) if emptied.passes < PASSES_MAX => {
            let again = open(parent, emptied.name, emptied.passes + 1)?;
            levels.push(again);
            Ok(())
        }
        Err(errno) => Err(errno),
    }
}

fn open(parent: impl AsFd, name: CString, passes: u32) -> Result<Level, Errno> {
    let fd = open_folder(parent, &name)?;
    Ok(Level { dir: Dir::new(fd)?, name, passes })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/f"), "").unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        fs::write(folder.path().join("other/kept"), "").unwrap();
        symlink("../other", tree.join("link")).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(folder.path().join("other/kept").exists());
        symlink("other", folder.path().join("link")).unwrap();
        remove(&folder.path().join("link")).unwrap();
        assert!(folder.path().join("other/kept").exists());
    }

    #[test]
    fn nothing_there_is_fine_and_the_root_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("missing")).unwrap();
        remove(&folder.path().join("missing/below")).unwrap();
        assert!(matches!(remove(Path::new("/")), Err(FilesystemError::RemoveRoot)));
    }

    #[test]
    fn a_tree_far_deeper_than_any_path_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::open(&tree, flags, Mode::empty()).unwrap();
        for _level in 0..3_000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        drop(at);
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
