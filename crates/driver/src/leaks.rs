//! What belongs to a launcher's directory but to no sandbox of a running launcher: what
//! `courier doctor --leaks` lists, and what the launcher's next start would remove.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use courier_types::VOLUMES_MAX;
use tokio::time::Instant;

use crate::DriverError;
use crate::gvisor::{GvisorDriver, Linger};
use crate::launcher_process::socket_path;

/// Owner name under which the search talks to the launcher.
const OWNER: &str = "leaks";
/// What is being made or destroyed right now is no leak: only what stays so long counts.
const GRACE: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How deep below /sys/fs/cgroup a launcher's cgroups may stand (a delegated service is at 3).
const CGROUP_DEPTH: usize = 4;

/// Something that nobody owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leak {
    /// A sandbox's directory.
    Directory(PathBuf),
    /// A sandbox's cgroup.
    Cgroup(PathBuf),
    /// A process in such a cgroup.
    Process(u32),
    /// Loop devices on disks or volumes of that directory, more than its sandboxes can have.
    LoopDevices(usize),
    /// A mount in the host's own mount namespace.
    Mount(PathBuf),
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "directory {}", path.display()),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::LoopDevices(count) => write!(f, "{count} loop devices"),
            Self::Mount(path) => write!(f, "mount {}", path.display()),
        }
    }
}

/// Looks for leaks of the launcher directory `dir`. Needs the rights to look into it (root).
/// Returns at once when there are none, and else what is still there after a grace period.
///
/// # Errors
/// The directory cannot be read, or a launcher listens there and does not answer.
pub async fn find_leaks(dir: &Path) -> Result<Vec<Leak>, DriverError> {
    let failed =
        |source| DriverError::Host { what: format!("cannot look into {}", dir.display()), source };
    let dir = match dir.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let deadline = Instant::now() + GRACE;
    let mut seen: Option<BTreeSet<Leak>> = None;
    loop {
        let now = look(&dir, running(&dir).await?.as_ref()).map_err(failed)?;
        let still = match seen {
            None => now,
            Some(before) => now.intersection(&before).cloned().collect(),
        };
        if still.is_empty() || Instant::now() >= deadline {
            return Ok(still.into_iter().collect());
        }
        seen = Some(still);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Ids of the sandboxes of the launcher that runs there; `None` when none does.
async fn running(dir: &Path) -> Result<Option<BTreeSet<String>>, DriverError> {
    let ask = async {
        let driver = GvisorDriver::connect(socket_path(dir), OWNER, Linger::Go).await?;
        driver.list_all().await
    };
    match ask.await {
        Ok(ids) => Ok(Some(ids.into_iter().collect())),
        Err(DriverError::Launcher(error)) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True when there is no launcher, or one that is just going: the next look will tell. Nor can there
/// be one where its socket's path would be too long.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

/// One look. Without a launcher, the parent of its cgroups is nobody's either.
fn look(dir: &Path, launcher: Option<&BTreeSet<String>>) -> io::Result<BTreeSet<Leak>> {
    let mut leaks = BTreeSet::new();
    let none = BTreeSet::new();
    let running = launcher.unwrap_or(&none);
    let sandboxes = dir.join("sandboxes");
    for (name, path) in children(&sandboxes)? {
        if !running.contains(&name) {
            leaks.insert(Leak::Directory(path));
        }
    }
    let parent = format!("courier-{:08x}", fnv1a(dir.as_os_str().as_encoded_bytes()));
    for cgroup in cgroups(Path::new("/sys/fs/cgroup"), &parent, CGROUP_DEPTH)? {
        for (name, path) in children(&cgroup)? {
            if !running.contains(&name) {
                let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                leaks.extend(procs.lines().filter_map(|pid| pid.parse().ok().map(Leak::Process)));
                leaks.insert(Leak::Cgroup(path));
            }
        }
        if launcher.is_none() {
            leaks.insert(Leak::Cgroup(cgroup));
        }
    }
    let devices = loop_devices(&dir.join("disks"))?;
    if devices > running.len() {
        leaks.insert(Leak::LoopDevices(devices - running.len()));
    }
    let devices = loop_devices(&dir.join("volumes"))?;
    let most = running.len() * VOLUMES_MAX;
    if devices > most {
        leaks.insert(Leak::LoopDevices(devices - most));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    leaks.extend(mount_points(&mounts).filter(|at| at.starts_with(&sandboxes)).map(Leak::Mount));
    Ok(leaks)
}

/// Directories in a directory that may not exist.
fn children(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    Ok(entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect())
}

/// Every cgroup of that name, in every hierarchy.
fn cgroups(below: &Path, name: &str, depth: usize) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    // A cgroup that vanishes while we look has no children, which is no leak.
    for (child, path) in children(below)? {
        if child == name {
            found.push(path);
        } else if depth > 0 {
            found.extend(cgroups(&path, name, depth - 1)?);
        }
    }
    Ok(found)
}

/// How many loop devices have a file below that directory behind them.
fn loop_devices(files: &Path) -> io::Result<usize> {
    let prefix = format!("{}/", files.display());
    // Links to directories; only a loop device has that file.
    let backing = fs::read_dir("/sys/block")?
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
    Ok(backing.filter(|file| file.starts_with(&prefix)).count())
}

/// The mount points of a mountinfo; the fifth word. Escapes stay as they are: our paths have none.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from)
}

/// The launcher's name for its cgroups (`cgroup.rs` there).
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_that_no_launcher_owns_is_a_leak_and_an_absent_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_leaks(&dir.path().join("none")).await.unwrap(), []);
        let left = dir.path().join("sandboxes/i0");
        fs::create_dir_all(&left).unwrap();
        let leaks = find_leaks(dir.path()).await.unwrap();
        assert_eq!(leaks, [Leak::Directory(left.canonicalize().unwrap())]);
    }
}
