//! The writable disk of a sandbox: a sparse file with an ext4 in it, without a name.
//!
//! Formatting costs 30 ms, so each size is formatted once, under `DIR/disks`, and copied without
//! its holes (1 GiB: 144 KiB). The copy never has a name: it goes with its last user.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, SeekFrom};

/// Most sizes that are kept formatted; the oldest goes first. Clients choose sizes freely.
const MAX_TEMPLATES: usize = 8;
/// No journal (nothing survives a crash of the host), no reserved blocks, few inodes: the Sentry
/// keeps everything in one file.
const MKFS_ARGS: [&str; 8] = [
    "-q",
    "-F",
    "-O",
    "^has_journal,^resize_inode",
    "-E",
    "lazy_itable_init=1,nodiscard",
    "-m0",
    "-N64",
];
/// Where mkfs.ext4 is looked for; the environment is not asked.
const MKFS: [&str; 3] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];

/// Formatted disks by size.
#[derive(Debug)]
pub(crate) struct Disks {
    dir: PathBuf,
    /// One formatting at a time.
    formatting: Mutex<()>,
}

impl Disks {
    /// Below the launcher's directory.
    pub(crate) fn open(launcher_dir: &Path) -> io::Result<Self> {
        let dir = launcher_dir.join("disks");
        crate::intent::make_private_dir(&dir)?;
        Ok(Self { dir, formatting: Mutex::new(()) })
    }

    /// A fresh disk, open and without a name.
    pub(crate) fn make(&self, mib: u32) -> io::Result<OwnedFd> {
        let template = self.template(mib)?;
        let copy = rustix::fs::open(
            &self.dir,
            OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        copy_sparse(&template, &copy)?;
        Ok(copy)
    }

    fn template(&self, mib: u32) -> io::Result<File> {
        let path = self.dir.join(format!("ext4-{mib}"));
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let _one = self.formatting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(file) = File::open(&path) {
            return Ok(file);
        }
        self.forget_oldest()?;
        let new = self.dir.join("new");
        let file = File::create(&new)?;
        file.set_len(u64::from(mib) << 20)?;
        let output = Command::new(mkfs()?)
            .args(MKFS_ARGS)
            .arg(&new)
            .env_clear()
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("mkfs.ext4 failed: {}", why.trim())));
        }
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&path)
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut templates: Vec<_> = fs::read_dir(&self.dir)?
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        templates.sort_unstable();
        let surplus = (templates.len() + 1).saturating_sub(MAX_TEMPLATES);
        templates.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The program that formats.
pub(crate) fn mkfs() -> io::Result<&'static str> {
    let found = MKFS.into_iter().find(|path| Path::new(path).exists());
    found.ok_or_else(|| io::Error::other("mkfs.ext4 is not installed: install e2fsprogs"))
}

/// Copies what is not a hole.
fn copy_sparse(from: &File, to: &OwnedFd) -> io::Result<()> {
    let size = from.metadata()?.len();
    rustix::fs::ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start..end)?;
        at = end;
    }
    Ok(())
}

fn copy_range(from: &File, to: &OwnedFd, range: std::ops::Range<u64>) -> io::Result<()> {
    let (mut read_at, mut write_at) = (range.start, range.start);
    while read_at < range.end {
        let left = usize::try_from(range.end - read_at).unwrap_or(usize::MAX);
        let copied = rustix::fs::copy_file_range(
            from.as_fd(),
            Some(&mut read_at),
            to.as_fd(),
            Some(&mut write_at),
            left,
        )?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_disk_is_sparse_nameless_and_as_large_as_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path()).unwrap();
        let disk = File::from(disks.make(256).unwrap());
        let meta = disk.metadata().unwrap();
        assert_eq!((meta.len(), meta.nlink()), (256 << 20, 0));
        assert!(meta.blocks() * 512 < 4 << 20, "{} blocks", meta.blocks());
    }

    #[test]
    fn only_a_bounded_number_of_sizes_stays_formatted() {
        let dir = tempfile::tempdir().unwrap();
        let disks = Disks::open(dir.path()).unwrap();
        for mib in 16..(16 + u32::try_from(MAX_TEMPLATES).unwrap() + 3) {
            disks.make(mib).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("disks")).unwrap().count(), MAX_TEMPLATES);
    }
}
