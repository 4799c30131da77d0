//! The data folder: who uses it, and what a running server leaves there for other commands.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, OFlags};
use serde::{Deserialize, Serialize};

/// Mode of the data folder: the launcher, which has no right to pass over modes, must get through;
/// what is secret inside has a mode of its own.
const FOLDER_MODE: u32 = 0o755;
/// Mode of what is secret or nobody's business.
const PRIVATE_MODE: u32 = 0o600;
/// Bits of a mode that let others than the owner in.
const OTHERS: u32 = 0o077;
/// Bytes of the seed of the sandboxes' CAs: as many as `courier_egress::HostSide` takes.
const CA_SEED_BYTES: usize = 32;
/// Mode of what is for everybody.
const PUBLIC_MODE: u32 = 0o644;
/// Nothing that this module reads is longer.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Files right in the data folder that the server writes.
pub(crate) const SERVER_FILES: [&str; 8] =
    [LOCK, INFO, KEY, VAULT_KEY, CA_SEED, DATABASE, "courier.db-wal", "courier.db-shm"];
/// Folders right in the data folder in which nobody but the server writes.
pub(crate) const SERVER_FOLDERS: [&str; 2] = [UPLOADS, IMAGES];
/// Folder of the private CAs, one folder in it per domain.
pub(crate) const CA: &str = "ca";
/// Files of a private CA.
pub(crate) const CA_FILES: [&str; 2] = ["ca.key", "ca.pem"];
const LOCK: &str = "server.lock";
const INFO: &str = "server.json";
const KEY: &str = "api-key";
const VAULT_KEY: &str = "vault.key";
const CA_SEED: &str = "egress-ca.seed";
const DATABASE: &str = "courier.db";
const UPLOADS: &str = "uploads";
const IMAGES: &str = "images";

/// What a running server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerInfo {
    /// Where its API and data plane answer.
    pub(crate) url: String,
    /// Its process.
    pub(crate) pid: u32,
}

/// The paths below a data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder at a path, there or not.
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the folder, where it is not there.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.0).with_context(
            || {
                format!(
                    "the data folder {} cannot be made or reached: let this user pass through \
                     every folder above it, or name another with --data DIR",
                    self.0.display()
                )
            },
        )
    }

    /// The server's database.
    pub(crate) fn database(&self) -> PathBuf {
        self.0.join(DATABASE)
    }

    /// The folder of a domain's private CA; it is made where it is not there.
    pub(crate) fn ca(&self, domain: &str) -> anyhow::Result<PathBuf> {
        let all = self.0.join(CA);
        let own = all.join(domain);
        for folder in [&all, &own] {
            make_public_folder(folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        Ok(own)
    }

    /// The folder of the archives that clients upload for builds.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.0.join(UPLOADS)
    }

    /// The folder of what the server's builds are made of.
    pub(crate) fn images(&self) -> PathBuf {
        self.0.join(IMAGES)
    }

    /// The API key made at the first start.
    pub(crate) fn api_key(&self) -> PathBuf {
        self.0.join(KEY)
    }

    /// The key of what the database keeps encrypted.
    pub(crate) fn vault_key(&self) -> PathBuf {
        self.0.join(VAULT_KEY)
    }

    /// What the CAs of all sandboxes are derived from: random, and made where it is not there. The
    /// caller holds the folder's lock.
    ///
    /// # Errors
    /// The file cannot be read or made, others may read it, or it was not written by us.
    pub(crate) fn ca_seed(&self) -> anyhow::Result<[u8; CA_SEED_BYTES]> {
        let path = self.0.join(CA_SEED);
        let read = read_seed(&path);
        let read = read.with_context(|| format!("the seed {} cannot be used", path.display()))?;
        if let Some(seed) = read {
            return Ok(seed);
        }
        let seed = crate::random::bytes()?;
        write_private(&path, &seed)?;
        Ok(seed)
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join(LOCK)
    }

    fn server_info(&self) -> PathBuf {
        self.0.join(INFO)
    }

    /// Reads the API key; `None` when there is none for us.
    pub(crate) fn read_api_key(&self) -> anyhow::Result<Option<String>> {
        let path = self.api_key();
        let text = match read_small(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
            read => {
                read.with_context(|| format!("the API key in {} cannot be read", path.display()))?
            }
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// The server that runs for this folder now, if one does: it holds the lock.
    pub(crate) fn running_server(&self) -> anyhow::Result<Option<ServerInfo>> {
        let path = self.server_info();
        let Some(text) = read_small(&path).with_context(|| {
            format!("what the server says in {} cannot be read", path.display())
        })?
        else {
            return Ok(None);
        };
        // Only a server that was killed leaves the file, so a starting one does not meet this lock.
        match open_plain(OpenOptions::new().read(true), &self.lock_file()) {
            Ok(lock) => {
                if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
                    return Ok(None);
                }
            }
            // Another user's: whoever asks it will see whether it answers.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(_no_lock) => return Ok(None),
        }
        let info = serde_json::from_str(&text)
            .with_context(|| format!("{} was not written by a server", path.display()))?;
        Ok(Some(info))
    }

    /// Takes the folder for a server.
    ///
    /// # Errors
    /// Another server has it, or the folder cannot be written.
    pub(crate) fn lock(&self) -> anyhow::Result<ServerLock> {
        self.create()?;
        let path = self.lock_file();
        let mut file = open_or_create(&path).with_context(|| {
            format!(
                "{} cannot be opened: run as the owner of the data folder, let this user pass \
                     through every folder above it, or name another with --data DIR",
                path.display()
            )
        })?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.take(32).read_to_string(&mut pid)?;
            bail!(
                "the data folder {} is in use by another server (process {}): stop that one with \
                 `kill {}`, or name another folder with --data DIR",
                self.0.display(),
                pid.trim(),
                pid.trim()
            );
        }
        // Whoever can open it can lock it, and so keep a server from starting.
        file.set_permissions(std::fs::Permissions::from_mode(PRIVATE_MODE))?;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(ServerLock { file, info: self.server_info() })
    }
}

