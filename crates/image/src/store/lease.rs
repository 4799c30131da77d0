//! What may not go while a build is under way, told to other processes by locked files.
//!
//! A lease's file lists what was used while the lease lived. Whoever collects garbage reads the files
//! that are locked, and removes those whose lock is free: their process is gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FlockOperation;

use super::Store;
use crate::{Digest, HostError, host};

/// How a layer stands in a lease's file.
pub(super) fn layer(digest: &Digest) -> String {
    format!("layer {}", digest.hex())
}

/// How an image stands in a lease's file.
pub(super) fn image(key: &Digest) -> String {
    format!("image {}", key.hex())
}

/// Keeps what its store is asked for, gives or is given while it lives.
#[derive(Debug)]
#[must_use = "what is used is kept only while the lease lives"]
pub struct Lease {
    pub(super) store: Store,
    pub(super) number: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.0.leases.end(self.number);
    }
}

/// The leases of one store in this process.
#[derive(Debug)]
pub(super) struct Leases {
    folder: PathBuf,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    files: BTreeMap<u64, Pins>,
}

#[derive(Debug)]
struct Pins {
    file: tempfile::NamedTempFile,
    names: HashSet<String>,
}

impl Leases {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, live: Mutex::default() }
    }

    /// Begins a lease. The caller has passed the gate, so nobody looks at the file before it is
    /// locked.
    pub(super) fn begin(&self) -> Result<u64, HostError> {
        let file = host::temporary(&self.folder)?;
        host::try_lock(file.as_file(), file.path(), FlockOperation::NonBlockingLockExclusive)?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let number = live.next;
        live.next = live.next.wrapping_add(1);
        live.files.insert(number, Pins { file, names: HashSet::new() });
        Ok(number)
    }

    /// Ends a lease; its file goes with it.
    fn end(&self, number: u64) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).files.remove(&number);
    }

    /// Keeps something for as long as the leases of now live. The caller has passed the gate.
    pub(super) fn pin(&self, name: &str) -> Result<(), HostError> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for pins in live.files.values_mut().filter(|pins| !pins.names.contains(name)) {
            let path = pins.file.path().to_owned();
            writeln!(pins.file, "{name}").map_err(HostError::of("write", &path))?;
            pins.names.insert(name.to_owned());
        }
        Ok(())
    }
}

/// Everything that leases of any process keep. The caller is alone at the gate.
pub(super) fn pinned(folder: &Path) -> Result<BTreeSet<String>, HostError> {
    let mut pinned = BTreeSet::new();
    for name in host::list(folder)? {
        let path = folder.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Its lease ended between the look and this.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(HostError::of("read", &path)(error)),
        };
        if host::try_lock(&file, &path, FlockOperation::NonBlockingLockExclusive)? {
            host::remove(&path)?;
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(names) => pinned.extend(names.lines().map(str::to_owned)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(HostError::of("read", &path)(error)),
        }
    }
    Ok(pinned)
}
