//! Listing a directory, level by level down to a depth.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use courier_protocol::envd::filesystem::EntryInfo;

use crate::entry;
use crate::user::Names;

use super::error::FilesystemError;

/// Most entries of one listing; beyond it the listing is refused, never cut. An entry is some 400
/// bytes on the wire, so this is an answer of 8 MB.
pub(crate) const ENTRIES_MAX: usize = 20_000;

/// One directory on the way down.
struct Level {
    /// Its path as shown.
    shown: PathBuf,
    /// What is still to be shown of it, last name first.
    rest: Vec<DirEntry>,
}

/// Everything in the directory at `root` down to `depth` levels (0 counts as 1), depth first, each
/// directory in the order of the bytes of its names, with paths that begin with `root` as it was
/// asked for. `root` may be a link to a directory; links below it are shown, not followed.
///
/// # Errors
/// [`FilesystemError`]; what vanishes or cannot be opened below `root` meanwhile is left out.
pub(crate) fn list(
    root: &Path,
    depth: u32,
    names: &Names,
) -> Result<Vec<EntryInfo>, FilesystemError> {
    let depth = usize::try_from(depth.max(1)).unwrap_or(usize::MAX);
    let real =
        fs::canonicalize(root).map_err(|source| FilesystemError::io("resolve", root, source))?;
    if !fs::metadata(&real).map_err(|source| FilesystemError::io("stat", root, source))?.is_dir() {
        return Err(FilesystemError::NotADirectory { path: root.to_owned() });
    }
    let mut read = 0;
    let mut levels = vec![open(&real, root.to_owned(), root, &mut read)?];
    let mut entries = Vec::new();
    while let Some(level) = levels.last_mut() {
        let Some(child) = level.rest.pop() else {
            levels.pop();
            continue;
        };
        let path = child.path();
        let Ok(status) = child.metadata() else { continue };
        let shown = level.shown.join(child.file_name());
        let mut entry = entry::describe(&path, &status, names);
        entry.path = shown.to_string_lossy().into_owned();
        entries.push(entry);
        if status.is_dir() && levels.len() < depth {
            match open(&path, shown, root, &mut read) {
                Ok(level) => levels.push(level),
                Err(error @ FilesystemError::TooManyEntries { .. }) => return Err(error),
                Err(_vanished) => {}
            }
        }
    }
    Ok(entries)
}

fn open(
    real: &Path,
    shown: PathBuf,
    root: &Path,
    read: &mut usize,
) -> Result<Level, FilesystemError> {
    let failed = |source| FilesystemError::io("list", real, source);
    let mut rest = Vec::new();
    for child in fs::read_dir(real).map_err(failed)? {
        rest.push(child.map_err(failed)?);
        *read += 1;
        if *read > ENTRIES_MAX {
            return Err(FilesystemError::TooManyEntries { path: root.to_owned() });
        }
    }
    rest.sort_by_key(|child| std::cmp::Reverse(child.file_name()));
    Ok(Level { shown, rest })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use courier_protocol::envd::filesystem::FileType;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b/c")).unwrap();
        for file in ["z", "a/1", "a/b/2", "a/b/c/3"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        symlink("a", folder.path().join("link")).unwrap();
        symlink("nowhere", folder.path().join("broken")).unwrap();
        folder
    }

    #[track_caller]
    fn names(root: &Path, depth: u32) -> Vec<String> {
        list(root, depth, &Names::default())
            .unwrap()
            .iter()
            .map(|entry| {
                Path::new(&entry.path).strip_prefix(root).unwrap().to_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn a_listing_goes_depth_first_in_lexical_order_down_to_its_depth() {
        let tree = tree();
        assert_eq!(names(tree.path(), 0), ["a", "broken", "link", "z"]);
        assert_eq!(names(tree.path(), 1), names(tree.path(), 0));
        assert_eq!(names(tree.path(), 2), ["a", "a/1", "a/b", "broken", "link", "z"]);
        assert_eq!(
            names(tree.path(), u32::MAX),
            ["a", "a/1", "a/b", "a/b/2", "a/b/c", "a/b/c/3", "broken", "link", "z"]
        );
    }

    #[test]
    fn a_link_as_root_is_followed_and_paths_begin_with_the_link() {
        let tree = tree();
        assert_eq!(names(&tree.path().join("link"), 1), ["1", "b"]);
        let entries = list(tree.path(), 1, &Names::default()).unwrap();
        let kinds: Vec<_> = entries.iter().map(EntryInfo::kind).collect();
        let expected =
            [FileType::Directory, FileType::Unspecified, FileType::Directory, FileType::File];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn what_is_no_directory_cannot_be_listed() {
        let tree = tree();
        let file = list(&tree.path().join("z"), 1, &Names::default()).unwrap_err();
        assert!(matches!(file, FilesystemError::NotADirectory { .. }));
        let missing = list(&tree.path().join("no"), 1, &Names::default()).unwrap_err();
        assert!(matches!(missing, FilesystemError::Missing { .. }));
        symlink("loop", tree.path().join("loop")).unwrap();
        let circle = list(&tree.path().join("loop"), 1, &Names::default()).unwrap_err();
        assert!(circle.chain().contains("Too many levels of symbolic links"), "{circle}");
    }

    #[test]
    fn a_listing_beyond_the_bound_is_refused_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for half in ["a", "b"] {
            fs::create_dir(folder.path().join(half)).unwrap();
            for number in 0..=ENTRIES_MAX / 2 {
                fs::File::create(folder.path().join(half).join(number.to_string())).unwrap();
            }
        }
        let error = list(folder.path(), 2, &Names::default()).unwrap_err();
        assert!(matches!(error, FilesystemError::TooManyEntries { .. }));
        assert!(error.to_string().contains("list it with less depth"));
        assert_eq!(list(folder.path(), 1, &Names::default()).unwrap().len(), 2);
    }
}
