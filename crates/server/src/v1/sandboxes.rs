//! Sandboxes, ended ones too.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{Cursor, ErrorBody, Order};
use courier_protocol::v1::{NewSandbox, Sandbox, SandboxList, SandboxPatch};
use courier_store::{PageOrder, PagePosition, SandboxRow};
use courier_types::{AccessToken, Timestamp};
use http::StatusCode;
use serde::Deserialize;

use super::DEFAULT_TEMPLATE;
use crate::app::App;
use crate::auth::Caller;
use crate::egress::Asked;
use crate::http::{ApiError, JsonBody, PathSegment, QueryParams};
use crate::sandboxes::{
    self, CreateOrder, DeadlineChange, admit_timeout, find_any, find_usable, move_deadline,
};

/// How long a sandbox lives when nobody says.
const TIMEOUT_MS: u64 = 300_000;

/// Items of a page, where nobody says, and at most.
const PAGE_MAX: u32 = 100;

/// Query of `GET /v1/sandboxes`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `next_token` of the page before.
    next_token: Option<String>,
    /// Items of the page, 1 to 100 (default).
    limit: Option<u32>,
}

/// Make a sandbox and return when it can be used.
#[utoipa::path(
    post,
    path = "/v1/sandboxes",
    tag = "CodeCourier",
    request_body = NewSandbox,
    responses(
        (status = 201, description = "The sandbox runs", body = Sandbox),
        (status = "4XX", description = "Refused; nothing was made", body = ErrorBody),
        (status = "5XX", description = "Failed; nothing is left", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    body: JsonBody<NewSandbox>,
) -> Result<(StatusCode, Json<Sandbox>), ApiError> {
    let request = body.value;
    let template = request.template.as_deref().unwrap_or(DEFAULT_TEMPLATE);
    let timeout = Duration::from_millis(request.timeout_ms.unwrap_or(TIMEOUT_MS));
    let asked = request.egress.map_or(Asked::Nothing, Asked::Whole);
    let order = CreateOrder::new(&app, &project, template, timeout)
        .await?
        .with_limits(request.limits)?
        .with_egress(&app, asked)
        .await?
        .with_env(&app, request.env)
        .await?
        .with_metadata(request.metadata)?
        .with_volumes(&app, &request.volumes)
        .await?
        .require_isolation(&app, request.isolation)?;
    let row = sandboxes::create(&app, order).await.map_err(|error| ApiError::from(&*error))?;
    Ok((StatusCode::CREATED, Json(whole(&app, &row))))
}

/// Sandboxes, newest first, ended ones too, paged.
#[utoipa::path(
    get,
    path = "/v1/sandboxes",
    tag = "CodeCourier",
    params(PageQuery),
    responses(
        (status = 200, description = "One page", body = SandboxList),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<SandboxList>, ApiError> {
    let (after, limit) = page_of(&query)?;
    let order = PageOrder::Descending;
    let mut rows = app.store.page_sandboxes(&project.id, order, after.as_ref(), limit + 1).await?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > page;
    rows.truncate(page);
    let next_token = rows.last().filter(|_| more).map(|last| {
        Cursor { at: last.created_at, id: last.spec.id.to_string() }.encode(Order::Desc)
    });
    let sandboxes = rows.iter().map(|row| without_token(&app, row)).collect();
    Ok(Json(SandboxList { sandboxes, next_token }))
}

/// Which page is asked for: what comes before it, and how many items it has at most.
pub(super) fn page_of(query: &PageQuery) -> Result<(Option<PagePosition>, u32), ApiError> {
    let limit = query.limit.unwrap_or(PAGE_MAX);
    if limit == 0 || limit > PAGE_MAX {
        return Err(ApiError::bad_request(format!("limit must be 1 to {PAGE_MAX}")));
    }
    let after = query
        .next_token
        .as_deref()
        .map(|token| Cursor::decode(token, Order::Desc))
        .transpose()
        .map_err(|error| ApiError::bad_request(error.to_string()))?
        .map(|cursor| PagePosition { created_at: cursor.at, id: cursor.id });
    Ok((after, limit))
}

/// One sandbox, alive or ended, with what it uses now or used.
#[utoipa::path(
    get,
    path = "/v1/sandboxes/{id}",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The sandbox", body = Sandbox),
        (status = 404, description = "No such sandbox", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<Json<Sandbox>, ApiError> {
    let mut row = find_any(&app, &project, &id).await?;
    if row.is_usable()
        && let Ok(usage) = app.node.usage(&row.spec.id).await
    {
        row.usage = Some(usage);
    }
    Ok(Json(whole(&app, &row)))
}

/// Set when a sandbox will be killed.
#[utoipa::path(
    patch,
    path = "/v1/sandboxes/{id}",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    request_body = SandboxPatch,
    responses(
        (status = 200, description = "The sandbox", body = Sandbox),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    body: JsonBody<SandboxPatch>,
) -> Result<Json<Sandbox>, ApiError> {
    let timeout = admit_timeout(&app, Duration::from_millis(body.value.timeout_ms))?;
    let mut row = find_usable(&app, &project, &id).await?;
    row.spec.deadline = move_deadline(&app, &row, DeadlineChange::Set(timeout)).await?;
    Ok(Json(whole(&app, &row)))
}

/// Kill a sandbox, whatever it is doing, and return when it is gone. Killing it twice is no error.
#[utoipa::path(
    delete,
    path = "/v1/sandboxes/{id}",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is gone; this is how it ended", body = Sandbox),
        (status = 404, description = "No such sandbox", body = ErrorBody),
    )
)]
pub(crate) async fn kill(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<Json<Sandbox>, ApiError> {
    let row = find_any(&app, &project, &id).await?;
    let row = sandboxes::kill(&app, &row.spec.id).await?.unwrap_or(row);
    Ok(Json(without_token(&app, &row)))
}

fn without_token(app: &App, row: &SandboxRow) -> Sandbox {
    Sandbox {
        id: row.spec.id.to_string(),
        template_id: row.template_id.to_string(),
        template: row.spec.template.clone(),
        state: row.observed.into(),
        reason: row.end_reason(),
        detail: row.detail.clone(),
        isolation: app.node_info.isolation.to_string(),
        limits: row.spec.limits.into(),
        metadata: row.metadata.clone(),
        created_at: row.created_at.to_rfc3339(),
        started_at: row.started_at.map(Timestamp::to_rfc3339),
        end_at: row.spec.deadline.to_rfc3339(),
        ended_at: row.ended_at.map(Timestamp::to_rfc3339),
        usage: row.usage.map(Into::into),
        access_token: None,
        domain: app.config.domain.clone(),
    }
}

fn whole(app: &App, row: &SandboxRow) -> Sandbox {
    let token = row.spec.access_token.as_ref().filter(|_| row.ended_at.is_none());
    Sandbox {
        access_token: token.map(AccessToken::expose).map(str::to_owned),
        ..without_token(app, row)
    }
}
