//! Volumes as E2B's wire has them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, NewVolume, Volume, VolumeAndToken};
use courier_store::VolumeRow;
use http::StatusCode;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, JsonBody, PathSegment};
use crate::volumes::{self, VolumeError};

/// Volumes of the project, newest first.
#[utoipa::path(
    get,
    path = "/volumes",
    tag = "E2B volumes",
    responses((status = 200, description = "All of them", body = Vec<Volume>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
) -> Result<Json<Vec<Volume>>, ApiError> {
    let rows = app.store.list_volumes(&project.id).await?;
    Ok(Json(rows.iter().map(shown).collect()))
}

/// Make a volume. It takes room on the host only as it is written.
#[utoipa::path(
    post,
    path = "/volumes",
    tag = "E2B volumes",
    request_body = NewVolume,
    responses(
        (status = 201, description = "It is there", body = VolumeAndToken),
        (status = 409, description = "The project has one of that name", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    JsonBody { value: body, .. }: JsonBody<NewVolume>,
) -> Result<(StatusCode, Json<VolumeAndToken>), ApiError> {
    let row = volumes::create(&app, &project, &body.name, body.size_mb).await?;
    Ok((StatusCode::CREATED, Json(with_token(&app, &row)?)))
}

/// One volume, with the token for its content.
#[utoipa::path(
    get,
    path = "/volumes/{volumeID}",
    tag = "E2B volumes",
    params(("volumeID" = String, Path)),
    responses(
        (status = 200, description = "The volume", body = VolumeAndToken),
        (status = 404, description = "No such volume", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(volume): PathSegment,
) -> Result<Json<VolumeAndToken>, ApiError> {
    let row = volumes::find(&app, &project, &volume).await?;
    Ok(Json(with_token(&app, &row)?))
}

/// Delete a volume with all that is in it. Not while a sandbox has it.
#[utoipa::path(
    delete,
    path = "/volumes/{volumeID}",
    tag = "E2B volumes",
    params(("volumeID" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such volume", body = ErrorBody),
        (status = 409, description = "Sandboxes have it; they are named", body = ErrorBody),
    )
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(volume): PathSegment,
) -> Result<StatusCode, ApiError> {
    volumes::delete(&app, &project, &volume).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(row: &VolumeRow) -> Volume {
    Volume { volume_id: row.id.to_string(), name: row.name.clone(), size_mb: row.size_mib }
}

fn with_token(app: &App, row: &VolumeRow) -> Result<VolumeAndToken, VolumeError> {
    let token = volumes::token(app, row)?.expose().to_owned();
    Ok(VolumeAndToken { volume: shown(row), token })
}
