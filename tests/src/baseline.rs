//! The host as it was, to compare with: what of ours is there that was not there before.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::wait;

/// Kernels free some things late: a dying cgroup's last process, a loop device's last reference.
const GRACE: Duration = Duration::from_secs(20);

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
        processes(&mut things);
        mounts(&mut things);
        loop_devices(&mut things);
        cgroups(Path::new("/sys/fs/cgroup"), CGROUP_DEPTH, &mut things);
        sockets(&mut things);
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

/// Programs of ours and of the isolation technology, wherever they were started.
fn processes(things: &mut BTreeSet<String>) {
    for entry in list("/proc") {
        let Ok(pid) = entry.parse::<u32>() else { continue };
        let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let name = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let is_ours = |name: &str| name.starts_with("courier") || name.starts_with("runsc");
        if is_ours(&name) || is_ours(&comm) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            things.insert(format!("process {pid} {} {line}", comm.trim()));
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
