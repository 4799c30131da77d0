//! One entry of the file system as the wire shows it.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use courier_protocol::envd::filesystem::{EntryInfo, FileType, Timestamp};

use crate::files::metadata;
use crate::user::Names;

/// The bits of a mode that are permissions.
const PERMISSION_BITS: u32 = 0o777;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// Looks at the entry at an absolute path; a link is shown as itself, with the type and mode of
/// what it leads to.
///
/// # Errors
/// The kernel's, when there is no such entry or no way to it.
pub(crate) fn look_at(path: &Path, names: &Names) -> io::Result<EntryInfo> {
    Ok(describe(path, &fs::symlink_metadata(path)?, names))
}

/// The entry at `path` whose own (not its target's) status is already known.
pub(crate) fn describe(path: &Path, status: &Metadata, names: &Names) -> EntryInfo {
    let text = path.to_string_lossy().into_owned();
    let is_symlink = status.is_symlink();
    let (kind, mode, symlink_target) = if is_symlink {
        let target = fs::canonicalize(path);
        let target_status = target.as_ref().ok().and_then(|target| fs::metadata(target).ok());
        let shown = target.map_or_else(|_| text.clone(), |path| path.to_string_lossy().into());
        match target_status {
            Some(status) => (kind_of(&status), status.mode(), Some(shown)),
            None => (FileType::Unspecified, 0, Some(shown)),
        }
    } else {
        (kind_of(status), status.mode(), None)
    };
    EntryInfo {
        name: path.file_name().unwrap_or(OsStr::new("/")).to_string_lossy().into_owned(),
        kind: kind.into(),
        path: text,
        size: i64::try_from(status.size()).unwrap_or(i64::MAX),
        mode: mode & PERMISSION_BITS,
        permissions: permissions(status),
        owner: names.user(status.uid()),
        group: names.group(status.gid()),
        modified_time: Some(Timestamp {
            seconds: status.mtime(),
            nanos: i32::try_from(status.mtime_nsec()).unwrap_or(0),
        }),
        symlink_target,
        metadata: if is_symlink { metadata::Metadata::new() } else { metadata::read(path) },
        is_symlink,
    }
}

fn kind_of(status: &Metadata) -> FileType {
    if status.is_file() {
        FileType::File
    } else if status.is_dir() {
        FileType::Directory
    } else if status.is_symlink() {
        FileType::Symlink
    } else {
        FileType::Unspecified
    }
}

/// Permissions in words as Go's `FileMode` writes them: letters of what is special, in a fixed
/// order, or one dash; then nine of `rwx`.
fn permissions(status: &Metadata) -> String {
    let kind = status.file_type();
    let mode = status.mode();
    let special = [
        (kind.is_dir(), 'd'),
        (kind.is_symlink(), 'L'),
        (kind.is_block_device() || kind.is_char_device(), 'D'),
        (kind.is_fifo(), 'p'),
        (kind.is_socket(), 'S'),
        (mode & SETUID != 0, 'u'),
        (mode & SETGID != 0, 'g'),
        (kind.is_char_device(), 'c'),
        (mode & STICKY != 0, 't'),
    ];
    let mut words: String =
        special.iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect();
    if words.is_empty() {
        words.push('-');
    }
    for (place, letter) in "rwxrwxrwx".chars().enumerate() {
        words.push(if mode & (0o400 >> place) == 0 { '-' } else { letter });
    }
    words
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn at(path: &Path) -> EntryInfo {
        look_at(path, &Names::default()).unwrap()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_shows_size_mode_owner_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "hello").unwrap();
        chmod(&path, 0o644);
        let entry = at(&path);
        assert_eq!((entry.name.as_str(), entry.size, entry.mode), ("f", 5, 0o644));
        assert_eq!(entry.permissions, "-rw-r--r--");
        assert_eq!(entry.kind(), FileType::File);
        assert_eq!(entry.path, path.to_str().unwrap());
        let owner = fs::metadata(&path).unwrap().uid().to_string();
        assert_eq!(entry.owner, owner);
        assert!(entry.modified_time.unwrap().seconds > 1_600_000_000);
        assert!(!entry.is_symlink && entry.symlink_target.is_none());
    }

    #[test]
    fn special_bits_and_kinds_are_written_as_go_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o1777);
        assert_eq!(at(folder.path()).permissions, "dtrwxrwxrwx");
        assert_eq!(at(folder.path()).mode, 0o777);
        let file = folder.path().join("f");
        fs::write(&file, "").unwrap();
        chmod(&file, 0o4755);
        assert_eq!(at(&file).permissions, "urwxr-xr-x");
        assert_eq!(at(Path::new("/dev/null")).permissions, "Dcrw-rw-rw-");
        assert_eq!(at(Path::new("/dev/null")).kind(), FileType::Unspecified);
        assert_eq!(at(Path::new("/")).name, "/");
    }

    #[test]
    fn a_link_has_the_type_and_mode_of_its_target_and_a_size_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(real.join("dir")).unwrap();
        chmod(&real.join("dir"), 0o750);
        symlink("dir", real.join("one")).unwrap();
        symlink("one", real.join("two")).unwrap();
        let entry = at(&real.join("two"));
        assert_eq!(entry.kind(), FileType::Directory);
        assert_eq!((entry.mode, entry.size), (0o750, 3));
        assert_eq!(entry.permissions, "Lrwxrwxrwx");
        assert_eq!(entry.symlink_target.as_deref(), real.join("dir").to_str());
        assert!(entry.is_symlink);
    }

    #[test]
    fn a_link_that_leads_nowhere_or_in_a_circle_is_unspecified_and_its_own_target() {
        let folder = tempfile::tempdir().unwrap();
        for (name, target) in [("broken", "missing"), ("circle", "circle")] {
            let path = folder.path().join(name);
            symlink(target, &path).unwrap();
            let entry = at(&path);
            assert_eq!(entry.kind(), FileType::Unspecified);
            assert_eq!(entry.symlink_target.as_deref(), path.to_str());
            assert!(entry.is_symlink);
        }
    }
}
