//! Values from clients, checked: what exists here is valid.

use std::fmt;

use crate::wire::{Limits, Refusal};

/// Longest id.
const MAX_ID: usize = 32;

/// An id or an owner name: 1 to 32 characters of `[a-z0-9]`, and so safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    /// Checks a text.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let valid = (1..=MAX_ID).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::invalid("an id or owner is 1 to 32 characters of a-z and 0-9"))
        }
    }

    /// Checks a sandbox's id: it begins with `i`, and so is never a name that the kernel gives to a
    /// file of a cgroup, where it names a directory (version 1 has `tasks`).
    pub(crate) fn parse_id(text: &str) -> Result<Self, Refusal> {
        let name = Self::parse(text)?;
        if text.starts_with('i') { Ok(name) } else { Err(Refusal::invalid("an id begins with i")) }
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ranges of `courier_types::Limits`, repeated because the launcher depends on nothing.
pub(crate) fn limits(limits: Limits) -> Result<Limits, Refusal> {
    let ranges = [
        ("memory_mib", limits.memory_mib, 64..=1_048_576),
        ("cpu_millis", limits.cpu_millis, 100..=512_000),
        ("pids", limits.pids, 16..=32_768),
        ("disk_mib", limits.disk_mib, 16..=1_048_576),
        ("open_files", limits.open_files, 64..=1_048_576),
    ];
    match ranges.into_iter().find(|(_, value, range)| !range.contains(value)) {
        None => Ok(limits),
        Some((name, value, range)) => Err(Refusal::invalid(format!(
            "{name} = {value} is out of range: use {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_climb_or_hide_is_refused() {
        for text in ["", ".", "..", "a/b", "A", "a-b", "a\0", "ä", &"a".repeat(33)] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Name::parse("i0z").unwrap().as_str(), "i0z");
    }

    #[test]
    fn a_limit_out_of_its_range_is_refused_by_name() {
        let good = Limits {
            memory_mib: 512,
            cpu_millis: 1_000,
            pids: 512,
            disk_mib: 64,
            open_files: 1_024,
        };
        assert_eq!(limits(good), Ok(good));
        let refusal = limits(Limits { pids: 1, ..good }).unwrap_err();
        assert_eq!(refusal, Refusal::invalid("pids = 1 is out of range: use 16 to 32768"));
    }
}
