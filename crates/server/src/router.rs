//! The whole router: what is open, what wants a key, and the layers around both.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::authenticate;
use crate::http::{ANSWER_TIMEOUT, ApiError, catch_panics, limit_time};
use crate::{e2b, openapi, telemetry, v1};

/// The router for one server.
pub(crate) fn build(app: &Arc<App>) -> Router {
    let (short, _document) = short().split_for_parts();
    let (long, _document) = v1::long_routes().split_for_parts();
    let (open, _document) = open().split_for_parts();
    let guarded = short
        .layer(from_fn_with_state(ANSWER_TIMEOUT, limit_time))
        .merge(long)
        .layer(from_fn_with_state(Arc::clone(app), authenticate));
    let (ticketed, _document) = v1::ticket_routes().split_for_parts();
    let (content, _document) = e2b::content_routes().split_for_parts();
    open.merge(guarded)
        .merge(content)
        .merge(ticketed)
        .fallback(unknown_path)
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(from_fn(catch_panics))
        .layer(from_fn_with_state(Arc::clone(app), telemetry::observe))
        .with_state(Arc::clone(app))
}

/// The document of all of it.
pub(crate) fn document() -> OpenApi {
    OpenApiRouter::with_openapi(openapi::skeleton())
        .merge(open())
        .merge(short())
        .merge(v1::long_routes())
        .merge(v1::ticket_routes())
        .merge(e2b::content_routes())
        .into_openapi()
}

/// What wants a key and answers soon.
fn short() -> OpenApiRouter<Arc<App>> {
    e2b::routes().merge(v1::routes()).routes(routes!(telemetry::metrics))
}

fn open() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(openapi_json))
        .routes(routes!(openapi_json_at_root))
}

async fn unknown_path() -> ApiError {
    ApiError::not_found("no such path: GET /v1/openapi.json lists those that there are")
}

/// 204 while the server serves; 503 while it drains.
#[utoipa::path(
    get,
    path = "/health",
    tag = "CodeCourier",
    security(()),
    responses(
        (status = 204, description = "It serves"),
        (status = 503, description = "It is shutting down"),
    )
)]
async fn health(State(app): State<Arc<App>>) -> StatusCode {
    if app.is_draining() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
}

/// This document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "CodeCourier",
    security(()),
    responses((status = 200, description = "The document", content_type = "application/json"))
)]
async fn openapi_json() -> Response {
    served_document()
}

/// This document, where tools look for it first.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "CodeCourier",
    security(()),
    responses((status = 200, description = "The document", content_type = "application/json"))
)]
async fn openapi_json_at_root() -> Response {
    served_document()
}

/// The document as it is served, made once.
fn served_document() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let bytes = DOCUMENT.get_or_init(|| {
        serde_json::to_vec(&document()).expect("a document made of schemas is JSON").into()
    });
    ([(header::CONTENT_TYPE, "application/json")], bytes.clone()).into_response()
}
