//! What clients get about sandboxes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NetworkConfig, VolumeMount};

/// Answer of create and connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Id of the template.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Id of the sandbox.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// Deprecated, required: [`super::CLIENT_ID`].
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Version of the envd protocol inside; SDKs gate features on it.
    pub envd_version: String,
    /// Name of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What the data plane wants in `X-Access-Token`; absent where it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// What every port but the guest daemon's wants in `E2b-Traffic-Access-Token`; absent where
    /// they are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_access_token: Option<String>,
    /// Where the data plane is; overrides the SDK's own domain.
    #[serde(default)]
    pub domain: Option<String>,
}

/// States that this API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// Its guest daemon answers.
    Running,
    /// It is stored as a snapshot.
    Paused,
}

/// What a sandbox does at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SandboxLifecycle {
    /// Whether traffic wakes it.
    pub auto_resume: bool,
    /// What happens when its time is up: always `kill` in this version.
    pub on_timeout: OnTimeout,
}

/// What happens when the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// The sandbox is destroyed.
    Kill,
}

impl SandboxLifecycle {
    /// The only lifecycle of this version.
    pub const KILLED_AT_TIMEOUT: Self = Self { auto_resume: false, on_timeout: OnTimeout::Kill };
}

/// One sandbox of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ListedSandbox {
    /// Id of the template.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// Name of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Id of the sandbox.
    #[serde(rename = "sandboxID")]
    pub sandbox_id: String,
    /// Deprecated, required: [`super::CLIENT_ID`].
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// When it was made, RFC 3339.
    pub started_at: String,
    /// When it will be killed, RFC 3339.
    pub end_at: String,
    /// Cores, rounded up.
    pub cpu_count: u32,
    /// Memory in MiB.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u32,
    /// Writable disk in MiB.
    #[serde(rename = "diskSizeMB")]
    pub disk_size_mb: u32,
    /// What the client gave at create.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Its state.
    pub state: SandboxState,
    /// Version of the envd protocol inside.
    pub envd_version: String,
    /// Its volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
}

/// Answer of `GET /sandboxes/{sandboxID}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SandboxDetail {
    /// What a list shows, too.
    #[serde(flatten)]
    pub listed: ListedSandbox,
    /// What the data plane wants in `X-Access-Token`; absent where it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envd_access_token: Option<String>,
    /// What was asked for; `null` where nothing was.
    #[serde(default)]
    pub allow_internet_access: Option<bool>,
    /// Where the data plane is.
    #[serde(default)]
    pub domain: Option<String>,
    /// The network as it was asked for over this API, without the proxy's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
    /// What it does at its end.
    pub lifecycle: SandboxLifecycle,
}