/// Opens a file that may be another user's. In a sticky folder the kernel refuses to open such a
/// file with the flag to create it (`fs.protected_regular`), even to root; hence two steps.
fn open_or_create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(PRIVATE_MODE);
    match open_plain(&mut options, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            options.create_new(true).open(path)
        }
        opened => opened,
    }
}

/// Opens a file of the data folder, where root meets what an unprivileged server left: only a plain
/// file with one name. A link would lead root to a file that is somebody else's, a pipe would hold
/// it up.
fn open_plain(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 {
        return Ok(file);
    }
    Err(std::io::Error::other("it is no plain file with one name; remove it"))
}

/// Holds a data folder for one server; lets go when dropped.
#[derive(Debug)]
pub(crate) struct ServerLock {
    file: File,
    info: PathBuf,
}

impl ServerLock {
    /// Tells other commands where the server answers, until the lock is dropped.
    pub(crate) fn announce(&self, info: &ServerInfo) -> anyhow::Result<()> {
        write_public(&self.info, &serde_json::to_vec(info)?)
    }
}

impl ServerLock {
    fn release(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.info) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _gone => {}
        }
        // Closing it is not enough while a program that is just being started has a copy.
        Ok(rustix::fs::flock(&self.file, FlockOperation::Unlock)?)
    }
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::warn!(%error, path = %self.info.display(), "the data folder stays taken");
        }
    }
}

/// Writes a file that everybody may read; it is there whole or not at all.
pub(crate) fn write_public(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_atomically(path, content, PUBLIC_MODE)
}

/// Makes a folder that everybody may look into, whatever the umask. One that is there stays as it
/// is, as does the one above.
fn make_public_folder(path: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(FOLDER_MODE)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a file that only its owner may read; it is there whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_atomically(path, content, PRIVATE_MODE)
}

fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // Whatever has the draft's name is not written through: it may be a link.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _gone => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        // Whatever the umask.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Reads a seed; `None` when it is not there.
fn read_seed(path: &Path) -> anyhow::Result<Option<[u8; CA_SEED_BYTES]>> {
    let mut file = match open_plain(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.mode() & OTHERS != 0 {
        bail!("others than its owner may read it: set its mode to 600, or remove it");
    }
    let mut seed = [0; CA_SEED_BYTES];
    let whole = file.read_exact(&mut seed).is_ok() && file.read(&mut [0])? == 0;
    anyhow::ensure!(
        whole,
        "it has not {CA_SEED_BYTES} bytes: remove it, and sandboxes that run now will not trust \
         their new CA"
    );
    Ok(Some(seed))
}

/// Reads a small text file; `None` when it is not there.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Option<String>> {
    let file = match open_plain(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_the_error_names_the_process_and_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let _held = folder.lock().unwrap();
        let error = folder.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("--data"), "{error}");
    }

    #[test]
    fn a_server_is_found_only_while_it_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(folder.running_server().unwrap(), None);
        let lock = folder.lock().unwrap();
        let info = ServerInfo { url: "http://127.0.0.1:3000".into(), pid: 7 };
        lock.announce(&info).unwrap();
        assert_eq!(folder.running_server().unwrap(), Some(info.clone()));
        // A server that was killed leaves its file, but not its lock.
        std::fs::copy(dir.path().join("server.json"), dir.path().join("copy")).unwrap();
        drop(lock);
        std::fs::rename(dir.path().join("copy"), dir.path().join("server.json")).unwrap();
        assert_eq!(folder.running_server().unwrap(), None);
    }

    #[test]
    fn a_link_or_pipe_in_the_place_of_a_file_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("theirs");
        std::fs::write(&theirs, "untouched").unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let folder = Folder::new(&data);
        for name in [LOCK, KEY, "api-key.new"] {
            std::os::unix::fs::symlink(&theirs, data.join(name)).unwrap();
        }
        assert!(folder.lock().is_err());
        assert!(folder.read_api_key().is_err());
        write_private(&folder.api_key(), b"e2b_00").unwrap();
        std::fs::remove_file(data.join(LOCK)).unwrap();
        std::fs::hard_link(&theirs, data.join(LOCK)).unwrap();
        assert!(folder.lock().is_err());
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "untouched");
        let pipe = data.join(INFO);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(folder.running_server().is_err());
    }

    #[test]
    fn the_seed_of_the_cas_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let seed = folder.ca_seed().unwrap();
        assert_ne!(seed, [0; CA_SEED_BYTES]);
        assert_eq!(folder.ca_seed().unwrap(), seed);
        let path = dir.path().join(CA_SEED);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", folder.ca_seed().unwrap_err()).contains("mode to 600"));
        for length in [0, CA_SEED_BYTES - 1, CA_SEED_BYTES + 1] {
            write_private(&path, &vec![7; length]).unwrap();
            let error = format!("{:#}", folder.ca_seed().unwrap_err());
            assert!(error.contains("32 bytes") && error.contains(CA_SEED), "{error}");
        }
    }

    #[test]
    fn a_private_file_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-key");
        write_private(&path, b"e2b_00").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Folder::new(dir.path()).read_api_key().unwrap().unwrap(), "e2b_00");
    }
}
