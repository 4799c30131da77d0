//! Processes of the host, found by what they are, not by name alone.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Every process in a cgroup of a sandbox.
#[must_use]
pub fn processes_of(sandbox: &str) -> Vec<i32> {
    let is_in = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(sandbox))
    };
    pids().into_iter().filter(is_in).collect()
}

/// Everything that the host has of a sandbox: processes, cgroups, folders.
#[must_use]
pub fn traces_of(sandbox: &str, data: &Path) -> Vec<String> {
    let processes = processes_of(sandbox).into_iter().map(|pid| format!("process {pid}"));
    let cgroups = crate::baseline::all_cgroups().into_iter().filter(|path| path.contains(sandbox));
    let folder = data.join("launcher/sandboxes").join(sandbox);
    let folders = folder.exists().then(|| folder.display().to_string());
    processes.chain(cgroups).chain(folders).collect()
}

/// The launcher of a data folder, if it runs.
#[must_use]
pub fn launcher_of(data: &Path) -> Option<i32> {
    launchers_below(data).into_iter().next()
}

/// Asks every launcher of data folders below `folder` to end; by itself one does so only after it
/// has been idle for a while.
pub fn end_launchers_below(folder: &Path) {
    for pid in launchers_below(folder).into_iter().filter_map(Pid::from_raw) {
        let _gone_already = kill_process(pid, Signal::TERM);
    }
}

fn launchers_below(data: &Path) -> Vec<i32> {
    let data = data.display().to_string();
    let serves = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        comm.starts_with("courier-launch") && line.contains("--dir") && line.contains(&data)
    };
    pids().into_iter().filter(serves).collect()
}

/// Kills a process without any warning; gone already is fine.
pub fn kill_9(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone_already = kill_process(pid, Signal::KILL);
    }
}
