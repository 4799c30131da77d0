//! Why a request to `/files` failed, and with which status that is told.

use std::path::PathBuf;

use http::StatusCode;
use thiserror::Error;

use crate::filesystem::error::{Fault, FilesystemError, chain};
use crate::http::{self as answers, BoxError, Response};
use crate::user::LookupError;

use super::gzip::GzipError;
use super::incoming::IDLE_MAX;
use super::metadata::MetadataError;
use super::multipart::MultipartError;
use super::query::QueryError;
use super::{compose, upload};

/// Why a request failed.
#[derive(Debug, Error)]
pub(crate) enum FilesError {
    /// The file system, or the path.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
    /// The user.
    #[error(transparent)]
    User(#[from] LookupError),
    /// The query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The `X-Metadata-*` headers.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The multipart body.
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    /// The compressed body.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// A raw upload has to say where it goes.
    #[error("path query parameter is required for raw body upload")]
    NoPath,
    /// So has each part of a multipart upload.
    #[error("a part named 'file' needs a filename when there is no path query parameter")]
    NoFilename,
    /// The body is of another type.
    #[error(
        "unsupported content type: {content_type:?}, expected multipart/form-data or application/octet-stream"
    )]
    ContentType {
        /// What the request said.
        content_type: String,
    },
    /// The body is encoded in another way.
    #[error("unsupported content encoding: {encoding:?}, expected gzip or identity")]
    ContentEncoding {
        /// What the request said.
        encoding: String,
    },
    /// The client went away, or the way to it broke.
    #[error("the body ended early; what had arrived may have been written: {0}")]
    CutOff(BoxError),
    /// The client sends nothing more.
    #[error("nothing more of the body arrived for {} s", IDLE_MAX.as_secs())]
    Stalled,
    /// Two parts go to one path.
    #[error(
        "you cannot upload multiple files to the same path '{}' in one upload request, only the first specified file was uploaded",
        path.display()
    )]
    Duplicate {
        /// The path.
        path: PathBuf,
    },
    /// Too many files at once.
    #[error("more than {} files in one upload request", upload::FILES_MAX)]
    TooManyFiles,
    /// Neither encoding that there is may be sent.
    #[error("none of the encodings in Accept-Encoding is available; identity and gzip are")]
    NotAcceptable,
    /// The request to compose is no such JSON.
    #[error("invalid request body")]
    Compose(#[source] serde_json::Error),
    /// It is too long.
    #[error("the request body is longer than {} bytes", compose::REQUEST_MAX)]
    LongCompose,
    /// It names no source.
    #[error("source_paths must not be empty")]
    NoSources,
    /// It names no destination.
    #[error("destination is required")]
    NoDestination,
    /// It would read what it writes.
    #[error("source path {source_path:?} cannot be the same as destination")]
    SourceIsDestination {
        /// Which.
        source_path: String,
    },
}

impl FilesError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Filesystem(error) => match error.fault() {
                Fault::Missing => StatusCode::NOT_FOUND,
                Fault::Exists => StatusCode::CONFLICT,
                Fault::Invalid => StatusCode::BAD_REQUEST,
                Fault::Denied => StatusCode::FORBIDDEN,
                Fault::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
                Fault::Exhausted => StatusCode::TOO_MANY_REQUESTS,
                Fault::Lost | Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::User(LookupError::UnknownName { .. } | LookupError::UnknownUid { .. }) => {
                StatusCode::UNAUTHORIZED
            }
            Self::User(LookupError::Read { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Query(_)
            | Self::Metadata(_)
            | Self::Multipart(_)
            | Self::Gzip(_)
            | Self::NoPath
            | Self::NoFilename
            | Self::ContentType { .. }
            | Self::ContentEncoding { .. }
            | Self::CutOff(_)
            | Self::Duplicate { .. }
            | Self::TooManyFiles
            | Self::Compose(_)
            | Self::NoSources
            | Self::NoDestination
            | Self::SourceIsDestination { .. } => StatusCode::BAD_REQUEST,
            Self::LongCompose => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        }
    }

    /// The answer that tells it.
    pub(crate) fn answer(&self) -> Response {
        let status = self.status();
        let message = match status {
            StatusCode::INSUFFICIENT_STORAGE => {
                format!("not enough disk space available: {}", chain(self))
            }
            _ => chain(self),
        };
        answers::error(status, &message)
    }
}
