//! Templates: what there is to make sandboxes from, and whose it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{
    Cursor, ErrorBody, Order, Template, TemplateAlias, TemplateUpdate, TemplateWithBuilds,
    UpdatedTemplate,
};
use courier_store::{BuildKey, DEFAULT_TAG, ProjectRow, TemplateRow};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::answers;
use super::list::{cursor, page_limit};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody, PathSegment, QueryParams};
use crate::templates;

const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");

/// Builds that the answer about one template shows: more than are kept without a tag.
const BUILDS_SHOWN: u32 = 100;

/// Query of `GET /v2/templates`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct TemplatesQuery {
    /// `X-Next-Token` of the page before.
    next_token: Option<String>,
    /// Items of the page, 1 to 100 (default).
    limit: Option<u32>,
}

/// All templates of the project and of the installation, oldest first.
#[utoipa::path(
    get,
    path = "/templates",
    tag = "E2B templates",
    responses((status = 200, description = "All of them", body = Vec<Template>))
)]
pub(crate) async fn list_v1(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
) -> Result<Json<Vec<Template>>, ApiError> {
    let rows = app.store.list_templates(&project.id).await?;
    Ok(Json(shown(&app, &project, &rows).await?))
}

/// Templates of the project and of the installation, oldest first, paged.
#[utoipa::path(
    get,
    path = "/v2/templates",
    tag = "E2B templates",
    params(TemplatesQuery),
    responses(
        (status = 200, description = "One page", body = Vec<Template>),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(crate) async fn list_v2(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<TemplatesQuery>,
) -> Result<(HeaderMap, Json<Vec<Template>>), ApiError> {
    let limit = page_limit(query.limit)?;
    let after = cursor(query.next_token.as_deref(), Order::Asc)?;
    let mut rows = app.store.list_templates(&project.id).await?;
    if let Some(after) = &after {
        rows.retain(|row| (row.created_at, row.id.as_str()) > (after.at, after.id.as_str()));
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut headers = HeaderMap::new();
    if let Some(last) = rows.last().filter(|_| more) {
        let token = Cursor { at: last.created_at, id: last.id.to_string() }.encode(Order::Asc);
        let token = HeaderValue::from_str(&token).expect("base64url is a header value");
        headers.insert(NEXT_TOKEN, token);
    }
    Ok((headers, Json(shown(&app, &project, &rows).await?)))
}

/// One template with its newest builds, by name or id.
#[utoipa::path(
    get,
    path = "/templates/{templateID}",
    tag = "E2B templates",
    params(("templateID" = String, Path)),
    responses(
        (status = 200, description = "The template", body = TemplateWithBuilds),
        (status = 404, description = "No such template", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(text): PathSegment,
) -> Result<Json<TemplateWithBuilds>, ApiError> {
    let (reference, row) = templates::template(&app, &project, &text).await?;
    let builds = app.store.list_builds(&row.id, BUILDS_SHOWN).await?;
    let mut shown = shown(&app, &project, std::slice::from_ref(&row)).await?;
    let template = shown
        .pop()
        .ok_or_else(|| ApiError::not_found(format!("template '{reference}' has no build")))?;
    Ok(Json(TemplateWithBuilds { template, builds: builds.iter().map(answers::build).collect() }))
}

/// Say whether every project may use a template.
#[utoipa::path(
    patch,
    path = "/v2/templates/{templateID}",
    tag = "E2B templates",
    params(("templateID" = String, Path)),
    request_body = TemplateUpdate,
    responses(
        (status = 200, description = "It is so", body = UpdatedTemplate),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(text): PathSegment,
    JsonBody { value: body, .. }: JsonBody<TemplateUpdate>,
) -> Result<Json<UpdatedTemplate>, ApiError> {
    let (_reference, row) = templates::owned(&app, &project, &text).await?;
    if let Some(public) = body.public {
        app.store.set_public(&row.id, public).await?;
    }
    Ok(Json(UpdatedTemplate { names: answers::names(&project, &row) }))
}

/// Delete a template with all its builds. What is being built of it is cancelled.
#[utoipa::path(
    delete,
    path = "/templates/{templateID}",
    tag = "E2B templates",
    params(("templateID" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "Sandboxes of it are alive", body = ErrorBody),
        (status = 403, description = "It is not the project's", body = ErrorBody),
        (status = 404, description = "No such template", body = ErrorBody),
    )
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(text): PathSegment,
) -> Result<StatusCode, ApiError> {
    let (reference, row) = templates::owned(&app, &project, &text).await?;
    if reference.tag().is_some() {
        return Err(ApiError::bad_request(
            "a template is deleted by its name or id without a tag; DELETE /templates/tags takes \
             tags away",
        ));
    }
    templates::delete(&app, &row).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which template a name belongs to. With a tag, only where that means a build.
#[utoipa::path(
    get,
    path = "/templates/aliases/{alias}",
    tag = "E2B templates",
    params(("alias" = String, Path)),
    responses(
        (status = 200, description = "The template", body = TemplateAlias),
        (status = 404, description = "No such template", body = ErrorBody),
    )
)]
pub(crate) async fn alias(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(text): PathSegment,
) -> Result<Json<TemplateAlias>, ApiError> {
    let (reference, row) = templates::template(&app, &project, &text).await?;
    if reference.tag().is_some() {
        templates::build(&app, &project, &text).await?;
    }
    Ok(Json(TemplateAlias { template_id: row.id.to_string(), public: row.public }))
}

/// Templates as lists show them. One whose builds are all gone is not shown.
async fn shown(
    app: &App,
    project: &ProjectRow,
    rows: &[TemplateRow],
) -> Result<Vec<Template>, ApiError> {
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(newest) = app.store.list_builds(&row.id, 1).await?.pop() else { continue };
        let current = app.store.find_ready_build(&row.id, &BuildKey::Tag(DEFAULT_TAG)).await?;
        let current = current.as_ref().unwrap_or(&newest);
        shown.push(answers::template(project, row, &newest, current));
    }
    Ok(shown)
}
