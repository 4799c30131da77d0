//! Rows of sandboxes.

use std::collections::BTreeMap;

use courier_types::egress::SecretName;
use courier_types::{
    AccessToken, DesiredState, EndReason, Generation, Limits, MountPath, ObservedState, ProjectId,
    SandboxId, TemplateId, Timestamp, Usage, VolumeId,
};
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error as ValueError;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::row::Columns;
use crate::{NewGuestToken, Sealed, StoreError};

/// What a sandbox is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A client made it and uses it as long as it likes.
    Client,
    /// The server made it for one execution and destroys it with that.
    Execution,
    /// The server made it to reach the content of a volume, and destroys it when nobody asks for that
    /// any more. Clients do not see it.
    Volume,
}

impl Purpose {
    /// The name in its column.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Execution => "execution",
            Self::Volume => "volume",
        }
    }
}

/// What is kept of a sandbox's spec in clear; its environment, network and files are sealed.
#[derive(Debug, Clone)]
pub struct StoredSpec {
    /// Its id.
    pub id: SandboxId,
    /// Reference of the template's build.
    pub build: String,
    /// Its caps.
    pub limits: Limits,
    /// When the node destroys it.
    pub deadline: Timestamp,
    /// Guards its data plane.
    pub access_token: Option<AccessToken>,
    /// The template reference that commands see.
    pub template: String,
}

/// What is known of a sandbox before it is made.
#[derive(Debug, Clone)]
pub struct NewSandboxRow {
    /// Whose it is.
    pub project_id: ProjectId,
    /// What it is there for.
    pub purpose: Purpose,
    /// Id of its template.
    pub template_id: TemplateId,
    /// The template's first name.
    pub template_name: Option<String>,
    /// What the client wants to find it by.
    pub metadata: BTreeMap<String, String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What the node gets, as far as it is kept in clear.
    pub spec: StoredSpec,
    /// What else the node gets.
    pub sealed: Sealed,
    /// Secrets that its policy refers to.
    pub secret_names: Vec<SecretName>,
    /// Tokens that it is given.
    pub tokens: Vec<NewGuestToken>,
    /// Volumes that it has, and where.
    pub volumes: Vec<(VolumeId, MountPath)>,
}

/// A sandbox, alive or ended.
#[derive(Debug, Clone)]
pub struct SandboxRow {
    /// Whose it is.
    pub project_id: ProjectId,
    /// What it is there for.
    pub purpose: Purpose,
    /// Id of its template.
    pub template_id: TemplateId,
    /// The template's first name, when the sandbox was made.
    pub template_name: Option<String>,
    /// What the client wants to find it by.
    pub metadata: BTreeMap<String, String>,
    /// What the node got, as far as it is kept in clear. Its `deadline` is the newest one.
    pub spec: StoredSpec,
    /// What was asked for.
    pub desired: DesiredState,
    /// What was seen.
    pub observed: ObservedState,
    /// The newest generation of a report on it.
    pub generation: Generation,
    /// More about its end, for people.
    pub detail: Option<String>,
    /// What it had used when that was last reported.
    pub usage: Option<Usage>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its guest daemon first answered.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl SandboxRow {
    /// True while clients can use it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.desired == DesiredState::Running && self.observed == ObservedState::Running
    }

    /// Why it ended, where it has.
    #[must_use]
    pub const fn end_reason(&self) -> Option<EndReason> {
        match self.observed {
            ObservedState::Killed { reason } | ObservedState::Error { reason } => Some(reason),
            ObservedState::Creating | ObservedState::Running | ObservedState::Killing => None,
        }
    }
}

/// The columns that [`sandbox_of`] wants, for `concat!`.
macro_rules! sandbox_columns {
    () => {
        "id, project_id, template_id, template, template_name, build, desired, observed, reason, \
         detail, generation, limits, metadata, access_token, usage, created_at, started_at, \
         end_at, ended_at, purpose"
    };
}
pub(crate) use sandbox_columns;

pub(crate) fn sandbox_of(row: &SqliteRow) -> Result<SandboxRow, StoreError> {
    let columns = Columns::new("sandbox", row)?;
    let id: SandboxId = columns.parsed("id")?;
    Ok(SandboxRow {
        project_id: columns.parsed("project_id")?,
        purpose: named(&columns, "purpose", &columns.text("purpose")?)?,
        template_id: columns.parsed("template_id")?,
        template_name: columns.text_or_none("template_name")?,
        metadata: columns.json("metadata")?,
        spec: StoredSpec {
            id,
            build: columns.text("build")?,
            limits: columns.json("limits")?,
            deadline: columns.time("end_at")?,
            access_token: columns.text_or_none("access_token")?.map(AccessToken::new),
            template: columns.text("template")?,
        },
        desired: named(&columns, "desired", &columns.text("desired")?)?,
        observed: observed_of(&columns)?,
        generation: Generation(columns.count("generation")?),
        detail: columns.text_or_none("detail")?,
        usage: columns.json_or_none("usage")?,
        created_at: columns.time("created_at")?,
        started_at: columns.time_or_none("started_at")?,
        ended_at: columns.time_or_none("ended_at")?,
    })
}

fn observed_of(columns: &Columns<'_>) -> Result<ObservedState, StoreError> {
    let reason = || -> Result<EndReason, StoreError> {
        let text = columns.text_or_none("reason")?.unwrap_or_default();
        named(columns, "reason", &text)
    };
    match columns.text("observed")?.as_str() {
        "creating" => Ok(ObservedState::Creating),
        "running" => Ok(ObservedState::Running),
        "killing" => Ok(ObservedState::Killing),
        "killed" => Ok(ObservedState::Killed { reason: reason()? }),
        "error" => Ok(ObservedState::Error { reason: reason()? }),
        other => Err(columns.corrupt("observed", format!("unknown state {other:?}"))),
    }
}

/// A unit variant by its serde name.
fn named<T: DeserializeOwned>(
    columns: &Columns<'_>,
    column: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    T::deserialize(text.into_deserializer())
        .map_err(|source: ValueError| columns.corrupt(column, source))
}

/// The `observed` and `reason` columns of a state.
pub(crate) const fn observed_columns(state: ObservedState) -> (&'static str, Option<&'static str>) {
    match state {
        ObservedState::Creating => ("creating", None),
        ObservedState::Running => ("running", None),
        ObservedState::Killing => ("killing", None),
        ObservedState::Killed { reason } => ("killed", Some(reason.as_str())),
        ObservedState::Error { reason } => ("error", Some(reason.as_str())),
    }
}
