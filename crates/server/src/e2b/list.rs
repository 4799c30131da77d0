//! Lists of running sandboxes: filtered, strictly ordered, paged.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{Cursor, ErrorBody, ListedSandbox, MetadataFilter, Order, TemplateRef};
use courier_store::{ProjectRow, SandboxRow};
use courier_types::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::answers;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, QueryParams};

const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");
const TOTAL_RUNNING: HeaderName = HeaderName::from_static("x-total-running");

/// Items of a page, where nobody says, and at most.
pub(crate) const PAGE_MAX: u32 = 100;

/// Query of `GET /v2/sandboxes`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Pairs that a sandbox must have: a query string, percent-encoded twice more.
    metadata: Option<String>,
    /// Comma-separated states: `running`, `paused`; both when absent.
    state: Option<String>,
    /// `asc` or `desc` (default) by time of creation.
    order: Option<Order>,
    /// RFC 3339; that time included.
    started_after: Option<String>,
    /// Name or id of the template.
    template: Option<String>,
    /// `X-Next-Token` of the page before.
    next_token: Option<String>,
    /// Items of the page, 1 to 100 (default).
    limit: Option<u32>,
}

/// Query of `GET /sandboxes`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQueryV1 {
    /// Pairs that a sandbox must have: a query string, percent-encoded twice more.
    metadata: Option<String>,
}

/// Running sandboxes, paged. The cursor of the next page is in `X-Next-Token`, the number of all
/// matching ones in `X-Total-Running`.
#[utoipa::path(
    get,
    path = "/v2/sandboxes",
    tag = "E2B sandboxes",
    params(ListQuery),
    responses(
        (status = 200, description = "One page", body = Vec<ListedSandbox>),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(crate) async fn list_v2(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<(HeaderMap, Json<Vec<ListedSandbox>>), ApiError> {
    let order = query.order.unwrap_or_default();
    let limit = page_limit(query.limit)?;
    let cursor = cursor(query.next_token.as_deref(), order)?;
    let wants_running = wants_running(query.state.as_deref())?;
    let filter = Filter::parse(&query)?;

    let mut headers = HeaderMap::new();
    if !wants_running {
        return Ok((headers, Json(Vec::new())));
    }
    let mut rows = matching(&app, &project, &filter).await?;
    headers.insert(TOTAL_RUNNING, HeaderValue::from(rows.len()));
    rows.sort_by(|a, b| compare(order, position(a), position(b)));
    if let Some(cursor) = &cursor {
        let last = (cursor.at, cursor.id.as_str());
        rows.retain(|row| compare(order, position(row), last) == Ordering::Greater);
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    if let Some(last) = rows.last().filter(|_| more) {
        headers.insert(NEXT_TOKEN, next_token(last, order));
    }
    Ok((headers, Json(answers::list(&app, &rows).await?)))
}

/// All running sandboxes, newest first (deprecated: use `/v2/sandboxes`).
#[utoipa::path(
    get,
    path = "/sandboxes",
    tag = "E2B sandboxes",
    params(ListQueryV1),
    responses(
        (status = 200, description = "All of them", body = Vec<ListedSandbox>),
        (status = 400, description = "The filter is wrong", body = ErrorBody),
    )
)]
pub(crate) async fn list_v1(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    QueryParams(query): QueryParams<ListQueryV1>,
) -> Result<Json<Vec<ListedSandbox>>, ApiError> {
    let filter = Filter::parse(&ListQuery { metadata: query.metadata, ..ListQuery::default() })?;
    let mut rows = matching(&app, &project, &filter).await?;
    rows.sort_by(|a, b| compare(Order::Desc, position(a), position(b)));
    Ok(Json(answers::list(&app, &rows).await?))
}

/// Which sandboxes a list shows.
#[derive(Debug, Default)]
struct Filter {
    metadata: MetadataFilter,
    started_after: Option<Timestamp>,
    template: Option<TemplateRef>,
}

impl Filter {
    fn parse(query: &ListQuery) -> Result<Self, ApiError> {
        let metadata = MetadataFilter::decode(query.metadata.as_deref().unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let started_after = query
            .started_after
            .as_deref()
            .map(|text| {
                Timestamp::from_rfc3339(text)
                    .ok_or_else(|| ApiError::bad_request("startedAfter is not RFC 3339"))
            })
            .transpose()?;
        let template = query
            .template
            .as_deref()
            .map(TemplateRef::parse)
            .transpose()
            .map_err(|error| ApiError::bad_request(format!("Invalid template: {error}")))?;
        if template.as_ref().is_some_and(|template| template.tag().is_some()) {
            return Err(ApiError::bad_request("template takes a name or an id without a tag"));
        }
        Ok(Self { metadata, started_after, template })
    }

    fn shows(&self, row: &SandboxRow, template_id: Option<&str>) -> bool {
        row.is_usable()
            && self.metadata.matches(&row.metadata)
            && self.started_after.is_none_or(|after| row.created_at >= after)
            && (self.template.is_none() || template_id == Some(row.template_id.as_str()))
    }
}

/// The project's running sandboxes that the filter shows. As many as the project may have at once.
async fn matching(
    app: &App,
    project: &ProjectRow,
    filter: &Filter,
) -> Result<Vec<SandboxRow>, ApiError> {
    let template = match &filter.template {
        Some(reference) => app.store.find_template(&project.id, reference.name()).await?,
        None => None,
    };
    let template_id = template.as_ref().map(|template| template.id.as_str());
    let mut rows = app.store.list_alive_of(&project.id).await?;
    rows.retain(|row| filter.shows(row, template_id));
    Ok(rows)
}

fn position(row: &SandboxRow) -> (Timestamp, &str) {
    (row.created_at, row.spec.id.as_str())
}

fn compare(order: Order, a: (Timestamp, &str), b: (Timestamp, &str)) -> Ordering {
    match order {
        Order::Asc => a.cmp(&b),
        Order::Desc => b.cmp(&a),
    }
}

fn next_token(last: &SandboxRow, order: Order) -> HeaderValue {
    let cursor = Cursor { at: last.created_at, id: last.spec.id.to_string() };
    HeaderValue::from_str(&cursor.encode(order)).expect("base64url is a header value")
}

fn wants_running(state: Option<&str>) -> Result<bool, ApiError> {
    let Some(state) = state.filter(|state| !state.is_empty()) else { return Ok(true) };
    let mut running = false;
    for name in state.split(',') {
        match name {
            "running" => running = true,
            // Known, and none there in this version.
            "paused" => {}
            _ => return Err(ApiError::bad_request("state takes running and paused")),
        }
    }
    Ok(running)
}

/// Items of a page, checked.
pub(crate) fn page_limit(limit: Option<u32>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(PAGE_MAX);
    if limit == 0 || limit > PAGE_MAX {
        return Err(ApiError::bad_request(format!("limit must be 1 to {PAGE_MAX}")));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The cursor of a token; an empty token is none.
pub(crate) fn cursor(token: Option<&str>, order: Order) -> Result<Option<Cursor>, ApiError> {
    token
        .filter(|token| !token.is_empty())
        .map(|token| Cursor::decode(token, order))
        .transpose()
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
