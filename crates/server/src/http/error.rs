//! The one form of every error answer: status, body `{code, message, error_code}`, retry headers.

use std::error::Error;

use axum::Json;
use axum::response::{IntoResponse, Response};
use courier_protocol::e2b::ErrorBody;
use courier_store::StoreError;
use http::{HeaderName, HeaderValue, StatusCode, header};

/// Tells the SDKs whether a repetition is safe: without it some repeat every 5xx.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("should-retry");

/// Whether the client may repeat the request by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// It may have taken effect, or it will fail again.
    Never,
    /// Nothing was done; after so many seconds it may work.
    AfterSecs(u16),
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    name: &'static str,
    message: String,
    retry: Retry,
}

impl ApiError {
    fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Self { status, name, message: message.into(), retry: Retry::Never }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "bad_gateway", message)
    }

    pub(crate) fn insufficient_storage(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn length_required(message: impl Into<String>) -> Self {
        Self::new(StatusCode::LENGTH_REQUIRED, "length_required", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "this path does not have this method: see GET /v1/openapi.json";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(crate) fn request_timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(crate) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
    }

    pub(crate) fn too_many(message: impl Into<String>, retry_secs: u16) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message).retry(retry_secs)
    }

    pub(crate) fn unavailable(message: impl Into<String>, retry_secs: u16) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry(retry_secs)
    }

    pub(crate) fn not_started(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not_started", message)
    }

    pub(crate) fn guest_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "guest_failed", message)
    }

    pub(crate) fn port_closed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "port_closed", message)
    }

    pub(crate) fn gateway_timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// The request asks for what this version does not have.
    pub(crate) fn not_in_this_version(what: &str) -> Self {
        let message = format!("{what} is not in this version of CodeCourier");
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_in_this_version", message)
    }

    /// Our own failure: its chain goes to the log, not to the client.
    pub(crate) fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = chain(error), "a request failed");
        if is_disk_trouble(error) {
            let message =
                "the disk of the server's data folder is full or failing: free some space";
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message);
        }
        let message = "the server failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(crate) fn panicked() -> Self {
        let message = "the server failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    fn retry(mut self, secs: u16) -> Self {
        self.retry = Retry::AfterSecs(secs);
        self
    }

    /// The body alone, for answers that carry errors inside.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody {
            code: self.status.as_u16(),
            message: self.message.clone(),
            error_code: Some(self.name.to_owned()),
        }
    }
}

/// True when the database's disk is at the bottom of an error.
fn is_disk_trouble(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<StoreError>().is_some_and(StoreError::is_disk_trouble) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error and its sources, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.retry {
            Retry::AfterSecs(secs) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
            }
            Retry::Never => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManySandboxes { .. } => Self::too_many(error.to_string(), 1),
            StoreError::IdempotencyMismatch => Self::unprocessable(error.to_string()),
            StoreError::NameTaken { .. }
            | StoreError::SecretExists { .. }
            | StoreError::VolumeExists { .. }
            | StoreError::VolumeInUse { .. } => Self::conflict(error.to_string()),
            StoreError::NoVolume { .. } => Self::not_found(error.to_string()),
            StoreError::TooManySecrets { .. }
            | StoreError::TooManyVolumes { .. }
            | StoreError::TooManyTemplates { .. }
            | StoreError::TooManyTags { .. } => {
                Self::bad_request(format!("{error}: delete one first"))
            }
            StoreError::TooManyBuilds { .. } => Self::too_many(error.to_string(), 30),
            StoreError::TemplateInUse { .. } => Self::bad_request(error.to_string()),
            StoreError::Database(_) | StoreError::Corrupt { .. } | StoreError::NoSecret { .. } => {
                Self::internal(&error)
            }
        }
    }
}
