//! The host as it was, to compare with: what of ours is there that was not there before.
//!
//! A machine may well run other servers, even other test runs: what belongs to their launchers is
//! theirs. Everything else of our kind counts, wherever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::wait;

/// Kernels free some things late: a dying cgroup's last process, a loop device's last reference.
const GRACE: Duration = Duration::from_secs(20);

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Deepest cgroup that is looked at.
const CGROUP_DEPTH: u32 = 8;

/// Everything on the host that could be ours, each as a line.
#[derive(Debug, Clone)]
pub struct Baseline(BTreeSet<String>);

impl Baseline {
    /// Looks at the host.
    #[must_use]
    pub fn take() -> Self {
        let mut things = BTreeSet::new();
        let others = Others::find();
        processes(&others, &mut things);
        mounts(&mut things);
        loop_devices(&mut things);
        things.extend(all_cgroups());
        sockets(&mut things);
        things.retain(|thing| !others.own(thing));
        for folder in ["/sys/class/net", "/run/netns", "/run", "/tmp", "/var/run", "/dev/shm"] {
            entries(folder, &mut things);
        }
        Self(things)
    }

    /// What is there now and was not there then.
    #[must_use]
    pub fn added(&self) -> Vec<String> {
        Self::take().0.difference(&self.0).cloned().collect()
    }

    /// Waits until nothing of ours is there that was not there then; panics with the list.
    #[track_caller]
    pub fn assert_restored(&self) {
        wait::until("the host is as it was before", GRACE, || {
            let added = self.added();
            if added.is_empty() { Ok(()) } else { Err(added.join("\n")) }
        });
    }
}

/// What others run on this machine.
struct Others {
    /// Their launchers' process ids.
    launchers: BTreeSet<u32>,
    /// Texts by which their things are known: their launchers' folders, and the cgroups of those.
    marks: Vec<String>,
    /// Every process's parent.
    parents: BTreeMap<u32, u32>,
}

impl Others {
    fn find() -> Self {
        let mut others =
            Self { launchers: BTreeSet::new(), marks: Vec::new(), parents: BTreeMap::new() };
        for pid in pids() {
            others.parents.insert(pid, parent(pid));
            let line = command_line(pid);
            let mut words = line.split(' ').skip_while(|word| *word != "--dir").skip(1);
            if let Some(folder) = words.next()
                && line.contains("courier-launcher")
                && !line.contains(&own_scratch())
            {
                others.launchers.insert(pid);
                others.marks.push(format!("{folder}/"));
                others.marks.push(format!("courier-{:08x}", fnv1a(folder.as_bytes())));
            }
        }
        others
    }

    fn own(&self, thing: &str) -> bool {
        self.marks.iter().any(|mark| thing.contains(mark))
    }

    /// True for their launchers and everything that came of them.
    fn started(&self, pid: u32) -> bool {
        let parent = |pid: &u32| self.parents.get(pid).copied().filter(|parent| *parent > 0);
        std::iter::successors(Some(pid), parent).any(|pid| self.launchers.contains(&pid))
    }
}

/// Part of the path of every data folder of this run.
fn own_scratch() -> String {
    format!("/courier-test/scratch/{}/", std::process::id())
}

/// The hash that a launcher names its cgroups by.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn pids() -> impl Iterator<Item = u32> {
    list("/proc").into_iter().filter_map(|entry| entry.parse().ok())
}

fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which is in parentheses and may hold anything: state, then parent.
    let after = stat.rsplit(')').next().unwrap_or_default();
    after.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0)
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Programs of ours and of the isolation technology, wherever they were started.
fn processes(others: &Others, things: &mut BTreeSet<String>) {
    for pid in pids() {
        let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let name = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is_ours = |name: &str| name.starts_with("courier") || name.starts_with("runsc");
        if !is_ours(&name) && !is_ours(&comm) {
            continue;
        }
        // A command of ours has its data folder in its environment.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let is_others_command = name == "courier" && !environment.contains(&own_scratch());
        if !is_others_command && !others.started(pid) {
            things.insert(format!("process {pid} {} {}", comm.trim(), command_line(pid)));
        }
    }
}

fn mounts(things: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    things.extend(table.lines().map(|line| format!("mount {line}")));
}

fn loop_devices(things: &mut BTreeSet<String>) {
    for device in list("/sys/block") {
        let file = format!("/sys/block/{device}/loop/backing_file");
        if let Ok(backing) = fs::read_to_string(file) {
            things.insert(format!("loop device {device} of {}", backing.trim()));
        }
    }
}

/// Every cgroup of the host.
#[must_use]
pub fn all_cgroups() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    cgroups(Path::new(CGROUPS), CGROUP_DEPTH, &mut all);
    all
}

fn cgroups(folder: &Path, depth: u32, things: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
            things.insert(format!("cgroup {}", entry.path().display()));
            cgroups(&entry.path(), depth - 1, things);
        }
    }
}

/// Bound Unix sockets with a path or name of ours.
fn sockets(things: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    let ours = names.filter(|name| name.contains("courier") || name.contains("runsc"));
    things.extend(ours.map(|name| format!("socket {name}")));
}

fn entries(folder: &str, things: &mut BTreeSet<String>) {
    let is_ours = |name: &String| {
        folder == "/sys/class/net"
            || folder == "/run/netns"
            || name.contains("courier")
            || name.contains("runsc")
    };
    things.extend(list(folder).into_iter().filter(is_ours).map(|name| format!("{folder}/{name}")));
}

fn list(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
