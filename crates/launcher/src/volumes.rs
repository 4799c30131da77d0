//! Volumes: an ext4 image file each, `DIR/volumes/UID-OWNER/ID`, that outlives sandboxes.
//!
//! ```text
//!  no image ──make──▶ image ──attach──▶ image + loop device ─┬─▶ a mount in each box that has it
//!      ◀────delete────      ◀──────────────────────────────────┘ the last box that goes frees all
//! ```
//!
//! Only one loop device may ever be on an image: two mean two file systems that destroy each other.
//! So the lock (flock) of the image belongs to the very open file that the loop device holds. The
//! kernel lets go of it when the device lets go of the file, whoever was killed meanwhile.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};

use crate::checked::Name;
use crate::disk;
use crate::loop_device::{self, LoopDevice};
use crate::registry::Owner;
use crate::wire::{LIST_PAGE, Refusal};

/// Most volumes of one owner: each takes 2 MiB at least, and a client in a loop must come to an end.
const MAX_VOLUMES: usize = 4_096;
/// How long the kernel may take to let go of an image after its last box: the unmount writes what
/// is not on the disk yet.
const RELEASE_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOOK_PAUSE: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Where the ids of guests begin on the host: guest root is this user, and every file of a volume
/// belongs to one of the [`GUEST_IDS`] from here. Above what systemd hands out to containers.
pub(crate) const FIRST_ID: u32 = 0x7000_0000;
/// How many users and groups a volume knows.
pub(crate) const GUEST_IDS: u32 = 65_536;
/// The user whose the root folder of a new volume is: the default user of templates.
const DEFAULT_USER: u32 = 1_000;
/// A journal, unlike a sandbox's disk: a volume survives a crash of the host. No reserved blocks: root
/// inside is a user like others. The tables are zero in a new file and need not be written.
const MKFS_ARGS: [&str; 6] = ["-q", "-F", "-m0", "-t", "ext4", "-E"];

/// The volumes of a launcher.
#[derive(Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    /// Attached ones, by image. Also taken for making and deleting: one step at a time.
    attached: Mutex<HashMap<PathBuf, Weak<Attached>>>,
}

/// A volume that some sandboxes have; the loop device goes with the last of them and of its mounts.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The device.
    pub(crate) device: LoopDevice,
}

impl Volumes {
    /// Below the launcher's directory.
    pub(crate) fn open(launcher_dir: &Path) -> io::Result<Self> {
        let dir = launcher_dir.join("volumes");
        crate::intent::make_private_dir(&dir)?;
        Ok(Self { dir, attached: Mutex::default() })
    }

    /// Makes an empty one; returns once it would survive a crash of the host. One that is there
    /// already stays as it is.
    pub(crate) fn make(&self, owner: &Owner, id: &Name, size_mib: u32) -> Result<(), Refusal> {
        let _one = self.lock();
        let failed = |error: io::Error| Refusal::host("make the volume", &error);
        let dir = self.dir_of(owner);
        let path = dir.join(id.as_str());
        if path.exists() {
            return Ok(());
        }
        crate::intent::make_private_dir(&dir).map_err(failed)?;
        let count = fs::read_dir(&dir).map_err(failed)?.count();
        if count >= MAX_VOLUMES {
            return Err(Refusal::Full {
                what: format!("{count} volumes are there, {MAX_VOLUMES} are the most"),
            });
        }
        // It has no name before it is whole.
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let image = rustix::fs::open(&dir, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        let image = File::from(image);
        image.set_len(u64::from(size_mib) << 20).map_err(failed)?;
        format(&image).map_err(failed)?;
        image.sync_all().map_err(failed)?;
        name(&image, &path).map_err(failed)?;
        // The folder of a first volume is new itself.
        [&dir, &self.dir]
            .into_iter()
            .try_for_each(|dir| File::open(dir)?.sync_all())
            .map_err(failed)
    }

    /// Deletes one with all that is in it; `false` when there is none. Refused while a sandbox has it.
    pub(crate) fn delete(&self, owner: &Owner, id: &Name) -> Result<bool, Refusal> {
        let mut attached = self.lock();
        let failed = |error: io::Error| Refusal::host("delete the volume", &error);
        let dir = self.dir_of(owner);
        let path = dir.join(id.as_str());
        if attached.get(&path).is_some_and(|volume| volume.strong_count() > 0) {
            return Err(Refusal::InUse { what: format!("a sandbox has volume {id}") });
        }
        attached.remove(&path);
        let image = match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(failed)?,
        };
        if !is_free(&image, RELEASE_PATIENCE).map_err(failed)? {
            return Err(Refusal::InUse { what: format!("volume {id} is still being let go of") });
        }
        fs::remove_file(&path).map_err(failed)?;
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(true)
    }

