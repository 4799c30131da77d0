//! What all keepers of one launcher share.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;

use crate::cgroup::Parent;
use crate::disk::Disks;
use crate::intent::{self, Intents};
use crate::technology::Finder;
use crate::volumes::Volumes;
use crate::wire::Refusal;

/// Free space below which no sandbox is made: neighbours and the host need room to go on.
const MIN_FREE_BYTES: u64 = 512 << 20;
/// Mode of the launcher's directory: its socket is for others, too.
const DIR_MODE: u32 = 0o755;
/// Mode of its lock.
const PRIVATE_MODE: u32 = 0o600;
/// What of a mode lets others change a directory.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The launcher's directory and what the host offers.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where our cgroups stand.
    pub(crate) parent: Parent,
    /// Intents on disk.
    pub(crate) intents: Intents,
    /// Writable disks.
    pub(crate) disks: Disks,
    /// What outlives sandboxes.
    pub(crate) volumes: Volumes,
    /// The technology.
    pub(crate) runsc: Finder,
    turns: AtomicU32,
    dir: PathBuf,
    _lock: OwnedFd,
}

impl Host {
    /// Takes the directory for this process alone and removes what an earlier one left.
    pub(crate) fn open(dir: &Path, runsc: Finder) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
        let dir = dir.canonicalize()?;
        check_ours(&dir)?;
        let lock = lock(&dir)?;
        let host = Self {
            parent: Parent::find(&dir)?,
            intents: Intents::open(&dir)?,
            disks: Disks::open(&dir)?,
            volumes: Volumes::open(&dir)?,
            runsc,
            turns: AtomicU32::new(0),
            dir,
            _lock: lock,
        };
        host.parent.make()?;
        let swept = intent::sweep(&host.intents, &host.parent)?;
        if swept > 0 {
            eprintln!("courier-launcher: removed what was left of {swept} sandboxes");
        }
        Ok(host)
    }

    /// The directory, canonical.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Counts the boxes.
    pub(crate) fn turn(&self) -> u32 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Refuses a sandbox when the disk is nearly full.
    pub(crate) fn check_room(&self) -> Result<(), Refusal> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|error| Refusal::host("look for free space", &error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= MIN_FREE_BYTES {
            return Ok(());
        }
        Err(Refusal::Full {
            // No path: this reaches whoever may create sandboxes, and where they lie is not theirs.
            what: format!(
                "{} MiB free in the data folder, {} MiB are the least",
                free >> 20,
                MIN_FREE_BYTES >> 20
            ),
        })
    }
}

/// Refuses a directory in which another user could exchange what root uses: a formatted disk of
/// another's making would be mounted by the host's kernel.
fn check_ours(dir: &Path) -> io::Result<()> {
    let meta = dir.metadata()?;
    if meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{0} is not root's alone: stop what uses it, remove it and start again, or make it \
             root's if you trust what is in it (chown root {0} && chmod go-w {0})",
            dir.display()
        ),
    ))
}

fn lock(dir: &Path) -> io::Result<OwnedFd> {
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE_MODE)
        .open(dir.join("lock"))?;
    // Whoever can open it can lock it, and so keep a launcher from starting.
    file.set_permissions(std::fs::Permissions::from_mode(PRIVATE_MODE))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another launcher serves {}; stop it or use another --dir", dir.display()),
        )),
        Err(error) => Err(error.into()),
    }
}
