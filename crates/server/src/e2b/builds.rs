//! Building templates: request, files, start, and what comes of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{
    BuildLogEntry, BuildStatusReason, ErrorBody, LogLevel, NewTemplateBuild,
    RequestedTemplateBuild, StartTemplateBuild, TemplateBuildInfo, TemplateBuildLogs,
    TemplateFiles,
};
use courier_store::{BuildLogRow, BuildRow, BuildState, LogDirection, LogLevelRow, ProjectRow};
use courier_types::{BuildId, Timestamp};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::answers::build_status;
use super::logs::Direction;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody, PathPair, QueryParams, base_url};
use crate::{builds, templates};

/// Entries of one page of a log, where nobody says, and at most.
const ENTRIES_MAX: u32 = 100;

/// Entries beside the reason of a failure: a screen of what the step said at last.
const REASON_ENTRIES: u32 = 20;

/// Microseconds in a millisecond.
const MICROS: i64 = 1_000;

/// Query of `GET …/status`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatusQuery {
    /// Entries that the client has: of those of `level`, so many are passed over.
    logs_offset: Option<u32>,
    /// Most entries, at most 100 (default).
    limit: Option<u32>,
    /// The least grave level wanted.
    level: Option<LogLevel>,
}

/// Query of `GET …/logs`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct BuildLogsQuery {
    /// Unix milliseconds to begin at.
    cursor: Option<i64>,
    /// Most entries, at most 100 (default).
    limit: Option<u32>,
    /// Which way from the cursor.
    direction: Option<Direction>,
    /// The least grave level wanted.
    level: Option<LogLevel>,
}

