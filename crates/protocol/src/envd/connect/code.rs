//! Errors of Connect: a code, and a message for people.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// Most characters of a message from the other side that are kept.
const MESSAGE_CHARS_MAX: usize = 4_096;

/// What went wrong, in the words of Connect (and gRPC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The caller gave up.
    Canceled,
    /// Nobody knows.
    Unknown,
    /// The request is wrong in itself.
    InvalidArgument,
    /// It took too long.
    DeadlineExceeded,
    /// What was asked for is not there.
    NotFound,
    /// What was to be made is there already.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// A limit was reached.
    ResourceExhausted,
    /// The request does not fit the state of things.
    FailedPrecondition,
    /// A conflict ended it; try again.
    Aborted,
    /// Out of a valid range.
    OutOfRange,
    /// There is no such method.
    Unimplemented,
    /// An invariant is broken.
    Internal,
    /// Not now.
    Unavailable,
    /// Data is lost for good.
    DataLoss,
    /// It is not known who the caller is.
    Unauthenticated,
}

impl Code {
    const ALL: [Self; 16] = [
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out_of_range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data_loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// The code of a name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The HTTP status of a unary call that failed with it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            // 499 has no name in the registry of statuses.
            Self::Canceled => match StatusCode::from_u16(499) {
                Ok(status) => status,
                Err(_) => StatusCode::BAD_REQUEST,
            },
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => {
                StatusCode::BAD_REQUEST
            }
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::Aborted => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unknown | Self::Internal | Self::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }

    /// The code that a failed unary answer without a readable body stands for.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ConnectError {
    /// What went wrong.
    pub code: Code,
    /// The same for people, part of the wire where the SDKs read it.
    pub message: String,
}

/// The JSON form; also inside the last envelope of a stream.
#[derive(Serialize, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl From<&ConnectError> for ErrorBody {
    fn from(error: &ConnectError) -> Self {
        Self { code: error.code.as_str().to_owned(), message: error.message.clone() }
    }
}

impl From<ErrorBody> for ConnectError {
    fn from(body: ErrorBody) -> Self {
        Self {
            code: Code::from_name(&body.code).unwrap_or(Code::Unknown),
            message: body.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        }
    }
}

impl ConnectError {
    /// An error of any code.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The caller's request is wrong in itself.
    #[must_use]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// What was asked for is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Something that should not happen did.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The body of a failed unary answer; its status is [`Code::status`].
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(&ErrorBody::from(self)).expect("two texts are always JSON").into()
    }

    /// From a failed unary answer, whatever its body holds.
    #[must_use]
    pub fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) if Code::from_name(&body.code).is_some() => body.into(),
            Ok(_) | Err(_) => {
                let code = Code::from_status(status);
                Self::new(code, format!("HTTP status {}", status.as_u16()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.as_str()), Some(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
        assert_eq!(Code::Canceled.status().as_u16(), 499);
    }

    #[test]
    fn an_error_reads_back_from_its_answer_and_nonsense_becomes_its_status() {
        let error = ConnectError::not_found("process with pid 7 not found");
        let body = error.to_json();
        assert_eq!(body, r#"{"code":"not_found","message":"process with pid 7 not found"}"#);
        assert_eq!(ConnectError::from_answer(StatusCode::NOT_FOUND, &body), error);
        let odd = ConnectError::from_answer(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(odd.code, Code::Unavailable);
    }
}
