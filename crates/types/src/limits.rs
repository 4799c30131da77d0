//! The caps of a sandbox: each with a default and a range, checked once, here.

use serde::{Deserialize, Serialize};

/// The allowed values of one limit, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRange {
    /// The limit's name as users write it, with its unit.
    pub name: &'static str,
    /// Smallest allowed value.
    pub min: u64,
    /// Largest allowed value.
    pub max: u64,
    /// Value when the user says nothing.
    pub default: u64,
}

impl LimitRange {
    const fn new(name: &'static str, min: u64, max: u64, default: u64) -> Self {
        Self { name, min, max, default }
    }

    /// Checks one value, or takes the default for none.
    ///
    /// # Errors
    /// The value is outside the range.
    pub const fn check(self, value: Option<u64>) -> Result<u64, LimitError> {
        match value {
            None => Ok(self.default),
            Some(value) if value >= self.min && value <= self.max => Ok(value),
            Some(value) => Err(LimitError { range: self, value }),
        }
    }
}

/// A limit outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} = {value} is out of range: use {} to {} (default {})", range.name, range.min, range.max, range.default)]
pub struct LimitError {
    /// The range that was left.
    pub range: LimitRange,
    /// The refused value.
    pub value: u64,
}

/// The limits as a user asks for them: what is absent takes its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    /// Memory in MiB; see [`Limits::MEMORY_MIB`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// CPU in thousandths of a core; see [`Limits::CPU_MILLIS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Processes and threads per user inside; see [`Limits::PIDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Writable disk in MiB; see [`Limits::DISK_MIB`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u64>,
    /// Open files per process; see [`Limits::OPEN_FILES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
}

/// The caps of one sandbox, all within their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "LimitsRequest", into = "LimitsRequest")]
pub struct Limits {
    memory_mib: u32,
    cpu_millis: u32,
    pids: u32,
    disk_mib: u32,
    open_files: u32,
}

impl Limits {
    /// Memory of everything inside, in MiB. The floor is what Python and Node need to start.
    pub const MEMORY_MIB: LimitRange = LimitRange::new("memory_mib", 64, 1_048_576, 512);
    /// CPU time per wall time, in thousandths of a core.
    pub const CPU_MILLIS: LimitRange = LimitRange::new("cpu_millis", 100, 512_000, 2_000);
    /// Processes and threads per user inside.
    pub const PIDS: LimitRange = LimitRange::new("pids", 16, 32_768, 512);
    /// Writable disk (everything that is not the template's image), in MiB.
    pub const DISK_MIB: LimitRange = LimitRange::new("disk_mib", 16, 1_048_576, 2_048);
    /// Open files per process.
    pub const OPEN_FILES: LimitRange = LimitRange::new("open_files", 64, 1_048_576, 16_384);

    /// Memory in MiB.
    #[must_use]
    pub const fn memory_mib(self) -> u32 {
        self.memory_mib
    }
    /// CPU in thousandths of a core.
    #[must_use]
    pub const fn cpu_millis(self) -> u32 {
        self.cpu_millis
    }
    /// Processes and threads per user inside.
    #[must_use]
    pub const fn pids(self) -> u32 {
        self.pids
    }
    /// Writable disk in MiB.
    #[must_use]
    pub const fn disk_mib(self) -> u32 {
        self.disk_mib
    }
    /// Open files per process.
    #[must_use]
    pub const fn open_files(self) -> u32 {
        self.open_files
    }
}

impl Default for Limits {
    fn default() -> Self {
        LimitsRequest::default().try_into().expect("every default lies within its range")
    }
}

/// A range's maximum fits in `u32`, so a checked value does.
fn checked(range: LimitRange, value: Option<u64>) -> Result<u32, LimitError> {
    let value = range.check(value)?;
    u32::try_from(value).map_err(|_out_of_u32| LimitError { range, value })
}

impl TryFrom<LimitsRequest> for Limits {
    type Error = LimitError;

    fn try_from(request: LimitsRequest) -> Result<Self, LimitError> {
        Ok(Self {
            memory_mib: checked(Self::MEMORY_MIB, request.memory_mib)?,
            cpu_millis: checked(Self::CPU_MILLIS, request.cpu_millis)?,
            pids: checked(Self::PIDS, request.pids)?,
            disk_mib: checked(Self::DISK_MIB, request.disk_mib)?,
            open_files: checked(Self::OPEN_FILES, request.open_files)?,
        })
    }
}

impl From<Limits> for LimitsRequest {
    fn from(limits: Limits) -> Self {
        Self {
            memory_mib: Some(limits.memory_mib.into()),
            cpu_millis: Some(limits.cpu_millis.into()),
            pids: Some(limits.pids.into()),
            disk_mib: Some(limits.disk_mib.into()),
            open_files: Some(limits.open_files.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_or_above_its_range_is_refused_with_the_range_in_the_message() {
        let low = LimitsRequest { memory_mib: Some(1), ..LimitsRequest::default() };
        let message = Limits::try_from(low).unwrap_err().to_string();
        assert_eq!(message, "memory_mib = 1 is out of range: use 64 to 1048576 (default 512)");
        let high = LimitsRequest { pids: Some(u64::MAX), ..LimitsRequest::default() };
        assert!(Limits::try_from(high).is_err());
    }

    #[test]
    fn what_is_absent_takes_its_default() {
        assert_eq!(Limits::default().memory_mib(), 512);
    }
}
