//! The cgroup of a sandbox, on cgroup v1 and v2.
//!
//! All cgroups of one launcher stand under one parent, `courier-HASH`, whose name comes from the
//! launcher's directory: so launchers of different directories never touch each other's.
//!
//! - v1: `/sys/fs/cgroup/CONTROLLER/courier-HASH/ID`, below the root of each hierarchy, so that the
//!   next launcher finds it wherever that one was started from.
//! - v2: the same below the launcher's own cgroup where systemd delegated it (`Delegate=yes`), else
//!   below the root. This branch follows the kernel's documentation; the machines that this was
//!   developed on only had v1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::wire::{Limits, Usage};

/// Where cgroup file systems are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Memory of the isolation itself (Sentry and stubs), which comes on top of the guest's, in MiB.
const OVERHEAD_MIB: u64 = 64;
/// Memory of a gofer, which a sandbox with volumes has, in MiB. Measured: 12 idle, 24 with a thousand
/// files open.
const GOFER_MIB: u64 = 32;
/// Host tasks beyond the guest's own. `pids.max` is only the second fence: the guest's own
/// `RLIMIT_NPROC` is enforced by the Sentry, and a Sentry that meets `pids.max` dies.
const PIDS_BASE: u64 = 1_024;
/// Host tasks per guest task: a process and a thread each for two busy users inside, and as many
/// again for those that are just dying.
const PIDS_FACTOR: u64 = 8;
/// Scheduling period in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// How long a dying cgroup may still have tasks after its namespace is gone.
const REMOVE_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two tries to remove a cgroup; v1 tells nobody when a cgroup becomes empty.
const REMOVE_PAUSE: Duration = Duration::from_millis(1);
/// Controllers without which a limit would be a lie.
const V1_CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
/// The same on v2, where `cpu` accounts too.
const V2_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Which of the two interfaces a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// One hierarchy per controller: (controller, mount point).
    V1(Vec<(&'static str, PathBuf)>),
    /// One hierarchy; the cgroup below which ours stand.
    V2(PathBuf),
}

/// The parent of all cgroups of one launcher.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    layout: Layout,
    name: String,
}

/// The cgroup of one sandbox: its directories (one per hierarchy).
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
    unified: bool,
}

/// What beside the guest counts on its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overhead {
    /// The Sentry with its stubs.
    Sentry,
    /// The same, and the process that opens files of volumes for it.
    SentryAndGofer,
}

impl Parent {
    /// Looks at the host. `dir` is the launcher's directory, canonical.
    ///
    /// # Errors
    /// A controller is missing; the message says which and what to do.
    pub(crate) fn find(dir: &Path) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let v1 = v1_mounts(&mounts);
        let layout = if v1.len() == V1_CONTROLLERS.len() {
            Layout::V1(v1)
        } else {
            let base = v2_base(&mounts)?.ok_or_else(|| missing(&v1))?;
            Layout::V2(base)
        };
        let name = format!("courier-{:08x}", fnv1a(dir.as_os_str().as_encoded_bytes()));
        Ok(Self { layout, name })
    }

    /// The parent's directories, one per hierarchy.
    fn dirs(&self) -> Vec<PathBuf> {
        match &self.layout {
            Layout::V1(mounts) => mounts.iter().map(|(_, mount)| mount.join(&self.name)).collect(),
            Layout::V2(base) => vec![base.join(&self.name)],
        }
    }

    /// The cgroup of a sandbox, made or not.
    pub(crate) fn of(&self, id: &str) -> Cgroup {
        let mut dirs: Vec<PathBuf> = self.dirs().into_iter().map(|dir| dir.join(id)).collect();
        dirs.dedup();
        Cgroup { dirs, unified: matches!(self.layout, Layout::V2(_)) }
    }

    /// Makes the parent, and on v2 hands the controllers down to it and its children.
    pub(crate) fn make(&self) -> io::Result<()> {
        for dir in self.dirs() {
            fs::create_dir_all(&dir)?;
        }
        if let Layout::V2(base) = &self.layout {
            leave(base)?;
            enable(base)?;
            enable(&base.join(&self.name))?;
        }
        Ok(())
    }

    /// Names of the cgroups that stand under the parent now.
    pub(crate) fn children(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .dirs()
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes the parent when it is empty.
    pub(crate) fn remove(&self) {
        for dir in self.dirs() {
            if let Err(error) = fs::remove_dir(&dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                eprintln!("courier-launcher: cannot remove {}: {error}", dir.display());
            }
        }
    }
}

