//! How a layer that is there already is known by its registry's name for it: one small file for each
//! name, in a folder of their own.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::digest::BlobDigest;
use crate::Digest;

/// Most names that are kept: some hundred images. Each is a file of one block.
const NAMES_MAX: usize = 4_096;
/// Longest content of one.
const NAME_BYTES_MAX: u64 = 128;

/// The names of one scope, in a folder of all.
#[derive(Debug, Clone)]
pub(super) struct Names {
    folder: PathBuf,
    scope: String,
}

impl Names {
    pub(super) fn new(folder: PathBuf, scope: &str) -> Self {
        Self { folder, scope: scope.to_owned() }
    }

    /// The layer that the tar of that digest became. A file that says something else is as good as
    /// none: a pull replaces it.
    pub(super) fn recall(&self, diff_id: &BlobDigest) -> io::Result<Option<Digest>> {
        let mut text = String::new();
        match File::open(self.file(diff_id)) {
            Ok(file) => {
                file.take(NAME_BYTES_MAX).read_to_string(&mut text)?;
                Ok(text.trim_end().parse().ok())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers that the tar of that digest became that layer.
    pub(super) fn remember(&self, diff_id: &BlobDigest, digest: &Digest) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        make_room(&self.folder)?;
        let mut file = NamedTempFile::new_in(&self.folder)?;
        writeln!(file, "{digest}")?;
        // Without a sync a crash may leave an empty file, which is as good as none.
        file.persist(self.file(diff_id)).map_err(|error| error.error)?;
        Ok(())
    }

    pub(super) fn forget(&self, diff_id: &BlobDigest) -> io::Result<()> {
        forget(&self.file(diff_id))
    }

    fn file(&self, diff_id: &BlobDigest) -> PathBuf {
        let name = format!("{}\0{diff_id}", self.scope);
        self.folder.join(Digest::of(name.as_bytes()).hex())
    }
}

/// Forgets the older half of too many.
fn make_room(folder: &Path) -> io::Result<()> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    if paths.len() < NAMES_MAX {
        return Ok(());
    }
    let age = |path: PathBuf| {
        let changed = fs::metadata(&path).and_then(|metadata| metadata.modified());
        (changed.unwrap_or(SystemTime::UNIX_EPOCH), path)
    };
    let mut paths: Vec<(SystemTime, PathBuf)> = paths.into_iter().map(age).collect();
    paths.sort();
    paths.iter().take(NAMES_MAX / 2).try_for_each(|(_changed, path)| forget(path))
}

/// Another pull may have been quicker.
fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_recalled_in_its_scope_until_there_are_too_many_and_garbage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("names");
        let names = Names::new(folder.clone(), "one");
        let (diff_id, digest) = (BlobDigest::of(b"1"), Digest::of(b"2"));
        assert_eq!(names.recall(&diff_id).unwrap(), None);
        names.remember(&diff_id, &digest).unwrap();
        assert_eq!(names.recall(&diff_id).unwrap(), Some(digest));
        assert_eq!(Names::new(folder.clone(), "two").recall(&diff_id).unwrap(), None);
        fs::write(names.file(&diff_id), "").unwrap();
        assert_eq!(names.recall(&diff_id).unwrap(), None);
        for number in 0..NAMES_MAX {
            fs::write(folder.join(number.to_string()), "").unwrap();
        }
        names.remember(&diff_id, &digest).unwrap();
        assert!(fs::read_dir(&folder).unwrap().count() <= NAMES_MAX / 2 + 2);
        assert_eq!(names.recall(&diff_id).unwrap(), Some(digest));
        names.forget(&diff_id).unwrap();
        names.forget(&diff_id).unwrap();
        assert_eq!(names.recall(&diff_id).unwrap(), None);
    }
}
