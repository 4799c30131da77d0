//! Secrets as E2B's wire has them. A value goes in and never comes out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{Cursor, ErrorBody, NewSecret, Order, Secret, SecretUpdate};
use courier_store::{PagePosition, SecretRow};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::list::{PAGE_MAX, cursor, page_limit};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody, PathSegment, QueryParams};
use crate::secrets;

const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");

/// Query of `GET /secrets`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct SecretsQuery {
    /// `X-Next-Token` of the page before.
    next_token: Option<String>,
    /// Items of the page, 1 to 100 (default).
    limit: Option<u32>,
}

/// Secrets of the project, newest first, paged. The cursor of the next page is in `X-Next-Token`.
#[utoipa::path(
    get,
    path = "/secrets",
    tag = "E2B secrets",
    params(SecretsQuery),
    responses(
        (status = 200, description = "One page", body = Vec<Secret>),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<SecretsQuery>,
) -> Result<(HeaderMap, Json<Vec<Secret>>), ApiError> {
    page_limit(query.limit)?;
    let after = cursor(query.next_token.as_deref(), Order::Desc)?
        .map(|cursor| PagePosition { created_at: cursor.at, id: cursor.id });
    let limit = query.limit.unwrap_or(PAGE_MAX);
    let (rows, more) = secrets::page(&app, &project, after.as_ref(), limit).await?;
    let mut headers = HeaderMap::new();
    if let Some(last) = rows.last().filter(|_| more) {
        let cursor = Cursor { at: last.created_at, id: last.id.to_string() };
        let token = HeaderValue::from_str(&cursor.encode(Order::Desc));
        headers.insert(NEXT_TOKEN, token.expect("base64url is a header value"));
    }
    Ok((headers, Json(rows.into_iter().map(shown).collect())))
}

/// Store a secret.
///
/// Names have 1 to 63 characters of a-z, 0-9, '-', '_' and '.'; capitals are made small.
#[utoipa::path(
    post,
    path = "/secrets",
    tag = "E2B secrets",
    request_body = NewSecret,
    responses(
        (status = 201, description = "Stored", body = Secret),
        (status = 409, description = "The project has one of that name", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    JsonBody { value: body, .. }: JsonBody<NewSecret>,
) -> Result<(StatusCode, Json<Secret>), ApiError> {
    let metadata = body.metadata.unwrap_or_default();
    let row = secrets::create(&app, &project, &body.name, &body.value, metadata).await?;
    Ok((StatusCode::CREATED, Json(shown(row))))
}

/// One secret, by id or name.
#[utoipa::path(
    get,
    path = "/secrets/{secretID}",
    tag = "E2B secrets",
    params(("secretID" = String, Path)),
    responses(
        (status = 200, description = "The secret, without its value", body = Secret),
        (status = 404, description = "No such secret", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(secret): PathSegment,
) -> Result<Json<Secret>, ApiError> {
    Ok(Json(shown(secrets::find(&app, &project, &secret).await?)))
}

/// Give a secret a new value, which counts from its next use on.
#[utoipa::path(
    post,
    path = "/secrets/{secretID}",
    tag = "E2B secrets",
    params(("secretID" = String, Path)),
    request_body = SecretUpdate,
    responses(
        (status = 200, description = "Stored", body = Secret),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(secret): PathSegment,
    JsonBody { value: body, .. }: JsonBody<SecretUpdate>,
) -> Result<Json<Secret>, ApiError> {
    let row = secrets::update(&app, &project, &secret, &body.value, body.metadata).await?;
    Ok(Json(shown(row)))
}

/// Delete a secret. Requests that need it fail from then on, and tokens for it are void.
#[utoipa::path(
    delete,
    path = "/secrets/{secretID}",
    tag = "E2B secrets",
    params(("secretID" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such secret", body = ErrorBody),
    )
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(secret): PathSegment,
) -> Result<StatusCode, ApiError> {
    secrets::delete(&app, &project, &secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(row: SecretRow) -> Secret {
    Secret {
        secret_id: row.id.to_string(),
        name: row.name.to_string(),
        current_version: row.version,
        metadata: row.metadata,
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
    }
}
