//! Requests and answers of the daemon, whatever carries them.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use serde::Serialize;

/// An error that carries its own chain.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body, of a request or of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A request to the daemon.
pub(crate) type Request = http::Request<Body>;

/// The daemon's answer.
pub(crate) type Response = http::Response<Body>;

/// Body of an error of the HTTP API (not of Connect).
#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
}

/// Why a whole body could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is too long.
    #[error("the body is too long: at most {most} bytes")]
    TooLong {
        /// Most bytes.
        most: usize,
    },
    /// It ended early.
    #[error("the request was cut off: {0}")]
    CutOff(BoxError),
}

/// All of a body that has at most `most` bytes. (`Limited` of http-body-util would do the same, but
/// with our boxed error the compiler cannot show then that the future is `Send`.)
///
/// # Errors
/// It is longer, or was cut off.
pub(crate) async fn read_all(mut body: Body, most: usize) -> Result<Bytes, BodyError> {
    let mut pieces = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(BodyError::CutOff)?.into_data() else { continue };
        length += piece.len();
        if length > most {
            return Err(BodyError::TooLong { most });
        }
        pieces.push(piece);
    }
    // Most bodies are one piece, which is not copied.
    Ok(if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() })
}

/// A body without a byte.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// An answer without a body.
pub(crate) fn status(status: StatusCode) -> Response {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// An answer in JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => typed(status, "application/json", full(bytes)),
        Err(error) => {
            tell(&format_args!("an answer could not be written as JSON: {error}"));
            self::status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An error of the HTTP API: `{"code": 404, "message": "…"}`.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    json(status, &ErrorBody { code: status.as_u16(), message })
}

/// An answer of any content type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Writes a line for whoever debugs the daemon: standard error is the sandbox's console.
pub(crate) fn tell(what: &dyn std::fmt::Display) {
    use std::io::Write as _;
    // The console may be gone or full; there is nobody else to tell.
    let _unwritable = writeln!(std::io::stderr().lock(), "courier-guest: {what}");
}

fn never(never: Infallible) -> BoxError {
    match never {}
}