impl Cgroup {
    /// Makes it and sets the limits. A sandbox joins by writing `0` to every [`Self::join_files`].
    pub(crate) fn make(&self, limits: &Limits, overhead: Overhead) -> io::Result<()> {
        for dir in &self.dirs {
            fs::create_dir_all(dir)?;
        }
        let overhead_mib = match overhead {
            Overhead::Sentry => OVERHEAD_MIB,
            Overhead::SentryAndGofer => OVERHEAD_MIB + GOFER_MIB,
        };
        let memory = (u64::from(limits.memory_mib) + overhead_mib) << 20;
        let pids = u64::from(limits.pids) * PIDS_FACTOR + PIDS_BASE;
        let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1_000;
        if self.unified {
            self.set("memory.max", memory)?;
            self.set_if_there("memory.swap.max", 0)?;
            self.set("cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
        } else {
            self.set("memory.limit_in_bytes", memory)?;
            self.set_if_there("memory.memsw.limit_in_bytes", memory)?;
            self.set("cpu.cfs_period_us", CPU_PERIOD_US)?;
            self.set("cpu.cfs_quota_us", quota)?;
        }
        self.set("pids.max", pids)
    }

    /// The files to which a process with one thread writes `0` to join.
    ///
    /// On v1 that is `tasks`: a thread that moves itself needs no lock on all forks of the host,
    /// while `cgroup.procs` waits for an RCU grace period per hierarchy, 4 to 10 ms together.
    pub(crate) fn join_files(&self) -> Vec<PathBuf> {
        let file = if self.unified { "cgroup.procs" } else { "tasks" };
        self.dirs.iter().map(|dir| dir.join(file)).collect()
    }

    /// The directories, for the intent.
    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// What its processes have used, but for the disk. What cannot be read counts as zero.
    pub(crate) fn usage(&self) -> Usage {
        let micros = if self.unified {
            self.field("cpu.stat", "usage_usec")
        } else {
            self.number("cpuacct.usage").map(|nanos| nanos / 1_000)
        };
        let (now, peak, events) = if self.unified {
            ("memory.current", "memory.peak", "memory.events")
        } else {
            ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
        };
        Usage {
            memory_bytes: self.number(now).unwrap_or_default(),
            memory_peak_bytes: self.number(peak).unwrap_or_default(),
            cpu_micros: micros.unwrap_or_default(),
            disk_bytes: 0,
            oom_kills: self.field(events, "oom_kill").unwrap_or_default(),
        }
    }

    /// Kills whatever is left in it and removes it. Gone already is success.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + REMOVE_DEADLINE;
        for dir in &self.dirs {
            loop {
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                        return Err(error);
                    }
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_busy) => {
                        kill_all(dir);
                        pause();
                    }
                }
            }
        }
        Ok(())
    }

    fn set(&self, file: &str, value: impl ToString) -> io::Result<()> {
        let path = self.file(file).ok_or(io::ErrorKind::NotFound)?;
        fs::write(&path, value.to_string())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Sets what only kernels with swap accounting have.
    fn set_if_there(&self, file: &str, value: u64) -> io::Result<()> {
        if self.file(file).is_some() { self.set(file, value) } else { Ok(()) }
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.file(file)?).ok()?.trim().parse().ok()
    }

    fn field(&self, file: &str, field: &str) -> Option<u64> {
        let text = fs::read_to_string(self.file(file)?).ok()?;
        text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
    }

    /// The one directory that has the file.
    fn file(&self, name: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.exists())
    }
}

