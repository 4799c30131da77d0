//! Sandboxes.

use std::collections::BTreeMap;

use courier_types::egress::Policy;
use courier_types::{EndReason, Isolation, ObservedState, Usage};
use serde::{Deserialize, Serialize};

use super::{EnvValue, LimitsBody};
use crate::e2b::VolumeMount;

/// Body of `POST /v1/sandboxes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = v1::NewSandbox))]
#[serde(deny_unknown_fields)]
pub struct NewSandbox {
    /// Name, `name:tag` or id of the template; `base` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Caps; what is absent takes the template's value.
    #[serde(default)]
    pub limits: LimitsBody,
    /// Milliseconds until the sandbox is killed; 300,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Environment of every command inside.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// What it may reach, at most what its template may; absent: what the template says, or the
    /// server where that says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schema::Policy>))]
    pub egress: Option<Policy>,
    /// What to find the sandbox by.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Volumes, by name, and where they are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Refuse unless the sandbox has this isolation: `gvisor` or `microvm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub isolation: Option<Isolation>,
}

/// Body of `PATCH /v1/sandboxes/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SandboxPatch {
    /// Milliseconds from now until the sandbox is killed; may be sooner than before.
    pub timeout_ms: u64,
}

/// States on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = v1::SandboxState))]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// Being made; nothing has run.
    Creating,
    /// Its guest daemon answers.
    Running,
    /// Being destroyed.
    Killing,
    /// Gone, as it should be.
    Killed,
    /// Gone, as it should not be.
    Error,
}

impl From<ObservedState> for SandboxState {
    fn from(state: ObservedState) -> Self {
        match state {
            ObservedState::Creating => Self::Creating,
            ObservedState::Running => Self::Running,
            ObservedState::Killing => Self::Killing,
            ObservedState::Killed { .. } => Self::Killed,
            ObservedState::Error { .. } => Self::Error,
        }
    }
}

/// What a sandbox has used, the isolation's overhead included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageBody {
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// Highest memory, in bytes.
    pub memory_peak_bytes: u64,
    /// CPU time, in microseconds.
    pub cpu_micros: u64,
    /// Writable disk in use, in bytes.
    pub disk_bytes: u64,
    /// Processes that the kernel killed for memory.
    pub oom_kills: u64,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            memory_bytes: usage.memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            cpu_micros: usage.cpu_micros,
            disk_bytes: usage.disk_bytes,
            oom_kills: usage.oom_kills,
        }
    }
}

/// A sandbox, alive or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = v1::Sandbox))]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// Id of its template.
    pub template_id: String,
    /// The template as it was asked for.
    pub template: String,
    /// Its state.
    pub state: SandboxState,
    /// Why it ended, where it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub reason: Option<EndReason>,
    /// More about its end, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The boundary around it.
    pub isolation: String,
    /// Its caps.
    pub limits: LimitsBody,
    /// What the client gave at create.
    pub metadata: BTreeMap<String, String>,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When its guest daemon first answered, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it will be killed, RFC 3339.
    pub end_at: String,
    /// When it ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// What it has used, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageBody>,
    /// What its data plane wants in `X-Access-Token`; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Where its data plane is, in domain mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// One page of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxList {
    /// The sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
