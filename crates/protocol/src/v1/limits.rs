//! Limits in bodies.

use courier_types::{Limits, LimitsRequest};
use serde::{Deserialize, Serialize};

/// The caps of a sandbox. In a request, what is absent takes the template's value; ranges are in
/// `GET /v1/info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitsBody {
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// CPU in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Processes and threads per user inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Writable disk in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u64>,
    /// Open files per process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
}

impl LimitsBody {
    /// These limits, with what is absent taken from `base`.
    #[must_use]
    pub fn over(self, base: Limits) -> LimitsRequest {
        let base = LimitsRequest::from(base);
        LimitsRequest {
            memory_mib: self.memory_mib.or(base.memory_mib),
            cpu_millis: self.cpu_millis.or(base.cpu_millis),
            pids: self.pids.or(base.pids),
            disk_mib: self.disk_mib.or(base.disk_mib),
            open_files: self.open_files.or(base.open_files),
        }
    }
}

impl From<Limits> for LimitsBody {
    fn from(limits: Limits) -> Self {
        Self {
            memory_mib: Some(limits.memory_mib().into()),
            cpu_millis: Some(limits.cpu_millis().into()),
            pids: Some(limits.pids().into()),
            disk_mib: Some(limits.disk_mib().into()),
            open_files: Some(limits.open_files().into()),
        }
    }
}
