//! What a box gives up, and the kernel's bounds on what it starts.

use std::fs;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet};

use crate::wire::Limits;

/// `oom_score_adj` of everything of the guest's: of a sandbox that is out of memory these die first,
/// and the Sentry (0) lives to tell.
pub(crate) const GUEST_OOM_SCORE: i32 = 800;
/// Fewest CPUs that a Sentry gets: with one its own threads starve each other. The quota stays.
const MIN_CPUS: u32 = 2;
/// What runsc needs to build a Sentry: to become nobody in a user namespace of its own, which gives
/// it the rest there. Found by leaving out one capability after the other. And to open an image that
/// belongs to another user: all files that it can see by then are ours.
const RUNSC_NEEDS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::DAC_READ_SEARCH);

/// Before runsc: bounds, scheduling, and no capability that runsc does not need.
pub(crate) fn reduce_for_runsc(limits: &Limits, turn: u32) -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    confine_cpus(limits.cpu_millis, turn)?;
    batch_scheduling()?;
    let known = CapabilitySet::all().intersection(bounding()?);
    for capability in known.difference(RUNSC_NEEDS).iter() {
        rustix::thread::remove_capability_from_bounding_set(capability)?;
    }
    // Our own too: runsc opens the image through `/proc/1/fd`, and may do so without
    // CAP_SYS_PTRACE only because this process has no capability that it lacks.
    keep_only(RUNSC_NEEDS)
}

/// With the Sentry up: no capability at all is left to this process, nor can it get one back.
pub(crate) fn drop_all() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    keep_only(CapabilitySet::empty())
}

fn keep_only(capabilities: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: capabilities,
        permitted: capabilities,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

/// Sets the kernel's preference for killing a process (`self` or a pid) when memory is short.
pub(crate) fn set_oom_score(score: i32, process: &str) -> io::Result<()> {
    fs::write(format!("/proc/{process}/oom_score_adj"), score.to_string())
}

/// The same for a process of another user, which is allowed to that user only: becomes it for the
/// one call. Only ever lowers what [`set_oom_score`] raised.
pub(crate) fn set_oom_score_as(user: Uid, score: i32, process: &str) -> io::Result<()> {
    let unchanged = None::<Uid>;
    rustix::thread::set_thread_res_uid(unchanged, user, unchanged)?;
    let result = set_oom_score(score, process);
    rustix::thread::set_thread_res_uid(unchanged, Uid::ROOT, unchanged)?;
    // The change made this process undumpable, and the launcher looks at the disk through its root.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    result
}

fn bounding() -> io::Result<CapabilitySet> {
    let status = fs::read_to_string("/proc/self/status")?;
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(CapabilitySet::from_bits_truncate(bits))
}

/// Shows the guest as many CPUs as its quota fills, but no fewer than the Sentry needs. Boxes take
/// turns, so they spread over the host's CPUs.
fn confine_cpus(cpu_millis: u32, turn: u32) -> io::Result<()> {
    let wanted = cpu_millis.div_ceil(1_000).max(MIN_CPUS);
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let Some(surplus) = cpus.len().checked_sub(wanted as usize) else { return Ok(()) };
    let first = (turn as usize).wrapping_mul(wanted as usize) % cpus.len().max(1);
    let mut set = CpuSet::new();
    cpus.iter().cycle().skip(first).take(cpus.len() - surplus).for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

/// SCHED_BATCH: with it a guest's latencies lose their tail on few cores (a fork's p90 from 16 ms
/// to 2 ms), because its threads no longer interrupt each other.
#[expect(unsafe_code, reason = "rustix does not have sched_setscheduler")]
fn batch_scheduling() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a valid sched_param that outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
