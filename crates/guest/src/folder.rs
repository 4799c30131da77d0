//! Opening a folder below another one without being led elsewhere.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Opens whatever has a name, without waiting for it or following it. `O_DIRECTORY` is not among them:
/// with it, gVisor follows a link in spite of `O_NOFOLLOW`.
const ITSELF: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a folder in a folder; a link is none.
///
/// # Errors
/// The kernel's: [`Errno::LOOP`] for a link, [`Errno::NOTDIR`] for another file.
pub(crate) fn open_folder(parent: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let fd = rustix::fs::openat(parent, name, ITSELF, Mode::empty())?;
    let is_folder = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
    if is_folder { Ok(fd) } else { Err(Errno::NOTDIR) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_folder_and_a_file_are_none() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("folder", root.path().join("link")).unwrap();
        let parent = std::fs::File::open(root.path()).unwrap();
        assert!(open_folder(&parent, c"folder").is_ok());
        assert_eq!(open_folder(&parent, c"link").unwrap_err(), Errno::LOOP);
        assert_eq!(open_folder(&parent, c"file").unwrap_err(), Errno::NOTDIR);
    }
}
