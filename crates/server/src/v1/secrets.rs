//! Secrets of the project, and what tokens stand for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{Cursor, ErrorBody, Order};
use courier_protocol::v1::{
    NewSecret, Secret, SecretList, SecretValuePut, TokenAnswer, TokenQuestion,
};
use courier_store::{PagePosition, SecretRow};
use courier_types::egress::GuestToken;
use http::StatusCode;

use super::sandboxes::{PageQuery, page_of};
use crate::app::App;
use crate::auth::Caller;
use crate::clock;
use crate::egress::hash_of;
use crate::http::{ApiError, JsonBody, PathSegment, QueryParams};
use crate::secrets;

/// Secrets of the project, newest first, paged. No answer carries a value.
#[utoipa::path(
    get,
    path = "/v1/secrets",
    tag = "CodeCourier",
    params(PageQuery),
    responses(
        (status = 200, description = "One page", body = SecretList),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<SecretList>, ApiError> {
    let (after, limit): (Option<PagePosition>, u32) = page_of(&query)?;
    let (rows, more) = secrets::page(&app, &project, after.as_ref(), limit).await?;
    let next_token = rows
        .last()
        .filter(|_| more)
        .map(|last| Cursor { at: last.created_at, id: last.id.to_string() }.encode(Order::Desc));
    let secrets = rows.into_iter().map(shown).collect();
    Ok(Json(SecretList { secrets, next_token }))
}

/// Store a secret.
#[utoipa::path(
    post,
    path = "/v1/secrets",
    tag = "CodeCourier",
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
    let name = body.name.as_str();
    let row = secrets::create(&app, &project, name, &body.value, body.metadata).await?;
    Ok((StatusCode::CREATED, Json(shown(row))))
}

/// One secret, by name or id, without its value.
#[utoipa::path(
    get,
    path = "/v1/secrets/{name}",
    tag = "CodeCourier",
    params(("name" = String, Path)),
    responses(
        (status = 200, description = "The secret", body = Secret),
        (status = 404, description = "No such secret", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(name): PathSegment,
) -> Result<Json<Secret>, ApiError> {
    Ok(Json(shown(secrets::find(&app, &project, &name).await?)))
}

/// Give a secret a new value, which counts from its next use on.
#[utoipa::path(
    put,
    path = "/v1/secrets/{name}",
    tag = "CodeCourier",
    params(("name" = String, Path)),
    request_body = SecretValuePut,
    responses(
        (status = 200, description = "Stored", body = Secret),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(name): PathSegment,
    JsonBody { value: body, .. }: JsonBody<SecretValuePut>,
) -> Result<Json<Secret>, ApiError> {
    let row = secrets::update(&app, &project, &name, &body.value, body.metadata).await?;
    Ok(Json(shown(row)))
}

/// Delete a secret. Requests that need it fail from then on, and tokens for it are void.
#[utoipa::path(
    delete,
    path = "/v1/secrets/{name}",
    tag = "CodeCourier",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such secret", body = ErrorBody),
    )
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(name): PathSegment,
) -> Result<StatusCode, ApiError> {
    secrets::delete(&app, &project, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say what a token stands for now, after RFC 7662: for a service of your own behind a tunnel.
#[utoipa::path(
    post,
    path = "/v1/tokens/introspect",
    tag = "CodeCourier",
    request_body = TokenQuestion,
    responses(
        (status = 200, description = "What it stands for, or that it does not count", body = TokenAnswer),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn introspect(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    JsonBody { value: body, .. }: JsonBody<TokenQuestion>,
) -> Result<Json<TokenAnswer>, ApiError> {
    let text = std::str::from_utf8(body.token.value().expose()).unwrap_or_default();
    let Ok(token) = text.parse::<GuestToken>() else { return Ok(Json(TokenAnswer::default())) };
    let live = app.store.find_guest_token(&hash_of(&token), clock::now()).await?;
    let answer = live.filter(|live| live.secret.project_id == project.id).map(|live| TokenAnswer {
        active: true,
        sandbox: Some(live.sandbox.to_string()),
        secret: Some(live.secret.name.to_string()),
        expires_at: Some(live.expires_at.to_rfc3339()),
    });
    Ok(Json(answer.unwrap_or_default()))
}

fn shown(row: SecretRow) -> Secret {
    Secret {
        id: row.id.to_string(),
        name: row.name.to_string(),
        version: row.version,
        metadata: row.metadata,
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
    }
}
