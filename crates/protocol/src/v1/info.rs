//! What this installation is.

use courier_types::LimitRange;
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Info {
    /// Version of the server.
    pub version: String,
    /// Isolation of the sandboxes: `gvisor`, `microvm`, `emulated` or `fake`.
    pub isolation: String,
    /// Name and version of the isolation technology.
    pub technology: String,
    /// Version of the envd protocol inside.
    pub envd_version: String,
    /// Where the data plane is, in domain mode.
    pub domain: Option<String>,
    /// Ranges and defaults of the limits.
    pub limits: Vec<LimitRangeInfo>,
    /// Longest lifetime of a sandbox, from now, in milliseconds.
    pub timeout_ms_max: u64,
    /// Sandboxes that one project may have at once.
    pub sandboxes_max: u64,
}

/// Range and default of one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitRangeInfo {
    /// Its name, with its unit.
    pub name: String,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
    /// Value when nobody says anything.
    pub default: u64,
}

impl From<LimitRange> for LimitRangeInfo {
    fn from(range: LimitRange) -> Self {
        Self { name: range.name.to_owned(), min: range.min, max: range.max, default: range.default }
    }
}
