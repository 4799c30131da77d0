//! What keeps a process's memory to itself, where secrets pass through it.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no core file is written of this process, and only root may look into its memory or
/// descriptors (`ptrace`, `/proc/PID/mem`, `/proc/PID/fd`).
pub(crate) fn close() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("core files cannot be forbidden")?;
    // The limit is not asked where core files are piped to a program (core(5)); this is.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("the memory of this process cannot be closed to others")
}
