//! What clients get about templates, and how they tag and change them.

use serde::{Deserialize, Serialize};

use super::{TemplateBuild, TemplateBuildStatus};

/// One template of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Its id.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Id of the build that its name means without a tag; of its newest where there is none such.
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
    /// Its names, with the namespace of a project's.
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
    /// State of its newest build.
    pub build_status: TemplateBuildStatus,
    /// Whether it is one of the installation's own.
    pub is_default: bool,
}

/// Answer of `GET /templates/{templateID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateWithBuilds {
    /// The template.
    #[serde(flatten)]
    pub template: Template,
    /// Its newest builds, newest first.
    pub builds: Vec<TemplateBuild>,
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

/// Body of `PATCH /v2/templates/{templateID}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateUpdate {
    /// Whether every project may use it; absent changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
}

/// Answer of `PATCH /v2/templates/{templateID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdatedTemplate {
    /// Its names, with the namespace.
    pub names: Vec<String>,
}

/// Body of `POST /templates/tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignTags {
    /// The build: `name[:tag]`.
    pub target: String,
    /// Tags that mean that build from now on.
    pub tags: Vec<String>,
}

/// Answer of `POST /templates/tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AssignedTags {
    /// The tags.
    pub tags: Vec<String>,
    /// Id of the build.
    #[serde(rename = "buildID")]
    pub build_id: String,
}

/// Body of `DELETE /templates/tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeleteTags {
    /// Name of the template, without a tag.
    pub name: String,
    /// Tags to take away; not `default`.
    pub tags: Vec<String>,
}

/// One tag of `GET /templates/{templateID}/tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TemplateTag {
    /// The tag.
    pub tag: String,
    /// Id of the build that it means.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// Since when, RFC 3339.
    pub created_at: String,
}
