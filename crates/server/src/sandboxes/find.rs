//! Finding a sandbox by what stands in a path. Somebody else's sandbox and none at all give the same
//! answer.

use courier_protocol::e2b::strip_client_id;
use courier_store::{ProjectRow, SandboxRow};
use courier_types::{ObservedState, SandboxId};

use crate::app::App;
use crate::http::ApiError;

/// A sandbox of the project, alive or ended.
pub(crate) async fn find_any(
    app: &App,
    project: &ProjectRow,
    segment: &str,
) -> Result<SandboxRow, ApiError> {
    let missing = || {
        let shown: String = segment.chars().take(64).collect();
        ApiError::not_found(format!("Sandbox \"{shown}\" not found"))
    };
    let id: SandboxId = strip_client_id(segment).parse().map_err(|_not_an_id| missing())?;
    let row = app.store.find_sandbox(&id).await?;
    row.filter(|row| row.project_id == project.id).ok_or_else(missing)
}

/// As [`find_any`], but waits for one that is just being made.
pub(crate) async fn find_made(
    app: &App,
    project: &ProjectRow,
    segment: &str,
) -> Result<SandboxRow, ApiError> {
    let row = find_any(app, project, segment).await?;
    if row.observed == ObservedState::Creating && app.created(&row.spec.id).await.is_some() {
        return find_any(app, project, segment).await;
    }
    Ok(row)
}

/// A sandbox of the project that clients can use; waits for one that is just being made.
pub(crate) async fn find_usable(
    app: &App,
    project: &ProjectRow,
    segment: &str,
) -> Result<SandboxRow, ApiError> {
    let row = find_made(app, project, segment).await?;
    if row.is_usable() {
        return Ok(row);
    }
    let id = &row.spec.id;
    Err(ApiError::not_found(match row.end_reason() {
        Some(reason) => format!("Sandbox \"{id}\" not found: it has ended ({reason})"),
        None => format!("Sandbox \"{id}\" not found: it is being made or destroyed"),
    }))
}
