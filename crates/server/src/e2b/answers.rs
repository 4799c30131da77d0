//! From rows to the wire.

use courier_protocol::e2b::{
    CLIENT_ID, ListedSandbox, Sandbox, SandboxDetail, SandboxLifecycle, SandboxState, Template,
};
use courier_protocol::envd;
use courier_store::{SandboxRow, TemplateRow};
use courier_types::{AccessToken, Limits};

use crate::app::App;
use crate::http::ApiError;
use crate::sandboxes::{SealedSpec, SealedSpecError};

/// Cores, rounded up: the wire has whole ones.
pub(crate) const fn cpu_count(limits: Limits) -> u32 {
    limits.cpu_millis().div_ceil(1_000)
}

fn token(row: &SandboxRow) -> Option<String> {
    row.spec.access_token.as_ref().map(AccessToken::expose).map(str::to_owned)
}

/// What is sealed of a sandbox; nothing where it has ended meanwhile.
async fn sealed(app: &App, row: &SandboxRow) -> Result<SealedSpec, ApiError> {
    match SealedSpec::read(app, &row.project_id, &row.spec.id).await {
        Ok(sealed) => Ok(sealed),
        Err(SealedSpecError::Gone { .. }) => Ok(SealedSpec::default()),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// The answer of create and connect.
pub(crate) async fn sandbox(app: &App, row: &SandboxRow) -> Result<Sandbox, ApiError> {
    let traffic_token = sealed(app, row).await?.network.traffic_token;
    Ok(Sandbox {
        template_id: row.template_id.to_string(),
        sandbox_id: row.spec.id.to_string(),
        client_id: CLIENT_ID.to_owned(),
        envd_version: envd::VERSION.to_owned(),
        alias: row.template_name.clone(),
        envd_access_token: token(row),
        traffic_access_token: traffic_token.as_ref().map(AccessToken::expose).map(str::to_owned),
        domain: app.config.domain.clone(),
    })
}

/// One of a list.
pub(crate) fn listed(row: &SandboxRow) -> ListedSandbox {
    ListedSandbox {
        template_id: row.template_id.to_string(),
        alias: row.template_name.clone(),
        sandbox_id: row.spec.id.to_string(),
        client_id: CLIENT_ID.to_owned(),
        started_at: row.created_at.to_rfc3339(),
        end_at: row.spec.deadline.to_rfc3339(),
        cpu_count: cpu_count(row.spec.limits),
        memory_mb: row.spec.limits.memory_mib(),
        disk_size_mb: row.spec.limits.disk_mib(),
        metadata: row.metadata.clone(),
        state: SandboxState::Running,
        envd_version: envd::VERSION.to_owned(),
    }
}

/// The whole of one.
pub(crate) async fn detail(app: &App, row: &SandboxRow) -> Result<SandboxDetail, ApiError> {
    let asked = sealed(app, row).await?.asked;
    Ok(SandboxDetail {
        listed: listed(row),
        envd_access_token: token(row),
        allow_internet_access: asked.internet,
        domain: app.config.domain.clone(),
        network: asked.config,
        lifecycle: SandboxLifecycle::KILLED_AT_TIMEOUT,
    })
}

/// One template.
pub(crate) fn template(row: &TemplateRow) -> Template {
    Template {
        template_id: row.id.to_string(),
        build_id: row.build_id.clone(),
        cpu_count: cpu_count(row.limits),
        memory_mb: row.limits.memory_mib(),
        disk_size_mb: row.limits.disk_mib(),
        public: row.is_public(),
        aliases: row.names.clone(),
        names: row.names.clone(),
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
        created_by: None,
        last_spawned_at: row.last_spawned_at.map(courier_types::Timestamp::to_rfc3339),
        spawn_count: row.spawn_count,
        build_count: row.build_count,
        envd_version: envd::VERSION.to_owned(),
        build_status: "ready".to_owned(),
    }
}