    /// A page of the ids of an owner's volumes, in order, and whether there are more.
    pub(crate) fn list(
        &self,
        owner: &Owner,
        after: Option<&Name>,
    ) -> Result<(Vec<String>, bool), Refusal> {
        let failed = |error: io::Error| Refusal::host("list the volumes", &error);
        let entries = match fs::read_dir(self.dir_of(owner)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Vec::new(), false));
            }
            other => other.map_err(failed)?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|id| after.is_none_or(|after| id.as_str() > after.as_str()))
            .collect();
        ids.sort_unstable();
        let more = ids.len() > LIST_PAGE;
        ids.truncate(LIST_PAGE);
        Ok((ids, more))
    }

    /// Attaches one, or finds that it is attached. It stays so as long as what this returns, and the
    /// mounts of the device.
    pub(crate) fn attach(&self, owner: &Owner, id: &Name) -> Result<Arc<Attached>, Refusal> {
        let mut attached = self.lock();
        let path = self.dir_of(owner).join(id.as_str());
        attached.retain(|_, volume| volume.strong_count() > 0);
        if let Some(volume) = attached.get(&path).and_then(Weak::upgrade) {
            return Ok(volume);
        }
        let failed = |error: io::Error| Refusal::host("attach the volume", &error);
        let image = match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Refusal::NoVolume { id: id.to_string() });
            }
            other => other.map_err(failed)?,
        };
        if !is_free(&image, RELEASE_PATIENCE).map_err(failed)? {
            return Err(Refusal::InUse { what: format!("volume {id} is still being let go of") });
        }
        let device = loop_device::attach(image).map_err(failed)?;
        let volume = Arc::new(Attached { device });
        attached.insert(path, Arc::downgrade(&volume));
        Ok(volume)
    }

    fn dir_of(&self, owner: &Owner) -> PathBuf {
        // Both are safe as names, and the dash is in neither.
        self.dir.join(format!("{}-{}", owner.uid, owner.name))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Weak<Attached>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens an image, and nothing else that has its name.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Takes the lock of an image, and keeps it with this open file; false when another loop device
/// still has it.
fn is_free(image: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        match rustix::fs::flock(image, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                // The kernel tells nobody when a loop device is gone.
                match rustix::event::poll(&mut [], Some(&LOOK_PAUSE)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Puts an empty file system into an image.
fn format(image: &File) -> io::Result<()> {
    let owner = FIRST_ID + DEFAULT_USER;
    let output = Command::new(disk::mkfs()?)
        .args(MKFS_ARGS)
        .arg(format!("lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={owner}:{owner}"))
        .arg("/proc/self/fd/0")
        .env_clear()
        .stdin(image.try_clone()?)
        .stdout(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("mkfs.ext4 failed: {}", why.trim())))
}

/// Gives a file without a name its name.
fn name(image: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let unnamed = format!("/proc/self/fd/{}", image.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner { uid: 7, name: Name::parse(name).unwrap() }
    }

    #[test]
    fn a_volume_is_sparse_private_and_there_until_it_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let (mine, id) = (owner("mine"), Name::parse("v1").unwrap());
        volumes.make(&mine, &id, 64).unwrap();
        volumes.make(&mine, &id, 64).unwrap();
        let meta = fs::metadata(dir.path().join("volumes/7-mine/v1")).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (64 << 20, 0o600));
        assert!(meta.blocks() * 512 < 4 << 20, "{} blocks", meta.blocks());
        assert_eq!(volumes.list(&mine, None).unwrap(), (vec!["v1".to_owned()], false));
        assert!(volumes.delete(&mine, &id).unwrap());
        assert!(!volumes.delete(&mine, &id).unwrap());
        assert_eq!(volumes.list(&mine, None).unwrap(), (Vec::new(), false));
    }

    #[test]
    fn an_owner_neither_sees_nor_deletes_what_is_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path()).unwrap();
        let id = Name::parse("v1").unwrap();
        volumes.make(&owner("mine"), &id, 64).unwrap();
        assert!(!volumes.delete(&owner("other"), &id).unwrap());
        assert_eq!(volumes.list(&owner("other"), None).unwrap(), (Vec::new(), false));
        let refusal = volumes.attach(&owner("other"), &id).unwrap_err();
        assert_eq!(refusal, Refusal::NoVolume { id: "v1".to_owned() });
        assert_eq!(volumes.list(&owner("mine"), None).unwrap().0, ["v1"]);
    }

    #[test]
    fn an_image_that_something_still_holds_is_neither_attached_nor_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap();
        let held = open(&image).unwrap();
        assert!(is_free(&held, Duration::ZERO).unwrap());
        let second = open(&image).unwrap();
        assert!(!is_free(&second, Duration::from_millis(20)).unwrap());
        drop(held);
        assert!(is_free(&second, Duration::ZERO).unwrap());
    }

    #[test]
    fn a_link_in_the_place_of_an_image_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("v1")).unwrap();
        assert!(open(&dir.path().join("v1")).is_err());
    }
}
