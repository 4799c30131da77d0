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

/// What was remembered. A file that says something else is as good as none: a pull replaces it.
pub(super) fn recall(names: &Path, diff_id: &BlobDigest) -> io::Result<Option<Digest>> {
    let mut text = String::new();
    match File::open(names.join(diff_id.hex())) {
        Ok(file) => {
            file.take(NAME_BYTES_MAX).read_to_string(&mut text)?;
            Ok(text.trim_end().parse().ok())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Remembers that the tar of that digest became that layer.
pub(super) fn remember(names: &Path, diff_id: &BlobDigest, digest: &Digest) -> io::Result<()> {
    make_room(names)?;
    let mut file = NamedTempFile::new_in(names)?;
    writeln!(file, "{digest}")?;
    // Without a sync a crash may leave an empty file, which is as good as none.
    file.persist(names.join(diff_id.hex())).map_err(|error| error.error)?;
    Ok(())
}

/// Forgets the older half of too many.
fn make_room(names: &Path) -> io::Result<()> {
    let paths: Vec<PathBuf> = fs::read_dir(names)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
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
pub(super) fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_recalled_until_there_are_too_many_and_garbage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let names = folder.path();
        let (diff_id, digest) = (BlobDigest::of(b"1"), Digest::of(b"2"));
        assert_eq!(recall(names, &diff_id).unwrap(), None);
        remember(names, &diff_id, &digest).unwrap();
        assert_eq!(recall(names, &diff_id).unwrap(), Some(digest));
        fs::write(names.join(diff_id.hex()), "").unwrap();
        assert_eq!(recall(names, &diff_id).unwrap(), None);
        for number in 0..NAMES_MAX {
            fs::write(names.join(number.to_string()), "").unwrap();
        }
        remember(names, &diff_id, &digest).unwrap();
        assert!(fs::read_dir(names).unwrap().count() <= NAMES_MAX / 2 + 2);
        assert_eq!(recall(names, &diff_id).unwrap(), Some(digest));
    }
}