/// Ask for a build of a template, which is made where the project has none of that name.
///
/// The build waits to be started. Its tags move to it when it is ready.
#[utoipa::path(
    post,
    path = "/v3/templates",
    tag = "E2B templates",
    request_body = NewTemplateBuild,
    responses(
        (status = 202, description = "It waits", body = RequestedTemplateBuild),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn request(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    JsonBody { value: body, .. }: JsonBody<NewTemplateBuild>,
) -> Result<(StatusCode, Json<RequestedTemplateBuild>), ApiError> {
    let requested = builds::request(&app, &project, body).await?;
    let answer = RequestedTemplateBuild {
        template_id: requested.of.template_id.to_string(),
        build_id: requested.id.to_string(),
        public: requested.of.public,
        names: vec![format!("{}/{}", project.slug, requested.name)],
        tags: requested.tags,
        aliases: vec![requested.name],
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Whether an archive for COPY steps is there, and where to upload it.
#[utoipa::path(
    get,
    path = "/templates/{templateID}/files/{hash}",
    tag = "E2B templates",
    params(
        ("templateID" = String, Path),
        ("hash" = String, Path, description = "64 digits of 0-9 and a-f"),
    ),
    responses(
        (status = 201, description = "So it is", body = TemplateFiles),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn files(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathPair(template, hash): PathPair,
    uri: Uri,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<TemplateFiles>), ApiError> {
    templates::owned(&app, &project, &template).await?;
    if !builds::is_hash(&hash) {
        return Err(ApiError::bad_request("the hash must be 64 digits of 0-9 and a-f"));
    }
    let present = builds::find_upload(&app, &project.id, &hash).await?.is_some();
    let base = base_url(&uri, &headers, app.config.domain.as_deref())?;
    let ticket = builds::ticket(&app, &project.id, &hash);
    let url = format!("{base}/v1/uploads/{}/{hash}?ticket={ticket}", project.id);
    Ok((StatusCode::CREATED, Json(TemplateFiles { present, url: Some(url) })))
}

/// Start a build that waits.
#[utoipa::path(
    post,
    path = "/v2/templates/{templateID}/builds/{buildID}",
    tag = "E2B templates",
    params(("templateID" = String, Path), ("buildID" = String, Path)),
    request_body = StartTemplateBuild,
    responses(
        (status = 202, description = "It is being made"),
        (status = "4XX", description = "Refused; it waits as before", body = ErrorBody),
    )
)]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathPair(template, build): PathPair,
    JsonBody { value: body, .. }: JsonBody<StartTemplateBuild>,
) -> Result<StatusCode, ApiError> {
    let (name, row) = find(&app, &project, &template, &build).await?;
    if row.state != BuildState::Waiting {
        let (id, state) = (&row.id, row.state.as_str());
        return Err(ApiError::bad_request(format!(
            "build '{id}' is {state}: only one that waits can be started"
        )));
    }
    builds::start(&app, &project, (&row, name), body).await?;
    Ok(StatusCode::ACCEPTED)
}

/// How far a build is, with a page of its log.
///
/// A client adds the number of entries that it got to `logsOffset`, and asks until a page is empty
/// after the build's end: nothing is added to the log then.
#[utoipa::path(
    get,
    path = "/templates/{templateID}/builds/{buildID}/status",
    tag = "E2B templates",
    params(("templateID" = String, Path), ("buildID" = String, Path), StatusQuery),
    responses(
        (status = 200, description = "So far", body = TemplateBuildInfo),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathPair(template, build): PathPair,
    QueryParams(query): QueryParams<StatusQuery>,
) -> Result<Json<TemplateBuildInfo>, ApiError> {
    let (_name, row) = find(&app, &project, &template, &build).await?;
    let page = (query.logs_offset.unwrap_or(0).into(), limit(query.limit)?);
    let entries = app.store.build_log(&row.id, level(query.level), page).await?;
    let reason = match &row.state {
        BuildState::Error(reason) => Some(BuildStatusReason {
            message: reason.message.clone(),
            step: reason.step.clone(),
            log_entries: match &reason.step {
                Some(step) => {
                    let rows = app.store.build_log_of_step(&row.id, step, REASON_ENTRIES).await?;
                    rows.into_iter().map(entry).collect()
                }
                None => Vec::new(),
            },
        }),
        BuildState::Waiting | BuildState::Building | BuildState::Ready => None,
    };
    Ok(Json(TemplateBuildInfo {
        template_id: row.template_id.to_string(),
        build_id: row.id.to_string(),
        status: build_status(&row.state),
        logs: Vec::new(),
        log_entries: entries.into_iter().map(entry).collect(),
        reason,
    }))
}

/// The log of a build from a time on, or up to it.
#[utoipa::path(
    get,
    path = "/templates/{templateID}/builds/{buildID}/logs",
    tag = "E2B templates",
    params(("templateID" = String, Path), ("buildID" = String, Path), BuildLogsQuery),
    responses(
        (status = 200, description = "One page", body = TemplateBuildLogs),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathPair(template, build): PathPair,
    QueryParams(query): QueryParams<BuildLogsQuery>,
) -> Result<Json<TemplateBuildLogs>, ApiError> {
    let (_name, row) = find(&app, &project, &template, &build).await?;
    let millis = query.cursor.map(|millis| millis.saturating_mul(MICROS));
    // All of a millisecond is at the cursor, whichever way one goes.
    let (direction, cursor) = match query.direction.unwrap_or_default() {
        Direction::Forward => (LogDirection::Forward, millis),
        Direction::Backward => {
            (LogDirection::Backward, millis.map(|micros| micros.saturating_add(MICROS - 1)))
        }
    };
    let from = (direction, cursor.map(Timestamp::from_micros));
    let (level, limit) = (level(query.level), limit(query.limit)?);
    let rows = app.store.build_log_around(&row.id, level, from, limit).await?;
    Ok(Json(TemplateBuildLogs { logs: rows.into_iter().map(entry).collect() }))
}

/// A build of the project's own template, with the name that the template was asked for by.
async fn find(
    app: &App,
    project: &ProjectRow,
    template: &str,
    build: &str,
) -> Result<(String, BuildRow), ApiError> {
    let (reference, template) = templates::owned(app, project, template).await?;
    let missing = || {
        let shown: String = build.chars().take(64).collect();
        ApiError::not_found(format!("build '{shown}' of template '{reference}' not found"))
    };
    let id: BuildId = build.to_ascii_lowercase().parse().map_err(|_not_an_id| missing())?;
    let row = app.store.find_build(&id).await?;
    let row = row.filter(|row| row.template_id == template.id).ok_or_else(missing)?;
    let name = template.names.first().cloned().unwrap_or_else(|| template.id.to_string());
    Ok((name, row))
}

fn limit(asked: Option<u32>) -> Result<u32, ApiError> {
    let limit = asked.unwrap_or(ENTRIES_MAX);
    if limit > ENTRIES_MAX {
        return Err(ApiError::bad_request(format!("limit must be 0 to {ENTRIES_MAX}")));
    }
    Ok(limit)
}

fn level(asked: Option<LogLevel>) -> LogLevelRow {
    match asked {
        None | Some(LogLevel::Debug) => LogLevelRow::Debug,
        Some(LogLevel::Info) => LogLevelRow::Info,
        Some(LogLevel::Warn) => LogLevelRow::Warn,
        Some(LogLevel::Error) => LogLevelRow::Error,
    }
}

fn entry(row: BuildLogRow) -> BuildLogEntry {
    BuildLogEntry {
        timestamp: row.at.to_rfc3339(),
        message: row.message,
        level: match row.level {
            LogLevelRow::Debug => LogLevel::Debug,
            LogLevelRow::Info => LogLevel::Info,
            LogLevelRow::Warn => LogLevel::Warn,
            LogLevelRow::Error => LogLevel::Error,
        },
        step: Some(row.step),
    }
}
