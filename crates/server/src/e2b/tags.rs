//! Tags: each names one build of its template, and moves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use courier_protocol::e2b::{
    AssignTags, AssignedTags, DeleteTags, ErrorBody, TemplateRef, TemplateTag,
};
use http::StatusCode;

use crate::app::App;
use crate::auth::Caller;
use crate::builds::{TAGS_MAX, parse_tags};
use crate::clock;
use crate::http::{ApiError, JsonBody, PathSegment};
use crate::templates;

/// Have tags name the build that a reference means now.
#[utoipa::path(
    post,
    path = "/templates/tags",
    tag = "E2B templates",
    request_body = AssignTags,
    responses(
        (status = 201, description = "They name it", body = AssignedTags),
        (status = "4XX", description = "Refused; no tag has moved", body = ErrorBody),
    )
)]
pub(crate) async fn assign(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    JsonBody { value: body, .. }: JsonBody<AssignTags>,
) -> Result<(StatusCode, Json<AssignedTags>), ApiError> {
    let tags = parse_tags(&body.tags)?;
    if tags.is_empty() {
        return Err(ApiError::bad_request("tags is empty"));
    }
    let (_reference, row) = templates::owned(&app, &project, &body.target).await?;
    let found = templates::build(&app, &project, &body.target).await?;
    // Of another template of that name it would be refused there.
    let build = (&row.id, &found.build.id);
    if !app.store.tag_build(build, &tags, TAGS_MAX, clock::now()).await? {
        return Err(ApiError::not_found(format!("template '{}' not found", found.reference)));
    }
    let build_id = found.build.id.to_string();
    Ok((StatusCode::CREATED, Json(AssignedTags { tags, build_id })))
}

/// Take tags away. The builds that they named stay for a while.
#[utoipa::path(
    delete,
    path = "/templates/tags",
    tag = "E2B templates",
    request_body = DeleteTags,
    responses(
        (status = 204, description = "They are gone"),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    JsonBody { value: body, .. }: JsonBody<DeleteTags>,
) -> Result<StatusCode, ApiError> {
    let tags = parse_tags(&body.tags)?;
    if tags.iter().any(|tag| tag == TemplateRef::DEFAULT_TAG) {
        return Err(ApiError::bad_request("tag 'default' cannot be taken away, only moved"));
    }
    let (reference, row) = templates::owned(&app, &project, &body.name).await?;
    if reference.tag().is_some() {
        return Err(ApiError::bad_request("name must have no tag: tags has them"));
    }
    app.store.untag(&row.id, &tags).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tags of a template, by name.
#[utoipa::path(
    get,
    path = "/templates/{templateID}/tags",
    tag = "E2B templates",
    params(("templateID" = String, Path)),
    responses(
        (status = 200, description = "All of them", body = Vec<TemplateTag>),
        (status = 404, description = "No such template", body = ErrorBody),
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(text): PathSegment,
) -> Result<Json<Vec<TemplateTag>>, ApiError> {
    let (_reference, row) = templates::template(&app, &project, &text).await?;
    let tags = app.store.list_tags(&row.id).await?.into_iter().map(|tag| TemplateTag {
        tag: tag.tag,
        build_id: tag.build_id.to_string(),
        created_at: tag.created_at.to_rfc3339(),
    });
    Ok(Json(tags.collect()))
}
