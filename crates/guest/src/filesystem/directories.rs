//! Making directories for a user.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::user::User;

use super::error::FilesystemError;
use super::watches::Watches;

/// Mode of each new directory.
const MODE: u32 = 0o755;

/// Makes a directory and its missing parents, each the user's, and each watched at once by the
/// watches above it. It is fine when the directory is there already.
///
/// # Errors
/// [`FilesystemError`]; some parents may have been made then.
pub(crate) fn ensure(path: &Path, user: &User, watches: &Watches) -> Result<(), FilesystemError> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        match fs::metadata(ancestor) {
            Ok(status) if status.is_dir() => break,
            Ok(_other) => {
                return Err(FilesystemError::NotADirectoryInTheWay { path: ancestor.to_owned() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
            // A file stands further up; that ancestor's turn tells which.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(source) => return Err(FilesystemError::io("make directory", ancestor, source)),
        }
    }
    missing.into_iter().rev().try_for_each(|path| make(path, user, watches))
}

fn make(path: &Path, user: &User, watches: &Watches) -> Result<(), FilesystemError> {
    let failed =
        |source| FilesystemError::Io { action: "make directory", path: path.to_owned(), source };
    match fs::DirBuilder::new().mode(MODE).create(path) {
        Ok(()) => {}
        // Somebody else was faster, or a link that leads nowhere is in the way.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return match fs::metadata(path) {
                Ok(status) if status.is_dir() => Ok(()),
                _ => Err(FilesystemError::NotADirectoryInTheWay { path: path.to_owned() }),
            };
        }
        Err(error) => return Err(failed(error)),
    }
    // A watch that cannot take the directory in now will be told of it by the kernel, and tells its
    // reader if that fails as well: making directories does not depend on who watches.
    let _told_by_the_watch = watches.directory_made(path);
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).map_err(failed)
}
