//! Values from clients, checked: what exists here is valid.

use std::fmt;

use crate::wire::{Limits, Refusal, VolumeMount};

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

    /// Checks a volume's id: it begins with `v`.
    pub(crate) fn parse_volume(text: &str) -> Result<Self, Refusal> {
        let name = Self::parse(text)?;
        if text.starts_with('v') {
            Ok(name)
        } else {
            Err(Refusal::invalid("a volume's id begins with v"))
        }
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

/// Sizes of volumes in MiB: an ext4 with a journal needs some, and a disk has no more either.
const VOLUME_MIB: std::ops::RangeInclusive<u32> = 16..=1_048_576;
/// Most volumes of one sandbox: `VOLUMES_MAX` of `courier_types`.
const MAX_MOUNTS: usize = 16;
/// Longest path of a mount in bytes, as `courier_types::MountPath` has it: with all of them escaped,
/// a box's configuration still is one record.
const MAX_MOUNT_PATH: usize = 512;
/// Folders that nothing is mounted on or below, as in `courier_types::MountPath`.
const RESERVED: [&str; 8] = ["/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib"];

/// The size of a volume.
pub(crate) fn volume_size(size_mib: u32) -> Result<u32, Refusal> {
    if VOLUME_MIB.contains(&size_mib) {
        return Ok(size_mib);
    }
    Err(Refusal::invalid(format!(
        "size_mib = {size_mib} is out of range: use {} to {}",
        VOLUME_MIB.start(),
        VOLUME_MIB.end()
    )))
}

/// A volume, and where it goes inside.
pub(crate) type Mount = (Name, String);

/// The volumes of a sandbox: no place lies in another one, and none is one of the system's.
pub(crate) fn mounts(volumes: Vec<VolumeMount>) -> Result<Vec<Mount>, Refusal> {
    if volumes.len() > MAX_MOUNTS {
        return Err(Refusal::invalid(format!(
            "{} volumes, {MAX_MOUNTS} are the most of one sandbox",
            volumes.len()
        )));
    }
    let mut mounts: Vec<Mount> = Vec::new();
    for VolumeMount { id, path } in volumes {
        let id = Name::parse_volume(&id)?;
        if !is_mount_path(&path) {
            return Err(Refusal::invalid(
                "a volume's path is absolute, clean and not the system's",
            ));
        }
        let meets = |(_, other): &Mount| lies_in(&path, other) || lies_in(other, &path);
        if mounts.iter().any(meets) {
            return Err(Refusal::invalid("a volume's path lies in that of another one"));
        }
        mounts.push((id, path));
    }
    Ok(mounts)
}

fn is_mount_path(path: &str) -> bool {
    path.len() <= MAX_MOUNT_PATH
        && !path.chars().any(char::is_control)
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        })
        && !RESERVED.iter().any(|folder| lies_in(path, folder))
}

fn lies_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
    fn volumes_lie_beside_each_other_and_not_on_the_systems_folders() {
        let mount = |id: &str, path: &str| VolumeMount { id: id.to_owned(), path: path.to_owned() };
        let beside = mounts(vec![mount("v1", "/data"), mount("v2", "/database")]).unwrap();
        assert_eq!(beside.len(), 2);
        for (a, b) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a")] {
            assert!(mounts(vec![mount("v1", a), mount("v2", b)]).is_err(), "{a} {b}");
        }
        let long = format!("/{}", "a".repeat(MAX_MOUNT_PATH));
        for path in ["", "/", "a", "/a/", "/a/../b", "/.", "/proc/x", "/etc", "/a\n", &long] {
            assert!(mounts(vec![mount("v1", path)]).is_err(), "{path:?}");
        }
        assert!(mounts(vec![mount("i1", "/data")]).is_err());
        let many = (0..=MAX_MOUNTS).map(|n| mount("v1", &format!("/m{n}"))).collect();
        assert!(mounts(many).is_err());
        assert!(volume_size(15).is_err() && volume_size(16).is_ok());
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
