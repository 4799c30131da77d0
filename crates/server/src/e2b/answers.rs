//! From rows to the wire.

use courier_protocol::e2b::{
    CLIENT_ID, ListedSandbox, Sandbox, SandboxDetail, SandboxLifecycle, SandboxState, Template,
    TemplateBuild, TemplateBuildStatus,
};
use courier_protocol::envd;
use courier_store::{BuildRow, BuildState, ProjectRow, SandboxRow, TemplateRow};
use courier_types::{AccessToken, Limits, Timestamp};

use crate::app::App;
use crate::http::ApiError;
use crate::sandboxes::{SealedSpec, SealedSpecError};
use crate::volumes;

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
pub(crate) async fn listed(app: &App, row: &SandboxRow) -> Result<ListedSandbox, ApiError> {
    Ok(ListedSandbox {
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
        volume_mounts: volumes::shown(app, &row.spec.id).await?,
    })
}

/// Several of a list.
pub(crate) async fn list(app: &App, rows: &[SandboxRow]) -> Result<Vec<ListedSandbox>, ApiError> {
    let mut list = Vec::with_capacity(rows.len());
    for row in rows {
        list.push(listed(app, row).await?);
    }
    Ok(list)
}

/// The whole of one.
pub(crate) async fn detail(app: &App, row: &SandboxRow) -> Result<SandboxDetail, ApiError> {
    let asked = sealed(app, row).await?.asked;
    Ok(SandboxDetail {
        listed: listed(app, row).await?,
        envd_access_token: token(row),
        allow_internet_access: asked.internet,
        domain: app.config.domain.clone(),
        network: asked.config,
        lifecycle: SandboxLifecycle::KILLED_AT_TIMEOUT,
    })
}

/// The names of a template as answers show them: with the namespace, where it has one.
pub(crate) fn names(project: &ProjectRow, row: &TemplateRow) -> Vec<String> {
    let own = row.project_id.as_ref() == Some(&project.id);
    let full = |name: &String| if own { format!("{}/{name}", project.slug) } else { name.clone() };
    row.names.iter().map(full).collect()
}

/// The state of a build on the wire.
pub(crate) const fn build_status(state: &BuildState) -> TemplateBuildStatus {
    match state {
        BuildState::Waiting => TemplateBuildStatus::Waiting,
        BuildState::Building => TemplateBuildStatus::Building,
        BuildState::Ready => TemplateBuildStatus::Ready,
        BuildState::Error(_) => TemplateBuildStatus::Error,
    }
}

/// One template, with its newest build and the one that its name means.
pub(crate) fn template(
    project: &ProjectRow,
    row: &TemplateRow,
    newest: &BuildRow,
    current: &BuildRow,
) -> Template {
    Template {
        template_id: row.id.to_string(),
        build_id: current.id.to_string(),
        cpu_count: cpu_count(current.limits),
        memory_mb: current.limits.memory_mib(),
        disk_size_mb: current.limits.disk_mib(),
        public: row.public,
        aliases: row.names.clone(),
        names: names(project, row),
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
        created_by: None,
        last_spawned_at: row.last_spawned_at.map(Timestamp::to_rfc3339),
        spawn_count: row.spawn_count,
        build_count: row.build_count,
        envd_version: envd::VERSION.to_owned(),
        build_status: build_status(&newest.state),
        is_default: row.project_id.is_none(),
    }
}

/// One build of a template.
pub(crate) fn build(row: &BuildRow) -> TemplateBuild {
    TemplateBuild {
        build_id: row.id.to_string(),
        status: build_status(&row.state),
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
        finished_at: row.finished_at.map(Timestamp::to_rfc3339),
        cpu_count: cpu_count(row.limits),
        memory_mb: row.limits.memory_mib(),
        disk_size_mb: row.limits.disk_mib(),
        envd_version: envd::VERSION.to_owned(),
    }
}
