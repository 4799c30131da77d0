//! What E2B's wire does not have about templates and builds.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::ErrorBody;
use courier_protocol::v1::{TemplateConfig, TemplateDetail};
use courier_types::{BuildConfig, BuildId, Timestamp};
use http::StatusCode;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{ApiError, PathSegment};
use crate::{builds, templates};

/// What a template reference means now: the build, and what it says about its sandboxes.
#[utoipa::path(
    get,
    path = "/v1/templates/{reference}",
    tag = "CodeCourier",
    params(("reference" = String, Path, description = "`[namespace/]name[:tag]`, or an id")),
    responses(
        (status = 200, description = "The build", body = TemplateDetail),
        (status = 404, description = "No such template or tag", body = ErrorBody),
    )
)]
pub(crate) async fn detail(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(reference): PathSegment,
) -> Result<Json<TemplateDetail>, ApiError> {
    let found = templates::build(&app, &project, &reference).await?;
    let (template, build) = (found.template, found.build);
    let tags = app.store.list_tags(&template.id).await?;
    let BuildConfig { user, workdir, env, start, ready } = build.config;
    Ok(Json(TemplateDetail {
        template_id: template.id.to_string(),
        build_id: build.id.to_string(),
        names: template.names,
        tags: tags.into_iter().filter(|tag| tag.build_id == build.id).map(|tag| tag.tag).collect(),
        config: TemplateConfig { user, workdir, env, start, ready },
        limits: build.limits.into(),
        size_bytes: build.size_bytes,
        image_digest: build.image_digest,
        egress: build.egress,
        created_at: build.created_at.to_rfc3339(),
        finished_at: build.finished_at.map(Timestamp::to_rfc3339),
    }))
}

/// Cancel a build, and return when nothing of it runs.
#[utoipa::path(
    post,
    path = "/v1/builds/{id}/cancel",
    tag = "CodeCourier",
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "It has failed for that reason"),
        (status = 404, description = "No such build", body = ErrorBody),
        (status = 409, description = "It had come to its end", body = ErrorBody),
    )
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
) -> Result<StatusCode, ApiError> {
    let missing = || {
        let shown: String = id.chars().take(64).collect();
        ApiError::not_found(format!("build '{shown}' not found"))
    };
    let id: BuildId = id.parse().map_err(|_not_an_id| missing())?;
    let row = app.store.find_build(&id).await?;
    let row = row.filter(|row| row.project_id.as_ref() == Some(&project.id));
    builds::cancel(&app, &row.ok_or_else(missing)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
