//! The content of volumes: each request has the volume's own token, and is carried out by the guest
//! daemon of a sandbox that has the volume.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as AnswerBody;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use courier_protocol::e2b::{ErrorBody, VolumeEntry, VolumeMetadata, VolumeQuery};
use courier_protocol::envd::volume::{CALL_HEADER, VOLUME_PATH, VolumeCall, VolumeOperation};
use courier_protocol::node::{Body, NodeError};
use courier_store::VolumeRow;
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt as _, Empty};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::http::{ANSWER_TIMEOUT, ApiError, JsonBody, PathSegment, QueryParams};
use crate::volumes::{self, Lease, VolumeError};

/// How long an upload may take, as long as the SDKs wait.
const UPLOAD_TIMEOUT: Duration = Duration::from_hours(1);
/// Longest error of a guest that is read, in bytes.
const ERROR_MAX: usize = 16 * 1024;
/// Longest path in bytes: Linux's own limit.
const PATH_MAX: usize = 4_095;
/// Seconds after which a volume that too many ask at once is worth another try.
const BUSY_RETRY_SECS: u16 = 2;
/// Depth of a list that nobody says one for.
const DEPTH: u32 = 1;

/// Routes that want a volume's token instead of a key.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(stat, change, remove))
        .routes(routes!(list, make_folder))
        .routes(routes!(read, write))
}

/// What is at a path; a symbolic link itself.
#[utoipa::path(
    get,
    path = "/volumecontent/{volumeID}/path",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    responses(
        (status = 200, description = "What is there", body = VolumeEntry),
        (status = 404, description = "Nothing is there", body = ErrorBody),
    )
)]
pub(crate) async fn stat(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
) -> Result<Response, ApiError> {
    carry_out(&app, &row, call(VolumeOperation::Stat, query)).await
}

/// Give what is at a path another owner, group or mode.
#[utoipa::path(
    patch,
    path = "/volumecontent/{volumeID}/path",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    request_body = VolumeMetadata,
    responses(
        (status = 200, description = "What is there now", body = VolumeEntry),
        (status = 404, description = "Nothing is there", body = ErrorBody),
    )
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
    JsonBody { value: wanted, .. }: JsonBody<VolumeMetadata>,
) -> Result<Response, ApiError> {
    let VolumeMetadata { uid, gid, mode } = wanted;
    let query = VolumeQuery { path: query.path, uid, gid, mode, ..VolumeQuery::default() };
    carry_out(&app, &row, call(VolumeOperation::Change, query)).await
}

/// Remove what is at a path, a folder with all that is in it.
#[utoipa::path(
    delete,
    path = "/volumecontent/{volumeID}/path",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "Nothing is there", body = ErrorBody),
    )
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
) -> Result<Response, ApiError> {
    carry_out(&app, &row, call(VolumeOperation::Remove, query)).await
}

/// What is in a folder, sorted by path.
#[utoipa::path(
    get,
    path = "/volumecontent/{volumeID}/dir",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    responses(
        (status = 200, description = "What is in it", body = Vec<VolumeEntry>),
        (status = 404, description = "No such folder", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
) -> Result<Response, ApiError> {
    carry_out(&app, &row, call(VolumeOperation::List, query)).await
}

/// Make a folder.
#[utoipa::path(
    post,
    path = "/volumecontent/{volumeID}/dir",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    responses(
        (status = 201, description = "The folder", body = VolumeEntry),
        (status = 404, description = "Its parent is not there", body = ErrorBody),
        (status = 409, description = "It is there already", body = ErrorBody),
    )
)]
pub(crate) async fn make_folder(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
) -> Result<Response, ApiError> {
    carry_out(&app, &row, call(VolumeOperation::MakeFolder, query)).await
}

/// The content of a file.
#[utoipa::path(
    get,
    path = "/volumecontent/{volumeID}/file",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    responses(
        (status = 200, description = "Its bytes", content_type = "application/octet-stream"),
        (status = 404, description = "No such file", body = ErrorBody),
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
) -> Result<Response, ApiError> {
    carry_out(&app, &row, call(VolumeOperation::Read, query)).await
}

/// Write a file: all of it, or nothing where the body is cut off.
#[utoipa::path(
    put,
    path = "/volumecontent/{volumeID}/file",
    tag = "E2B volumes",
    params(("volumeID" = String, Path), VolumeQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "The file", body = VolumeEntry),
        (status = 404, description = "Its folder is not there", body = ErrorBody),
        (status = 507, description = "The volume is full", body = ErrorBody),
    )
)]
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    Asked { row, query }: Asked,
    request: Request,
) -> Result<Response, ApiError> {
    let body = request.into_body().map_err(Into::into).boxed_unsync();
    let sent = send(&app, &row, call(VolumeOperation::Write, query), body);
    match tokio::time::timeout(UPLOAD_TIMEOUT, sent).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(ApiError::request_timeout(format!(
            "the upload took longer than {} seconds",
            UPLOAD_TIMEOUT.as_secs()
        ))),
    }
}

