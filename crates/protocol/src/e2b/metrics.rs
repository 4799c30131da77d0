//! Samples of what sandboxes use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One sample. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SandboxMetric {
    /// When, RFC 3339. Deprecated by the specification, read by the SDKs.
    pub timestamp: String,
    /// When, in seconds since the Unix epoch.
    pub timestamp_unix: i64,
    /// Cores, rounded up.
    pub cpu_count: u32,
    /// CPU used since the sample before, in per cent of the CPU limit.
    pub cpu_used_pct: f64,
    /// Memory in use.
    pub mem_used: u64,
    /// Memory limit.
    pub mem_total: u64,
    /// Memory that caches use; 0 where the isolation does not tell it apart.
    pub mem_cache: u64,
    /// Writable disk in use.
    pub disk_used: u64,
    /// Writable disk limit.
    pub disk_total: u64,
}

/// Answer of `GET /sandboxes/metrics`: the newest sample of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxesWithMetrics {
    /// By sandbox id; those without a sample yet are absent.
    pub sandboxes: BTreeMap<String, SandboxMetric>,
}
