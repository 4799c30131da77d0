//! What clients get about templates.

use serde::{Deserialize, Serialize};

/// One template of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Its id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Id of its newest build.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// Cores of its sandboxes, rounded up.
    pub cpu_count: u32,
    /// Memory of its sandboxes in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Writable disk of its sandboxes in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// Whether every project may use it.
    pub public: bool,
    /// Its names, without a namespace.
    pub aliases: Vec<String>,
    /// Its names.
    pub names: Vec<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last built, RFC 3339.
    pub updated_at: String,
    /// Who made it: nobody is named in this version.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub created_by: Option<()>,
    /// When a sandbox was last made from it, RFC 3339.
    pub last_spawned_at: Option<String>,
    /// How many sandboxes were made from it.
    pub spawn_count: u64,
    /// How often it was built.
    pub build_count: u64,
    /// Version of the envd protocol inside.
    pub envd_version: String,
    /// State of its newest build: only finished ones are listed.
    pub build_status: String,
}

/// Answer of `GET /templates/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TemplateAlias {
    /// Id of the template of that name.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Whether every project may use it.
    pub public: bool,
}
