//! `GET /metrics`: what the sandbox uses, as seen from inside.
//!
//! CPU time is summed over the processes that live: `/proc/stat` is empty in some sandboxes. What a
//! process used before it ended between two calls is not seen.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::context::Settings;

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 32_768;

/// Clock ticks per second of `/proc/PID/stat`; the same on every Linux that people run.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/PID/stat` after the program's name: ticks in user mode; those in the kernel are
/// next.
const USER_TICKS_FIELD: usize = 11;

const BYTES_PER_KIB: u64 = 1024;
const BYTES_PER_MIB: u64 = 1024 * 1024;

/// The answer; names and units are envd's.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Metrics {
    /// Seconds since the Unix epoch.
    ts: u64,
    cpu_count: usize,
    /// Of one processor, so up to 100 times their number.
    cpu_used_pct: f64,
    mem_total: u64,
    mem_used: u64,
    mem_cache: u64,
    mem_total_mib: u64,
    mem_used_mib: u64,
    disk_used: u64,
    disk_total: u64,
}

/// CPU time at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    ticks: u64,
}

/// Remembers the last look at the CPU time.
#[derive(Debug)]
pub(crate) struct Meter {
    last: Mutex<Sample>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { last: Mutex::new(Sample { at: Instant::now(), ticks: 0 }) }
    }
}

impl Meter {
    /// Reads everything. CPU use is the mean since the call before. Blocks for as long as reading
    /// `/proc` takes.
    pub(crate) fn read(&self, settings: &Settings) -> Metrics {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = Memory::parse(&memory);
        let (disk_used, disk_total) = disk(settings.disk_bytes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Metrics {
            ts: now.as_secs(),
            cpu_count: std::thread::available_parallelism().map_or(1, Into::into),
            cpu_used_pct: self.cpu_used_pct(),
            mem_total: memory.total,
            mem_used: memory.used,
            mem_cache: memory.cache,
            mem_total_mib: memory.total / BYTES_PER_MIB,
            mem_used_mib: memory.used / BYTES_PER_MIB,
            disk_used,
            disk_total,
        }
    }

    fn cpu_used_pct(&self) -> f64 {
        let now = Sample { at: Instant::now(), ticks: ticks_of_all(Path::new("/proc")) };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, now);
        percent(now.ticks.saturating_sub(before.ticks), now.at - before.at)
    }
}

fn percent(ticks: u64, span: Duration) -> f64 {
    let ticks = u32::try_from(ticks).map_or(f64::from(u32::MAX), f64::from);
    let seconds = span.as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }
    // Two digits are what envd gives.
    (ticks / TICKS_PER_SECOND / seconds * 10_000.0).round() / 100.0
}

/// CPU ticks of all processes that live.
fn ticks_of_all(proc: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(proc) else { return 0 };
    entries
        .take(PROCESSES_MAX)
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter_map(|stat| ticks(&stat))
        .sum()
}

/// CPU ticks of one process. Its name may hold anything, so fields are counted after its last
/// parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_name, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(USER_TICKS_FIELD);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Bytes of the writable disk: used and all. Where the file system inside shows another size than
/// the disk has, what it says of its use is worth nothing.
fn disk(disk_bytes: u64) -> (u64, u64) {
    let Ok(shown) = rustix::fs::statvfs("/") else { return (0, disk_bytes) };
    let bytes = |blocks: u64| blocks.saturating_mul(shown.f_frsize);
    let used = bytes(shown.f_blocks.saturating_sub(shown.f_bfree));
    let total = if disk_bytes == 0 { bytes(shown.f_blocks) } else { disk_bytes };
    (used.min(total), total)
}

#[derive(Debug, PartialEq, Eq)]
struct Memory {
    total: u64,
    used: u64,
    cache: u64,
}

impl Memory {
    fn parse(meminfo: &str) -> Self {
        let field = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
            kib.unwrap_or(0_u64).saturating_mul(BYTES_PER_KIB)
        };
        let (total, cache) = (field("MemTotal"), field("Cached"));
        let used = total.saturating_sub(field("MemFree") + field("Buffers") + cache);
        Self { total, used, cache }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_what_is_missing_is_zero() {
        let text = "MemTotal:  1000 kB\nMemFree: 300 kB\nBuffers: 0 kB\nCached:  200 kB\n";
        let expected = Memory { total: 1_024_000, used: 512_000, cache: 204_800 };
        assert_eq!(Memory::parse(text), expected);
        assert_eq!(Memory::parse("junk"), Memory { total: 0, used: 0, cache: 0 });
    }

    #[test]
    fn a_process_may_have_any_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn use_is_in_percent_of_one_processor() {
        assert!((percent(150, Duration::from_secs(1)) - 150.0).abs() < f64::EPSILON);
        assert!((percent(1, Duration::ZERO)).abs() < f64::EPSILON);
    }
}
