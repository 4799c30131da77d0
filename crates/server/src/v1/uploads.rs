//! Where the SDKs upload the archives of COPY steps: by a URL that needs no key.

use std::sync::Arc;

use axum::extract::{Request, State};
use courier_protocol::e2b::ErrorBody;
use courier_types::ProjectId;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use crate::app::App;
use crate::builds::{self, Ticket, UPLOAD_TIMEOUT, Upload};
use crate::http::{ApiError, PathPair, QueryParams};

/// Query of an upload.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// The leave to upload, which `GET /templates/{templateID}/files/{hash}` gives.
    ticket: String,
}

/// Upload an archive for COPY steps: a tar, plain or gzipped, of exactly `Content-Length` bytes.
///
/// It is there as a whole or not at all; one that is malformed is refused.
#[utoipa::path(
    put,
    path = "/v1/uploads/{project}/{hash}",
    tag = "CodeCourier",
    security(()),
    params(("project" = String, Path), ("hash" = String, Path), UploadQuery),
    request_body(content_type = "application/octet-stream", description = "The archive"),
    responses(
        (status = 204, description = "It is there"),
        (status = 403, description = "The ticket is wrong or has expired", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    PathPair(project, hash): PathPair,
    QueryParams(query): QueryParams<UploadQuery>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let wrong = || ApiError::forbidden("this URL is not one that the server gave out");
    let project: ProjectId = project.parse().map_err(|_not_an_id| wrong())?;
    match Ticket::of(&app, &project, &hash, &query.ticket) {
        Ticket::Valid => {}
        Ticket::Expired => {
            return Err(ApiError::forbidden("this URL has expired: ask for another one"));
        }
        Ticket::Foreign => return Err(wrong()),
    }
    let size = content_length(request.headers())?;
    let upload = Upload { project, hash, size };
    let received = builds::receive(&app, upload, request.into_body());
    match tokio::time::timeout(UPLOAD_TIMEOUT, received).await {
        Ok(received) => received?,
        Err(_elapsed) => return Err(ApiError::request_timeout("the upload took too long")),
    }
    Ok(StatusCode::NO_CONTENT)
}

fn content_length(headers: &HeaderMap) -> Result<u64, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length
        .and_then(|length| length.parse().ok())
        .ok_or_else(|| ApiError::length_required("an upload needs its exact Content-Length"))
}
