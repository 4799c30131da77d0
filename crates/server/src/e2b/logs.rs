//! A sandbox's lifecycle log. Ended sandboxes have one too, until they are forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, LogLevel, LogLine, SandboxLogs, SandboxLogsV2};
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, PathSegment, QueryParams};
use crate::sandboxes::{TimedEntry, find_any, log_entries};

/// Entries of an answer, where nobody says, and at most.
const ENTRIES_MAX: usize = 1_000;

/// Query of `GET /sandboxes/{sandboxID}/logs`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// Unix milliseconds of the first entry wanted.
    start: Option<i64>,
    /// Most entries.
    limit: Option<usize>,
}

/// Which way the entries run from the cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// Later ones, oldest first.
    #[default]
    Forward,
    /// Earlier ones, newest first.
    Backward,
}

/// Query of `GET /v2/sandboxes/{sandboxID}/logs`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQueryV2 {
    /// Unix milliseconds to begin at.
    cursor: Option<i64>,
    /// Most entries.
    limit: Option<usize>,
    /// Which way from the cursor.
    direction: Option<Direction>,
    /// The least grave level wanted.
    level: Option<LogLevel>,
    /// Only entries whose message has this text.
    search: Option<String>,
}

/// The lifecycle log, oldest first.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandboxID}/logs",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path), LogsQuery),
    responses(
        (status = 200, description = "The log", body = SandboxLogs),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn logs_v1(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    QueryParams(query): QueryParams<LogsQuery>,
) -> Result<Json<SandboxLogs>, ApiError> {
    let row = find_any(&app, &project, &id).await?;
    let mut answer = SandboxLogs::default();
    let wanted = |entry: &TimedEntry| query.start.is_none_or(|start| millis(entry) >= start);
    let limit = query.limit.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
    for TimedEntry { entry, .. } in log_entries(&row).into_iter().filter(wanted).take(limit) {
        let line = serde_json::to_string(&entry).map_err(|error| ApiError::internal(&error))?;
        answer.logs.push(LogLine { timestamp: entry.timestamp.clone(), line });
        answer.log_entries.push(entry);
    }
    Ok(Json(answer))
}

/// The lifecycle log, filtered.
#[utoipa::path(
    get,
    path = "/v2/sandboxes/{sandboxID}/logs",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path), LogsQueryV2),
    responses(
        (status = 200, description = "The log", body = SandboxLogsV2),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn logs_v2(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    QueryParams(query): QueryParams<LogsQueryV2>,
) -> Result<Json<SandboxLogsV2>, ApiError> {
    let row = find_any(&app, &project, &id).await?;
    let direction = query.direction.unwrap_or_default();
    let mut entries = log_entries(&row);
    if direction == Direction::Backward {
        entries.reverse();
    }
    let logs = entries
        .into_iter()
        .filter(|entry| match (query.cursor, direction) {
            (None, _) => true,
            (Some(cursor), Direction::Forward) => millis(entry) >= cursor,
            (Some(cursor), Direction::Backward) => millis(entry) <= cursor,
        })
        .map(|timed| timed.entry)
        .filter(|entry| query.level.is_none_or(|level| entry.level >= level))
        .filter(|entry| query.search.as_ref().is_none_or(|text| entry.message.contains(text)))
        .take(query.limit.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX))
        .collect();
    Ok(Json(SandboxLogsV2 { logs }))
}

const fn millis(entry: &TimedEntry) -> i64 {
    entry.at.as_micros().div_euclid(1_000)
}
