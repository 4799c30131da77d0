//! `POST /v2/sandboxes` and its deprecated sister.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, NewSandbox, Sandbox};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};

use super::{TIMEOUT_SECS, TIMEOUT_SECS_V1, answers};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody};
use crate::random;
use crate::sandboxes::{self, AdmissionError, CreateOrder, DataPlane, IdempotencyKey};

/// Make a sandbox and return when it can be used.
///
/// The sandbox has no network in this version, whatever `allow_internet_access` says. With an
/// `Idempotency-Key` the same request gives the same sandbox for 24 hours.
#[utoipa::path(
    post,
    path = "/v2/sandboxes",
    tag = "E2B sandboxes",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters of a-z, 0-9 and '-'")),
    request_body = NewSandbox,
    responses(
        (status = 201, description = "The sandbox runs", body = Sandbox),
        (status = "4XX", description = "Refused; nothing was made", body = ErrorBody),
        (status = "5XX", description = "Failed; nothing is left", body = ErrorBody),
    )
)]
pub(crate) async fn create_v2(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    headers: HeaderMap,
    body: JsonBody<NewSandbox>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let key = idempotency_key(&headers, &body.bytes)?;
    let mut order = order(&app, &project, body.value, TIMEOUT_SECS).await?;
    order.idempotency = key;
    create(&app, order).await
}

/// Make a sandbox and return when it can be used (deprecated: use `/v2/sandboxes`).
///
/// The default timeout is 15 seconds, and the data plane is open unless `secure` is true.
#[utoipa::path(
    post,
    path = "/sandboxes",
    tag = "E2B sandboxes",
    request_body = NewSandbox,
    responses(
        (status = 201, description = "The sandbox runs", body = Sandbox),
        (status = "4XX", description = "Refused; nothing was made", body = ErrorBody),
        (status = "5XX", description = "Failed; nothing is left", body = ErrorBody),
    )
)]
pub(crate) async fn create_v1(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    body: JsonBody<NewSandbox>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let guarded = body.value.secure == Some(true);
    let mut order = order(&app, &project, body.value, TIMEOUT_SECS_V1).await?;
    order.data_plane = if guarded { DataPlane::Guarded } else { DataPlane::Open };
    create(&app, order).await
}

async fn create(
    app: &Arc<App>,
    order: CreateOrder,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let row = sandboxes::create(app, order).await.map_err(|error| ApiError::from(&*error))?;
    Ok((StatusCode::CREATED, Json(answers::sandbox(app, &row))))
}

async fn order(
    app: &App,
    project: &courier_store::ProjectRow,
    request: NewSandbox,
    default_timeout_secs: i64,
) -> Result<CreateOrder, ApiError> {
    if let Some(field) = request.first_unmet() {
        return Err(ApiError::not_in_this_version(&format!("what {field:?} asks for")));
    }
    let timeout = seconds(request.timeout.unwrap_or(default_timeout_secs))?;
    let (env, metadata) = (request.env_vars, request.metadata);
    Ok(CreateOrder::new(app, project, &request.template_id, timeout)
        .await?
        .with_pairs(env.unwrap_or_default(), metadata.unwrap_or_default())?)
}

/// A span from the wire's seconds; zero and less is refused as zero is.
pub(crate) fn seconds(seconds: i64) -> Result<Duration, AdmissionError> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or(AdmissionError::TimeoutZero)
}

fn idempotency_key(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, AdmissionError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map_err(|_not_ascii| AdmissionError::IdempotencyKey)?;
    IdempotencyKey::parse(key, random::hex(&Sha256::digest(body))).map(Some)
}
