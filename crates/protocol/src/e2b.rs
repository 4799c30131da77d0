//! E2B's control-plane REST API: the bodies, and the small grammars inside its query parameters.
//!
//! Requests ignore unknown fields, because the SDKs leak extra ones; what would silently weaken a
//! sandbox or silently do nothing is listed by name and refused by the server. Field names are the
//! wire's own.

mod build;
mod cursor;
mod error;
mod logs;
mod metadata;
mod metrics;
mod network;
mod sandbox;
mod sandbox_request;
mod secret;
mod template;
mod template_ref;
mod volume;

pub use build::{
    BuildLogEntry, BuildStatusReason, ImageRegistry, NewTemplateBuild, RequestedTemplateBuild,
    StartTemplateBuild, TemplateBuild, TemplateBuildInfo, TemplateBuildLogs, TemplateBuildStatus,
    TemplateFiles, TemplateStep,
};
pub use cursor::{Cursor, CursorError, Order};
pub use error::ErrorBody;
pub use logs::{LogEntry, LogLevel, LogLine, SandboxLogs, SandboxLogsV2};
pub use metadata::{MetadataFilter, MetadataFilterError};
pub use metrics::{SandboxMetric, SandboxesWithMetrics};
pub use network::{
    EgressProxy, EgressProxyTls, NetworkConfig, NetworkRule, NetworkTransform, NetworkUpdate,
};
pub use sandbox::{
    ListedSandbox, OnTimeout, Sandbox, SandboxDetail, SandboxLifecycle, SandboxState,
};
pub use sandbox_request::{
    AutoResume, ConnectSandbox, Iam, NewSandbox, RefreshRequest, TimeoutRequest, VolumeMount,
};
pub use secret::{NewSecret, Secret, SecretUpdate};
pub use template::{
    AssignTags, AssignedTags, DeleteTags, Template, TemplateAlias, TemplateTag, TemplateUpdate,
    TemplateWithBuilds, UpdatedTemplate,
};
pub use template_ref::{TemplateRef, TemplateRefError};
pub use volume::{
    NewVolume, Volume, VolumeAndToken, VolumeEntry, VolumeEntryKind, VolumeMetadata, VolumeQuery,
};

/// The deprecated `clientID` that every sandbox must still carry.
pub const CLIENT_ID: &str = "courier";

/// Cuts the legacy suffix off a sandbox id in a path: `ID-CLIENT` names the sandbox `ID`.
#[must_use]
pub fn strip_client_id(path_segment: &str) -> &str {
    path_segment.split_once('-').map_or(path_segment, |(id, _client)| id)
}
