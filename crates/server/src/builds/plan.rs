//! From what a client sends to what a node is asked for; nothing is written down before all of it
//! is known to be in order.

use std::collections::{BTreeMap, BTreeSet};

use courier_protocol::e2b::StartTemplateBuild;
use courier_protocol::node::Step;
use courier_store::{ProjectRow, StoreError};

use super::source::{self, Source, SourceError};
use super::steps::{self, COMMAND_MAX, StepsError};
use super::uploads;
use crate::app::App;
use crate::http::ApiError;

/// Why a build is not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Steps(#[from] StepsError),
    #[error("{field} is longer than {COMMAND_MAX} bytes or has a NUL byte")]
    Command { field: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Source(error) => error.into(),
            PlanError::Steps(_) | PlanError::Command { .. } => Self::bad_request(error.to_string()),
            PlanError::Store(error) => error.into(),
        }
    }
}

/// What a build does.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) source: Source,
    pub(super) steps: Vec<Step>,
    pub(super) start: Option<String>,
    pub(super) ready: Option<String>,
    pub(super) force: bool,
    /// Digests of the archives that its steps name.
    pub(super) digests: BTreeSet<String>,
}

/// Checks what a client asks for.
pub(super) async fn plan(
    app: &App,
    project: &ProjectRow,
    asked: StartTemplateBuild,
) -> Result<Plan, PlanError> {
    let given = asked.steps.as_deref().unwrap_or_default();
    let mut digests = BTreeMap::new();
    for hash in steps::hashes(given) {
        if let Some(row) = uploads::find(app, &project.id, hash).await? {
            digests.insert(hash.to_owned(), row.digest);
        }
    }
    let steps = steps::parse(given, &digests)?;
    let start = command("startCmd", asked.start_cmd.as_deref())?;
    let ready = command("readyCmd", asked.ready_cmd.as_deref())?;
    Ok(Plan {
        source: source::find(app, project, &asked).await?,
        steps,
        start,
        ready,
        force: asked.force.unwrap_or(false),
        digests: digests.into_values().collect(),
    })
}

/// A command line; an empty one is none.
fn command(field: &'static str, text: Option<&str>) -> Result<Option<String>, PlanError> {
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) if text.len() > COMMAND_MAX || text.contains('\0') => {
            Err(PlanError::Command { field })
        }
        text => Ok(text.map(str::to_owned)),
    }
}
