//! What a first start makes: a project and a key.

use courier_store::{ApiKeyRow, ProjectRow, Store, StoreError};

use crate::auth::ApiKey;
use crate::{clock, random};

/// Slug of the project that every installation has.
pub const DEFAULT_PROJECT: &str = "default";

/// Makes the default project, unless it is there; returns it.
///
/// # Errors
/// The database refused.
pub async fn ensure_default_project(store: &Store) -> Result<ProjectRow, StoreError> {
    let project = ProjectRow {
        id: random::project_id(),
        slug: DEFAULT_PROJECT.to_owned(),
        created_at: clock::now(),
    };
    store.ensure_project(&project).await
}

/// Makes an API key of a project. The key itself is returned here and stored nowhere.
///
/// # Errors
/// The database refused.
pub async fn issue_api_key(
    store: &Store,
    project: &ProjectRow,
    name: &str,
) -> Result<(ApiKeyRow, ApiKey), StoreError> {
    let key = ApiKey::generate();
    let row = ApiKeyRow {
        id: random::api_key_id(),
        project_id: project.id.clone(),
        name: name.to_owned(),
        created_at: clock::now(),
        revoked_at: None,
    };
    store.insert_api_key(&row, &key.hash()).await?;
    Ok((row, key))
}
