//! Whether there is room for one more sandbox. Pure, but for reading the host's memory.

/// Memory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// All of it, in MiB.
    pub total_mib: u64,
    /// What could be used now without swapping, in MiB.
    pub available_mib: u64,
}

impl HostMemory {
    /// Reads `/proc/meminfo`.
    ///
    /// # Errors
    /// It cannot be read or lacks a field.
    pub fn read() -> std::io::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo")?).ok_or_else(|| {
            std::io::Error::other("/proc/meminfo has no MemTotal or no MemAvailable")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib / 1_024)
        };
        Some(Self { total_mib: field("MemTotal:")?, available_mib: field("MemAvailable:")? })
    }
}

/// How much a node takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Most sandboxes at once.
    pub max_sandboxes: usize,
    /// Most that the memory limits of all sandboxes may add up to, in per cent of the host's memory.
    /// Limits are caps and most sandboxes stay far below theirs, hence more than 100.
    pub memory_overcommit_percent: u64,
    /// No sandbox is made while less than this is available on the host, in MiB.
    pub memory_reserve_mib: u64,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { max_sandboxes: 1_000, memory_overcommit_percent: 400, memory_reserve_mib: 256 }
    }
}

/// What a node has taken on already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sandboxes that are there.
    pub sandboxes: usize,
    /// What their memory limits add up to, in MiB.
    pub memory_mib: u64,
}

impl Capacity {
    /// What the memory limits of all sandboxes may add up to on a host, in MiB.
    #[must_use]
    pub const fn memory_budget_mib(&self, host: HostMemory) -> u64 {
        host.total_mib.saturating_mul(self.memory_overcommit_percent) / 100
    }

    /// Decides on one more sandbox with a memory limit.
    ///
    /// # Errors
    /// What is short, in words and figures.
    pub fn admit(&self, load: Load, host: HostMemory, memory_mib: u64) -> Result<(), String> {
        if load.sandboxes >= self.max_sandboxes {
            return Err(format!(
                "{} sandboxes run here, and {} are allowed",
                load.sandboxes, self.max_sandboxes
            ));
        }
        let budget_mib = self.memory_budget_mib(host);
        let wanted_mib = load.memory_mib.saturating_add(memory_mib);
        if wanted_mib > budget_mib {
            return Err(format!(
                "memory limits would add up to {wanted_mib} MiB, and {budget_mib} MiB are allowed"
            ));
        }
        if host.available_mib < self.memory_reserve_mib {
            return Err(format!(
                "{} MiB of memory are available, and {} MiB are kept in reserve",
                host.available_mib, self.memory_reserve_mib
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity =
        Capacity { max_sandboxes: 2, memory_overcommit_percent: 200, memory_reserve_mib: 100 };
    const HOST: HostMemory = HostMemory { total_mib: 1_000, available_mib: 500 };
    const IDLE: Load = Load { sandboxes: 0, memory_mib: 0 };

    #[test]
    fn there_is_room_up_to_each_bound_and_not_beyond() {
        assert_eq!(CAPACITY.admit(IDLE, HOST, 2_000), Ok(()));
        assert!(CAPACITY.admit(IDLE, HOST, 2_001).unwrap_err().contains("2001 MiB"));
        let full = Load { sandboxes: 2, memory_mib: 0 };
        assert!(CAPACITY.admit(full, HOST, 1).unwrap_err().contains("2 sandboxes"));
        let tight = HostMemory { available_mib: 99, ..HOST };
        assert!(CAPACITY.admit(IDLE, tight, 1).unwrap_err().contains("reserve"));
    }

    #[test]
    fn the_hosts_memory_is_read_from_meminfo() {
        let text = "MemTotal:       2097152 kB\nMemFree: 1 kB\nMemAvailable:   1048576 kB\n";
        let expected = HostMemory { total_mib: 2_048, available_mib: 1_024 };
        assert_eq!(HostMemory::parse(text), Some(expected));
        assert_eq!(HostMemory::parse("MemTotal: 1 kB"), None);
    }
}
