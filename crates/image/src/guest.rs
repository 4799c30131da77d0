//! What every image has besides its layers: the guest daemon of the running version, and `sudo`,
//! which is the same program. So a new version of ours needs no new builds.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use courier_archive::{EntryPath, Header, Kind};
use sha2::{Digest as _, Sha256};

use crate::tree::{Conflict, Source, Tree};
use crate::{Digest, HostError};

/// Where the guest daemon is in every image.
const DAEMON: &str = "usr/local/bin/courier-guest";
/// The other name of the guest daemon, which does not need a set-ID bit.
const SUDO: &str = "usr/bin/sudo";
/// Mode of the guest daemon.
const DAEMON_MODE: u32 = 0o755;
/// Folders over which sandboxes mount, and their modes.
const MOUNT_POINTS: [(&str, u32); 4] =
    [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777)];
/// How much of the guest daemon is read at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// Files of ours that are in every image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFiles {
    /// The guest daemon's binary on the host.
    pub daemon: PathBuf,
}

/// The guest daemon's binary as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// Its content.
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// While these stay, so does the content.
    stamp: (u64, u64, i64, i64),
}

impl GuestFiles {
    /// Looks at the guest daemon; hashes it where it is not the one that is known.
    pub(crate) fn look(&self, known: Option<Daemon>) -> Result<Daemon, HostError> {
        let meta = fs::metadata(&self.daemon)
            .map_err(HostError::of("find the guest daemon", &self.daemon))?;
        let stamp = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        let is_same = |daemon: &Daemon| daemon.stamp == stamp && daemon.size == meta.len();
        if let Some(daemon) = known.filter(is_same) {
            return Ok(daemon);
        }
        let refused = |error: std::io::Error| HostError::of("read", &self.daemon)(error);
        let mut file = File::open(&self.daemon).map_err(refused)?;
        let mut hash = Sha256::new();
        let (mut chunk, mut size) = (vec![0; CHUNK_BYTES], 0_u64);
        loop {
            let length = file.read(&mut chunk).map_err(refused)?;
            if length == 0 {
                break;
            }
            hash.update(chunk.get(..length).unwrap_or_default());
            size = size.saturating_add(length as u64);
        }
        Ok(Daemon { digest: hash.into(), size, stamp })
    }
}

/// Puts what is ours into a tree, in place of what is there.
pub(crate) fn place(tree: &mut Tree, daemon: &Daemon) -> Result<(), Conflict> {
    let at = |path: &str| EntryPath::new(path).expect("the path is one of the constants above");
    let mut header = Header::new(at(DAEMON), Kind::File { size: daemon.size });
    header.mode = DAEMON_MODE;
    tree.put(&header, Source::Daemon)?;
    let target = format!("/{DAEMON}").into_bytes();
    tree.put(&Header::new(at(SUDO), Kind::Symlink { target }), Source::Daemon)?;
    for (name, mode) in MOUNT_POINTS {
        tree.ensure_folder(name.as_bytes(), mode)?;
    }
    Ok(())
}
