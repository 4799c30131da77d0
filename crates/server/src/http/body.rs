//! JSON bodies: bounded in size and time, with an error of its own for each thing that can be wrong.
//! The depth is bounded by serde_json (128 levels).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::http::ApiError;

/// Largest ordinary body, in bytes.
pub(crate) const BODY_MAX: usize = 1024 * 1024;

/// Largest body of an execution, which carries files, in bytes.
pub(crate) const LARGE_BODY_MAX: usize = 16 * 1024 * 1024;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body of at most [`BODY_MAX`].
#[derive(Debug)]
pub(crate) struct JsonBody<T> {
    /// The parsed body.
    pub(crate) value: T,
    /// The body as it came.
    pub(crate) bytes: Bytes,
}

/// A body of at most [`BODY_MAX`] that may be missing: then it is its default.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

/// A body of at most [`LARGE_BODY_MAX`].
#[derive(Debug)]
pub(crate) struct LargeJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &Arc<App>) -> Result<Self, ApiError> {
        check_content_type(&request)?;
        let bytes = read(request, BODY_MAX).await?;
        Ok(Self { value: parse(&bytes)?, bytes })
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Arc<App>> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &Arc<App>) -> Result<Self, ApiError> {
        let content_type = check_content_type(&request);
        let bytes = read(request, BODY_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        content_type?;
        Ok(Self(parse(&bytes)?))
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for LargeJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &Arc<App>) -> Result<Self, ApiError> {
        check_content_type(&request)?;
        Ok(Self(parse(&read(request, LARGE_BODY_MAX).await?)?))
    }
}

fn check_content_type(request: &Request) -> Result<(), ApiError> {
    let found = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = found.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(ApiError::unsupported_media_type(format!(
        "the body must be JSON with Content-Type: application/json, not {}",
        found.map_or_else(|| "without a Content-Type".to_owned(), |found| format!("{found:?}"))
    )))
}

async fn read(request: Request, max: usize) -> Result<Bytes, ApiError> {
    let body = Limited::new(request.into_body(), max).collect();
    let collected = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_elapsed| {
        ApiError::request_timeout(format!(
            "the body did not come within {} seconds",
            BODY_TIMEOUT.as_secs()
        ))
    })?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(format!("the body is larger than {max} bytes")))
        }
        Err(error) => Err(ApiError::bad_request(format!("the body was cut off: {error}"))),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        ApiError::bad_request(format!("the body is not UTF-8 from byte {}", error.valid_up_to()))
    })?;
    // A struct could be read from a list too, and an empty list would be all defaults.
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::bad_request("the body must be a JSON object"));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            ApiError::bad_request(format!("the body is not what this endpoint takes: {error}"))
        }
        serde_json::error::Category::Eof => {
            ApiError::bad_request(format!("the JSON of the body is cut off: {error}"))
        }
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            ApiError::bad_request(format!("the body is not JSON: {error}"))
        }
    })
}
