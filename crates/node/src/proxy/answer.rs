//! The proxy's own answers, in the words that E2B's SDKs look for, and CORS.

use courier_protocol::node::{Body, NodeError};
use courier_types::SandboxId;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

use super::auth::TrafficRefused;
use crate::failure::GuestError;

/// Headers that a page from another origin may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Location, Cache-Control, X-Content-Type-Options, Content-Encoding, Content-Disposition, \
     Connect-Content-Encoding, Connect-Protocol-Version, Content-Range, ETag",
);

/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// Methods of the data plane.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SandboxErrorBody<'a> {
    sandbox_id: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    code: u16,
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(body).expect("texts and numbers are always JSON");
    with_body(status, "application/json", text)
}

fn with_body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let body = Full::from(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error in plain text.
pub(super) fn plain(status: StatusCode, message: &str) -> Response<Body> {
    with_body(status, "text/plain; charset=utf-8", message.as_bytes().to_vec())
}

/// An error as JSON.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Body> {
    json(status, &ErrorBody { code: status.as_u16(), message })
}

fn bad_gateway(sandbox: &str, message: &str, port: Option<u16>) -> Response<Body> {
    let code = StatusCode::BAD_GATEWAY.as_u16();
    json(StatusCode::BAD_GATEWAY, &SandboxErrorBody { sandbox_id: sandbox, message, port, code })
}

/// No such sandbox runs here. SDKs look for "was not found".
pub(super) fn not_found(sandbox: &str) -> Response<Body> {
    bad_gateway(sandbox, "The sandbox was not found", None)
}

/// Nothing listens on the port. SDKs look for "port is not open".
pub(super) fn port_closed(id: &SandboxId, port: u16) -> Response<Body> {
    let message = "The sandbox is running but port is not open";
    bad_gateway(id.as_str(), message, Some(port))
}

/// The port wants a traffic token. The texts are those of E2B's proxy.
pub(super) fn traffic_refused(id: &SandboxId, refused: TrafficRefused) -> Response<Body> {
    let status = StatusCode::FORBIDDEN;
    let message = refused.to_string();
    let body = SandboxErrorBody {
        sandbox_id: id.as_str(),
        message: &message,
        port: None,
        code: status.as_u16(),
    };
    json(status, &body)
}

/// The node could not pass the request on.
pub(super) fn failed(id: &SandboxId, failure: &NodeError) -> Response<Body> {
    match failure {
        NodeError::NotFound { .. } | NodeError::NotStarted { .. } => not_found(id.as_str()),
        NodeError::Full { what } => error(StatusCode::TOO_MANY_REQUESTS, what),
        NodeError::Guest { source, .. }
            if matches!(source.downcast_ref(), Some(GuestError::BodyBroken)) =>
        {
            error(StatusCode::BAD_REQUEST, "the request broke off before its end")
        }
        NodeError::PortClosed { port, .. } => port_closed(id, *port),
        NodeError::Guest { .. } => guest_failed(id, failure),
        NodeError::UnknownBuild { .. } | NodeError::Network { .. } | NodeError::Node(_) => {
            node_failed(id, failure)
        }
    }
}

fn guest_failed(id: &SandboxId, failure: &NodeError) -> Response<Body> {
    // Not louder: a guest and its client could fill the log together.
    tracing::debug!(sandbox = %id, error = ?failure, "a guest failed a request");
    bad_gateway(id.as_str(), "The sandbox is running but its guest daemon failed", None)
}

fn node_failed(id: &SandboxId, failure: &NodeError) -> Response<Body> {
    tracing::error!(sandbox = %id, error = ?failure, "the node failed a request");
    error(StatusCode::INTERNAL_SERVER_ERROR, "the node failed")
}

/// Answers a browser that asks for permission.
pub(super) fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = with_cors(plain(StatusCode::NO_CONTENT, ""));
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    headers.insert(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    // A star would not cover Authorization, so the names that were asked for are repeated.
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}

/// Lets pages of every origin read an answer: what guards it is the token, never a cookie.
pub(super) fn with_cors(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response
}
