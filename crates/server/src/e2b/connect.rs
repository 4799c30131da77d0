//! `POST …/connect`: a running sandbox again, with more time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ConnectSandbox, ErrorBody, Sandbox};
use courier_store::ProjectRow;

use super::create::seconds;
use super::{TIMEOUT_SECS, answers};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody, OptionalJsonBody, PathSegment};
use crate::sandboxes::{DeadlineChange, admit_timeout, find_usable, move_deadline};

/// Connect to a running sandbox; its time is extended, never shortened.
#[utoipa::path(
    post,
    path = "/v2/sandboxes/{sandboxID}/connect",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = Option<ConnectSandbox>,
    responses(
        (status = 200, description = "It runs", body = Sandbox),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn connect_v2(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    OptionalJsonBody(body): OptionalJsonBody<ConnectSandbox>,
) -> Result<Json<Sandbox>, ApiError> {
    connect(&app, &project, &id, body.timeout.unwrap_or(TIMEOUT_SECS)).await
}

/// Connect to a running sandbox (deprecated: use `/v2/…`); `timeout` is required.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/connect",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = ConnectSandbox,
    responses(
        (status = 200, description = "It runs", body = Sandbox),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn connect_v1(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    body: JsonBody<ConnectSandbox>,
) -> Result<Json<Sandbox>, ApiError> {
    let timeout = body.value.timeout.ok_or_else(|| ApiError::bad_request("timeout is required"))?;
    connect(&app, &project, &id, timeout).await
}

async fn connect(
    app: &App,
    project: &ProjectRow,
    id: &str,
    timeout_secs: i64,
) -> Result<Json<Sandbox>, ApiError> {
    let timeout = admit_timeout(app, seconds(timeout_secs)?)?;
    let row = find_usable(app, project, id).await?;
    move_deadline(app, &row, DeadlineChange::Extend(timeout)).await?;
    Ok(Json(answers::sandbox(app, &row).await?))
}
