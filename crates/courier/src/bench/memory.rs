//! How much memory sandboxes and processes hold, and what processor time they have used.

use std::time::Duration;
use std::{fs, io};

/// Proportional set size, in bytes, of every process that is in a cgroup of the sandbox: pages that
/// processes share are counted once, in parts. Needs root. A sandbox that runs holds something, so
/// where nothing is found it was not measured, and that is an error.
pub(crate) fn pss_bytes(sandbox: &str) -> io::Result<u64> {
    let processes = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    match processes.filter(|pid| is_in(*pid, sandbox)).map(pss_of).sum() {
        0 => Err(io::Error::other(format!("no memory of a process of sandbox {sandbox} is told"))),
        bytes => Ok(bytes),
    }
}

/// Proportional set size of one process, in bytes.
pub(crate) fn process_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    pss_in(&rollup).ok_or_else(|| io::Error::other(format!("process {pid} has no memory")))
}

/// Processor time of all threads of a process so far; of those that have ended it is not known.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next();
        let time: Option<u64> = first.and_then(|nanos| nanos.parse().ok());
        nanos += time.ok_or_else(|| io::Error::other("the kernel counts no processor time"))?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn is_in(pid: u32, sandbox: &str) -> bool {
    // A process that has ended in the meantime holds nothing.
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    cgroups.lines().any(|line| line.rsplit('/').next() == Some(sandbox))
}

fn pss_of(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    pss_in(&rollup).unwrap_or(0)
}

fn pss_in(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_without_processes_is_an_error_and_not_a_small_one() {
        assert!(pss_bytes("no-such-sandbox").unwrap_err().to_string().contains("no-such-sandbox"));
    }

    #[test]
    fn the_proportional_size_is_read_and_not_one_of_its_parts() {
        let rollup = "00400000-7ffd [rollup]\nRss:  900 kB\nPss:   12 kB\nPss_Anon:  3 kB\n";
        assert_eq!(pss_in(rollup), Some(12 * 1024));
        assert_eq!(pss_in(""), None);
    }
}
