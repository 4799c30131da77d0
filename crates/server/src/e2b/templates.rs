//! Templates: what there is to make sandboxes from.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{Cursor, ErrorBody, Order, Template, TemplateAlias, TemplateRef};
use courier_store::{ProjectRow, TemplateRow};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::answers;
use super::list::{cursor, page_limit};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, PathSegment, QueryParams};

const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");

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

/// All templates that the project may use.
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
    Ok(Json(rows.iter().map(answers::template).collect()))
}

/// Templates that the project may use, oldest first, paged.
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
    Ok((headers, Json(rows.iter().map(answers::template).collect())))
}

/// One template, by name or id.
#[utoipa::path(
    get,
    path = "/templates/{templateID}",
    tag = "E2B templates",
    params(("templateID" = String, Path)),
    responses(
        (status = 200, description = "The template", body = Template),
        (status = 404, description = "No such template", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(text): PathSegment,
) -> Result<Json<Template>, ApiError> {
    Ok(Json(answers::template(&find(&app, &project, &text).await?)))
}

/// Which template a name belongs to.
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
    let row = find(&app, &project, &text).await?;
    Ok(Json(TemplateAlias { template_id: row.id.to_string(), public: row.is_public() }))
}

async fn find(app: &App, project: &ProjectRow, text: &str) -> Result<TemplateRow, ApiError> {
    let reference = TemplateRef::parse(text)
        .map_err(|error| ApiError::bad_request(format!("Invalid template reference: {error}")))?;
    let missing = || ApiError::not_found(format!("template '{reference}' not found"));
    let foreign = reference.namespace().is_some_and(|namespace| namespace != project.slug);
    let untagged = matches!(reference.tag(), None | Some(TemplateRef::DEFAULT_TAG));
    if foreign || !untagged {
        return Err(missing());
    }
    app.store.find_template(&project.id, reference.name()).await?.ok_or_else(missing)
}