/// Kills every process in one directory of a cgroup: with one write on v2, one by one on v1.
fn kill_all(dir: &Path) {
    if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let Ok(procs) = fs::read_to_string(dir.join("cgroup.procs")) else { return };
    for pid in procs.lines().filter_map(|line| line.parse().ok()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It may have died in between, which is what is wanted.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Lets dying tasks go: nothing can be polled for it on v1.
fn pause() {
    let nothing = &mut [];
    let pause = rustix::time::Timespec::try_from(REMOVE_PAUSE).ok();
    // An interrupted pause is a shorter pause.
    let _interrupted = rustix::event::poll(nothing, pause.as_ref());
}

/// The v1 hierarchies that matter, from `/proc/self/mounts`.
fn v1_mounts(mounts: &str) -> Vec<(&'static str, PathBuf)> {
    let hierarchies: Vec<(&str, &str)> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_device, point, kind, options) =
                (words.next()?, words.next()?, words.next()?, words.next()?);
            (kind == "cgroup").then_some((point, options))
        })
        .collect();
    V1_CONTROLLERS
        .into_iter()
        .filter_map(|controller| {
            let (point, _) = hierarchies
                .iter()
                .find(|(_, options)| options.split(',').any(|option| option == controller))?;
            Some((controller, PathBuf::from(point)))
        })
        .collect()
}

/// The v2 cgroup below which ours stand, if the host has v2 with the controllers.
fn v2_base(mounts: &str) -> io::Result<Option<PathBuf>> {
    let root = Path::new(ROOT);
    let unified = mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq([ROOT, "cgroup2"]));
    if !unified {
        return Ok(None);
    }
    let there = fs::read_to_string(root.join("cgroup.controllers"))?;
    if !V2_CONTROLLERS.iter().all(|wanted| there.split_whitespace().any(|name| name == *wanted)) {
        return Ok(None);
    }
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = root.join(own.strip_suffix(&format!("/{LEAF}")).unwrap_or(own));
    let delegated = rustix::fs::getxattr(&own, "trusted.delegate", &mut [0_u8; 8][..])
        .or_else(|_| rustix::fs::getxattr(&own, "user.delegate", &mut [0_u8; 8][..]))
        .is_ok();
    Ok(Some(if delegated { own } else { root.to_owned() }))
}

/// The leaf into which the launcher moves itself on v2: a cgroup with controllers for its children
/// must not have processes of its own.
const LEAF: &str = "launcher";

/// Moves the launcher out of a delegated cgroup into its leaf.
fn leave(base: &Path) -> io::Result<()> {
    if base == Path::new(ROOT) {
        return Ok(());
    }
    let leaf = base.join(LEAF);
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), "0")
}

/// Hands the controllers down to a cgroup's children.
fn enable(dir: &Path) -> io::Result<()> {
    let line = V2_CONTROLLERS.map(|controller| format!("+{controller}")).join(" ");
    fs::write(dir.join("cgroup.subtree_control"), line).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!(
                "cannot enable the controllers memory, cpu and pids below {}: {error}; run the \
                 launcher as a systemd unit with Delegate=yes",
                dir.display()
            ),
        )
    })
}

fn missing(found: &[(&str, PathBuf)]) -> io::Error {
    let missing: Vec<&str> = V1_CONTROLLERS
        .into_iter()
        .filter(|wanted| found.iter().all(|(name, _)| name != wanted))
        .collect();
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "the cgroup controllers {} are not there: mount cgroup v2 on {ROOT} with memory, cpu \
             and pids, or boot without cgroup_disable",
            missing.join(", ")
        ),
    )
}

/// 32-bit FNV-1a: names must only differ, not resist anyone.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_controllers_are_found_alone_or_together_in_one_hierarchy() {
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n";
        let found = v1_mounts(mounts);
        assert_eq!(found.len(), 4);
        let cpu = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct");
        assert!(found.contains(&("cpu", cpu.clone())) && found.contains(&("cpuacct", cpu)));
    }

    #[test]
    fn a_missing_controller_is_named() {
        let found = v1_mounts("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n");
        assert!(missing(&found).to_string().contains("cpu, cpuacct, pids are not there"));
    }

    #[test]
    fn different_directories_have_different_parents() {
        assert_ne!(fnv1a(b"/var/lib/courier"), fnv1a(b"/root/.local/share/courier"));
    }
}