/// What a request is about; looked at before anything of its body is read.
pub(crate) struct Asked {
    /// The volume, whose token the request has.
    row: VolumeRow,
    query: VolumeQuery,
}

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let PathSegment(volume) = PathSegment::from_request_parts(parts, app).await?;
        let row = authorized(app, &volume, &parts.headers).await?;
        let QueryParams(query) = QueryParams::from_request_parts(parts, app).await?;
        Ok(Self { row, query })
    }
}

/// The volume whose token the request has.
async fn authorized(app: &App, volume: &str, headers: &HeaderMap) -> Result<VolumeRow, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_first| values.next().is_none());
    let token = value
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let missing = "no token: send the volume's own as `Authorization: Bearer`";
    let token = token.ok_or_else(|| ApiError::unauthorized(missing))?;
    Ok(volumes::open(app, volume, token).await?)
}

fn call(operation: VolumeOperation, query: VolumeQuery) -> VolumeCall {
    let VolumeQuery { path, depth, uid, gid, mode, force } = query;
    let (depth, force) = (depth.unwrap_or(DEPTH), force.unwrap_or(false));
    VolumeCall { operation, path, depth, uid, gid, mode, force }
}

async fn carry_out(
    app: &Arc<App>,
    row: &VolumeRow,
    call: VolumeCall,
) -> Result<Response, ApiError> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    match tokio::time::timeout(ANSWER_TIMEOUT, send(app, row, call, body)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(ApiError::gateway_timeout("the volume did not answer in time")),
    }
}

async fn send(
    app: &Arc<App>,
    row: &VolumeRow,
    call: VolumeCall,
    body: Body,
) -> Result<Response, ApiError> {
    if call.path.len() > PATH_MAX {
        return Err(ApiError::bad_request(format!("a path has at most {PATH_MAX} bytes")));
    }
    let project = app.store.find_project(&row.project_id).await?;
    let project = project.ok_or_else(|| ApiError::from(VolumeError::Token))?;
    let lease = volumes::lease(app, project, row.clone()).await?;
    let request = http::Request::post(VOLUME_PATH)
        .header(CALL_HEADER, call.encode())
        .body(body)
        .map_err(|error| ApiError::internal(&error))?;
    match app.node.request(&lease.sandbox, request).await {
        Ok(answer) => passed_on(answer, call.operation, lease).await,
        Err(NodeError::Full { what }) => Err(ApiError::unavailable(what, BUSY_RETRY_SECS)),
        Err(error @ (NodeError::NotFound { .. } | NodeError::Guest { .. })) => {
            Err(ApiError::bad_gateway(format!(
                "the volume's sandbox ended or failed; whether this took effect is unknown: {error}"
            )))
        }
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// What a guest daemon answered: of its headers nothing is passed on, of its statuses those that a
/// call can have.
async fn passed_on(
    answer: http::Response<Body>,
    operation: VolumeOperation,
    lease: Lease,
) -> Result<Response, ApiError> {
    let (status, body) = (answer.status(), answer.into_body());
    if !matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT) {
        return Err(refused(status, body).await);
    }
    let content_type = match operation {
        VolumeOperation::Read => "application/octet-stream",
        _ => "application/json",
    };
    let stream = BodyDataStream::new(body).map(move |piece| {
        // The sandbox stays as long as its answer flows.
        let _held = &lease;
        piece
    });
    let body = AnswerBody::from_stream(stream);
    let mut response = Response::builder().status(status);
    if status != StatusCode::NO_CONTENT {
        response = response
            .header(header::CONTENT_TYPE, content_type)
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    }
    response.body(body).map_err(|error| ApiError::internal(&error))
}

/// A guest daemon's refusal in our words' form.
async fn refused(status: StatusCode, mut body: Body) -> ApiError {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(piece) = frame.into_data() else { continue };
        text.extend_from_slice(&piece);
        if text.len() > ERROR_MAX {
            break;
        }
    }
    let told = serde_json::from_slice::<GuestError>(&text).ok();
    let message = told.map_or_else(|| "the volume refused".to_owned(), |told| told.message);
    match status {
        StatusCode::BAD_REQUEST => ApiError::bad_request(message),
        StatusCode::NOT_FOUND => ApiError::not_found(message),
        StatusCode::CONFLICT => ApiError::conflict(message),
        StatusCode::FORBIDDEN => ApiError::forbidden(message),
        StatusCode::REQUEST_TIMEOUT => ApiError::request_timeout(message),
        StatusCode::INSUFFICIENT_STORAGE => ApiError::insufficient_storage(message),
        _other => ApiError::bad_gateway(message),
    }
}

#[derive(serde::Deserialize)]
struct GuestError {
    message: String,
}
