//! What E2B's wire does not tell of templates.

use std::collections::BTreeMap;

use courier_types::egress::Policy;
use serde::{Deserialize, Serialize};

use super::LimitsBody;

/// What a build says about its sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateConfig {
    /// The user of commands and files that name none.
    pub user: String,
    /// The working directory of commands that name none.
    pub workdir: String,
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// Command line that is started in every sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Command line that succeeds when a sandbox is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
}

/// Answer of `GET /v1/templates/{reference}`: the build that a reference means now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateDetail {
    /// Id of the template.
    pub template_id: String,
    /// Id of the build.
    pub build_id: String,
    /// Names of the template, without its namespace.
    pub names: Vec<String>,
    /// Tags that mean this build.
    pub tags: Vec<String>,
    /// What the build says about its sandboxes.
    pub config: TemplateConfig,
    /// Their caps.
    pub limits: LimitsBody,
    /// Size of its root file system in bytes, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Digest of the image that it started from, where that came from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// What its sandboxes may reach at most; absent bounds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schema::Policy>))]
    pub egress: Option<Policy>,
    /// When the build was asked for, RFC 3339.
    pub created_at: String,
    /// When it was ready, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
}
