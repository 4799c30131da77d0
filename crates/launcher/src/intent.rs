//! What is on disk of a sandbox before anything else of it exists: `DIR/sandboxes/ID/intent.json`.
//!
//! So whatever a crash leaves has a directory that names it, and [`sweep`] removes both.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroup::{Cgroup, Parent};

/// What is written down.
#[derive(Debug, Serialize)]
struct Intent<'a> {
    id: &'a str,
    owner: &'a str,
    cgroups: &'a [PathBuf],
}

/// The directories of all sandboxes of a launcher.
#[derive(Debug)]
pub(crate) struct Intents {
    dir: PathBuf,
}

impl Intents {
    /// Below the launcher's directory.
    pub(crate) fn open(launcher_dir: &Path) -> io::Result<Self> {
        let dir = launcher_dir.join("sandboxes");
        make_private_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Writes an intent down, and returns once it would survive a crash of the host.
    pub(crate) fn write(&self, id: &str, owner: &str, cgroup: &Cgroup) -> io::Result<PathBuf> {
        let dir = self.dir.join(id);
        fs::create_dir(&dir)?;
        let mut file = File::create_new(dir.join("intent.json"))?;
        serde_json::to_writer(&file, &Intent { id, owner, cgroups: cgroup.dirs() })?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        File::open(&dir)?.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        Ok(dir)
    }

    /// Removes the directory of a sandbox of which nothing else is left.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.dir.join(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _gone => Ok(()),
        }
    }

    fn ids(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.dir)?;
        Ok(entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect())
    }
}

/// Removes everything that an earlier launcher of this directory left; tells of how many sandboxes.
/// What resists stays for the next start, and keeps this one from nothing. The caller holds the
/// lock, so nobody else's sandboxes are there.
pub(crate) fn sweep(intents: &Intents, parent: &Parent) -> io::Result<usize> {
    let mut ids = intents.ids()?;
    ids.extend(parent.children());
    ids.sort_unstable();
    ids.dedup();
    let mut removed = 0;
    for id in &ids {
        match parent.of(id).remove().and_then(|()| intents.remove(id)) {
            Ok(()) => removed += 1,
            Err(error) => eprintln!("courier-launcher: {id:?} is left over and stays: {error}"),
        }
    }
    Ok(removed)
}

/// Makes a directory that only its owner may look into.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
