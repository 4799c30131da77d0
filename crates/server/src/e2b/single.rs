//! One sandbox: detail, kill, timeout, refresh.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, RefreshRequest, SandboxDetail, TimeoutRequest};
use http::StatusCode;

use super::answers;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody, OptionalJsonBody, PathSegment};
use crate::sandboxes::{self, DeadlineChange, admit_timeout, find_any, find_usable, move_deadline};

/// Shortest and longest refresh, in seconds.
const REFRESH_SECS: std::ops::RangeInclusive<i64> = 15..=3_600;

/// One running sandbox.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandboxID}",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    responses(
        (status = 200, description = "It runs", body = SandboxDetail),
        (status = 404, description = "No such sandbox, or it has ended", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<Json<SandboxDetail>, ApiError> {
    let row = find_usable(&app, &project, &id).await?;
    Ok(Json(answers::detail(&app, &row).await?))
}

/// Kill a sandbox, whatever it is doing, and return when it is gone.
#[utoipa::path(
    delete,
    path = "/sandboxes/{sandboxID}",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such sandbox, or it has ended before", body = ErrorBody),
    )
)]
pub(crate) async fn kill(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<StatusCode, ApiError> {
    let row = find_any(&app, &project, &id).await?;
    if row.ended_at.is_some() {
        let id = &row.spec.id;
        return Err(ApiError::not_found(format!("Sandbox \"{id}\" not found: it has ended")));
    }
    sandboxes::kill(&app, &row.spec.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set when a sandbox will be killed, from now; may be sooner than before.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/timeout",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = TimeoutRequest,
    responses(
        (status = 204, description = "Set"),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn set_timeout(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    body: JsonBody<TimeoutRequest>,
) -> Result<StatusCode, ApiError> {
    let secs = body.value.timeout.ok_or_else(|| ApiError::bad_request("timeout is required"))?;
    let secs = u64::try_from(secs)
        .map_err(|_negative| ApiError::bad_request("Timeout must not be negative"))?;
    let timeout = Duration::from_secs(secs);
    if !timeout.is_zero() {
        admit_timeout(&app, timeout)?;
    }
    let row = find_usable(&app, &project, &id).await?;
    move_deadline(&app, &row, DeadlineChange::Set(timeout)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a sandbox live at least so much longer (deprecated: use `…/timeout`).
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/refreshes",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = Option<RefreshRequest>,
    responses(
        (status = 204, description = "Refreshed"),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn refresh(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    OptionalJsonBody(body): OptionalJsonBody<RefreshRequest>,
) -> Result<StatusCode, ApiError> {
    let asked = body.duration.unwrap_or(*REFRESH_SECS.start());
    let secs = u64::try_from(asked.max(*REFRESH_SECS.start()))
        .ok()
        .filter(|_| asked >= 0 && asked <= *REFRESH_SECS.end())
        .ok_or_else(|| ApiError::bad_request("duration must be 0 to 3600 seconds"))?;
    let timeout = admit_timeout(&app, Duration::from_secs(secs))?;
    let row = find_usable(&app, &project, &id).await?;
    move_deadline(&app, &row, DeadlineChange::Extend(timeout)).await?;
    Ok(StatusCode::NO_CONTENT)
}
