//! Cancelling a build.

use courier_store::{BuildReason, BuildRow, BuildState, FinishedBuild, StoreError};

use crate::app::App;
use crate::clock;
use crate::http::ApiError;

/// What the row of a cancelled build says.
pub(crate) const CANCELLED: &str = "the build was cancelled";

/// Why a build is not cancelled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CancelError {
    #[error("the build has come to its end ({state}) already")]
    Ended { state: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CancelError> for ApiError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Ended { .. } => Self::conflict(error.to_string()),
            CancelError::Store(error) => error.into(),
        }
    }
}

/// Cancels a build and returns when that is written down and nothing of it runs.
pub(crate) async fn cancel(app: &App, build: &BuildRow) -> Result<(), CancelError> {
    if build.state.is_final() {
        return Err(CancelError::Ended { state: build.state.as_str() });
    }
    app.builds.cancel(&build.id).await;
    // Nobody made it, or whoever did could not write its end down.
    let reason = BuildReason { message: CANCELLED.to_owned(), step: None };
    app.store.finish_build(&build.id, &FinishedBuild::Failed(reason), clock::now()).await?;
    let state = app.store.find_build(&build.id).await?.map(|row| row.state);
    match state {
        // It was ready just before.
        Some(BuildState::Ready) => Err(CancelError::Ended { state: "ready" }),
        Some(BuildState::Error(_) | BuildState::Waiting | BuildState::Building) | None => Ok(()),
    }
}
