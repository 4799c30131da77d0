//! Rows of builds.

use courier_types::egress::Policy;
use courier_types::{BuildConfig, BuildId, Limits, ProjectId, TemplateId, Timestamp};
use sqlx::sqlite::SqliteRow;

use crate::StoreError;
use crate::row::Columns;

/// Why a build failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReason {
    /// For its author, whole.
    pub message: String,
    /// At which step, as E2B's wire has it: `base`, a number from 1, `finalize`.
    pub step: Option<String>,
}

/// How far a build is.
///
/// ```text
/// waiting ─▶ building ─┬▶ ready
///    └─────────────────┴▶ error
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildState {
    /// It was asked for, and nobody has said yet what it does.
    Waiting,
    /// It is being made.
    Building,
    /// Sandboxes can be made from it.
    Ready,
    /// It never will be.
    Error(BuildReason),
}

impl BuildState {
    /// True when nothing more can happen.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Waiting | Self::Building => false,
            Self::Ready | Self::Error(_) => true,
        }
    }

    /// The name in its column, which is that of E2B's wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Error(_) => "error",
        }
    }
}

/// A build. What it says about its sandboxes never changes once it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRow {
    /// Its id.
    pub id: BuildId,
    /// Of which template.
    pub template_id: TemplateId,
    /// Whose it is; none for the installation's own.
    pub project_id: Option<ProjectId>,
    /// What nodes know it by.
    pub reference: String,
    /// How far it is.
    pub state: BuildState,
    /// What it says about its sandboxes; the default until it is ready.
    pub config: BuildConfig,
    /// Caps of its sandboxes when nobody says anything.
    pub limits: Limits,
    /// What its sandboxes may reach at most; none bounds nothing.
    pub egress: Option<Policy>,
    /// The tags that it gets, or got, when it was ready.
    pub tags: Vec<String>,
    /// Size of its root file system in bytes, where that is known.
    pub size_bytes: Option<u64>,
    /// Digest of the image that it started from, where that came from a registry.
    pub image_digest: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// When it became ready or failed.
    pub finished_at: Option<Timestamp>,
}

/// The columns that [`build_of`] wants of `builds b`, for `concat!`.
macro_rules! build_columns {
    () => {
        "b.id, b.template_id, b.project_id, b.reference, b.state, b.reason, b.step, b.config, \
         b.limits, b.egress, b.tags, b.size_bytes, b.image_digest, b.created_at, b.updated_at, \
         b.finished_at"
    };
}
pub(crate) use build_columns;

pub(crate) fn build_of(row: &SqliteRow) -> Result<BuildRow, StoreError> {
    let columns = Columns::new("build", row)?;
    let project_id = columns
        .text_or_none("project_id")?
        .map(|text| text.parse())
        .transpose()
        .map_err(|source: courier_types::IdError| columns.corrupt("project_id", source))?;
    Ok(BuildRow {
        id: columns.parsed("id")?,
        template_id: columns.parsed("template_id")?,
        project_id,
        reference: columns.text("reference")?,
        state: state_of(&columns)?,
        config: columns.json("config")?,
        limits: columns.json("limits")?,
        egress: columns.json_or_none("egress")?,
        tags: columns.json("tags")?,
        size_bytes: columns.count_or_none("size_bytes")?,
        image_digest: columns.text_or_none("image_digest")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        finished_at: columns.time_or_none("finished_at")?,
    })
}

fn state_of(columns: &Columns<'_>) -> Result<BuildState, StoreError> {
    match columns.text("state")?.as_str() {
        "waiting" => Ok(BuildState::Waiting),
        "building" => Ok(BuildState::Building),
        "ready" => Ok(BuildState::Ready),
        "error" => Ok(BuildState::Error(BuildReason {
            message: columns.text_or_none("reason")?.unwrap_or_default(),
            step: columns.text_or_none("step")?,
        })),
        other => Err(columns.corrupt("state", format!("unknown state {other:?}"))),
    }
}
