//! Storing secrets, whichever API asks. A value comes in here, is encrypted, and goes out only to
//! the node (`egress::StoredSecrets`).

use std::collections::BTreeMap;

use courier_protocol::node::PRESET_SECRETS;
use courier_protocol::secret::GivenSecret;
use courier_store::{PagePosition, ProjectRow, SecretKey, SecretRow, SecretUpdate, StoreError};
use courier_types::egress::{NameError, SecretName, SecretValue};

use crate::app::App;
use crate::http::ApiError;
use crate::vault::Place;
use crate::{clock, random};

/// Most secrets of one project: far more than services that one project talks to.
const SECRETS_MAX: u64 = 1_000;
/// Most entries of metadata (E2B's limit).
const METADATA_MAX: usize = 32;
/// Longest key of metadata in bytes (E2B's limit).
const METADATA_KEY_MAX: usize = 128;
/// Longest value of metadata in bytes (E2B's limit).
const METADATA_VALUE_MAX: usize = 1_024;
/// Most bytes of all metadata (E2B's limit).
const METADATA_BYTES_MAX: usize = 8_192;
/// What ids begin with, and names must not.
const ID_PREFIX: &str = "sec_";
/// How often an update is tried that another one overtook.
const UPDATE_TRIES: u32 = 8;

/// Why a secret is not stored or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("a secret's name does not begin with {ID_PREFIX:?}, as ids do")]
    IdAsName,
    #[error("a secret's name does not begin with {PRESET_SECRETS:?}, as those of presets do")]
    PresetAsName,
    #[error("a secret's value has 1 to {} bytes", SecretValue::MAX_BYTES)]
    Value,
    #[error(
        "metadata has at most {METADATA_MAX} entries, keys of {METADATA_KEY_MAX} and values of \
         {METADATA_VALUE_MAX} bytes, {METADATA_BYTES_MAX} bytes in all"
    )]
    Metadata,
    #[error("Secret \"{shown}\" not found")]
    NotFound { shown: String },
    #[error("the secret is being changed by somebody else")]
    Overtaken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Name(_)
            | SecretError::IdAsName
            | SecretError::PresetAsName
            | SecretError::Value
            | SecretError::Metadata => Self::bad_request(error.to_string()),
            SecretError::NotFound { .. } => Self::not_found(error.to_string()),
            SecretError::Overtaken => Self::conflict(error.to_string()),
            SecretError::Store(error) => error.into(),
        }
    }
}

/// The name of a new secret.
pub(crate) fn new_name(text: &str) -> Result<SecretName, SecretError> {
    let name: SecretName = text.parse()?;
    if name.as_str().starts_with(ID_PREFIX) {
        return Err(SecretError::IdAsName);
    }
    if name.as_str().starts_with(PRESET_SECRETS) {
        return Err(SecretError::PresetAsName);
    }
    Ok(name)
}

/// Stores a secret with its first value.
pub(crate) async fn create(
    app: &App,
    project: &ProjectRow,
    name: &str,
    value: &GivenSecret,
    metadata: BTreeMap<String, String>,
) -> Result<SecretRow, SecretError> {
    let name = new_name(name)?;
    check_value(value)?;
    check_metadata(&metadata)?;
    let (id, now, version) = (random::secret_id(), clock::now(), 1);
    let place = Place::Secret { project: &project.id, id: &id, version };
    let row = SecretRow {
        sealed: app.vault.seal(place, value.value().expose()),
        id,
        project_id: project.id.clone(),
        name,
        version,
        metadata,
        created_at: now,
        updated_at: now,
    };
    app.store.insert_secret(&row, SECRETS_MAX).await?;
    Ok(row)
}

/// A secret of the project, by name or id as they stand in a path.
pub(crate) async fn find(
    app: &App,
    project: &ProjectRow,
    segment: &str,
) -> Result<SecretRow, SecretError> {
    let missing = || SecretError::NotFound { shown: segment.chars().take(64).collect() };
    let key = if segment.starts_with(ID_PREFIX) {
        SecretKey::Id(segment.parse().map_err(|_no_id| missing())?)
    } else {
        SecretKey::Name(segment.parse().map_err(|_no_name| missing())?)
    };
    app.store.find_secret(&project.id, &key).await?.ok_or_else(missing)
}

/// Gives a secret its next value; it counts from the next use on.
pub(crate) async fn update(
    app: &App,
    project: &ProjectRow,
    segment: &str,
    value: &GivenSecret,
    metadata: Option<BTreeMap<String, String>>,
) -> Result<SecretRow, SecretError> {
    check_value(value)?;
    metadata.as_ref().map_or(Ok(()), check_metadata)?;
    for _try in 0..UPDATE_TRIES {
        let row = find(app, project, segment).await?;
        // The number is sealed in, so whoever comes in between makes us seal again.
        let version = row.version.saturating_add(1);
        let place = Place::Secret { project: &project.id, id: &row.id, version };
        let update = SecretUpdate {
            replaces: row.version,
            sealed: app.vault.seal(place, value.value().expose()),
            metadata: metadata.clone(),
            at: clock::now(),
        };
        if app.store.update_secret(&row.id, &update).await? {
            let SecretUpdate { sealed, at: updated_at, metadata, .. } = update;
            let metadata = metadata.unwrap_or(row.metadata);
            return Ok(SecretRow { version, sealed, metadata, updated_at, ..row });
        }
    }
    Err(SecretError::Overtaken)
}

/// Deletes a secret. Requests that need it fail from then on, and tokens for it are void.
pub(crate) async fn delete(
    app: &App,
    project: &ProjectRow,
    segment: &str,
) -> Result<(), SecretError> {
    let row = find(app, project, segment).await?;
    if app.store.delete_secret(&row.id).await? {
        Ok(())
    } else {
        Err(SecretError::NotFound { shown: row.name.to_string() })
    }
}

/// One page of the project's secrets, newest first, and whether there are more.
pub(crate) async fn page(
    app: &App,
    project: &ProjectRow,
    after: Option<&PagePosition>,
    limit: u32,
) -> Result<(Vec<SecretRow>, bool), StoreError> {
    let asked = limit.saturating_add(1);
    let mut rows = app.store.page_secrets(&project.id, after, asked).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok((rows, more))
}

fn check_value(value: &GivenSecret) -> Result<(), SecretError> {
    if (1..=SecretValue::MAX_BYTES).contains(&value.value().expose().len()) {
        Ok(())
    } else {
        Err(SecretError::Value)
    }
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), SecretError> {
    let fits = |(key, value): (&String, &String)| {
        key.len() <= METADATA_KEY_MAX && value.len() <= METADATA_VALUE_MAX
    };
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() > METADATA_MAX || bytes > METADATA_BYTES_MAX || !metadata.iter().all(fits) {
        return Err(SecretError::Metadata);
    }
    Ok(())
}
