//! Projects and API keys.

use std::fmt;

use courier_types::{ApiKeyId, ProjectId, Timestamp};
use sqlx::sqlite::SqliteRow;

use crate::row::Columns;
use crate::{Store, StoreError};

/// SHA-256 of an API key. A lookup by it takes no time that depends on how much of a guessed key is
/// right.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash(String);

impl KeyHash {
    /// From the digest of the whole key.
    #[must_use]
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// A project: it owns sandboxes, keys and templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// Its name in template references.
    pub slug: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its public handle.
    pub id: ApiKeyId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// What its maker called it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Makes a project, or does nothing where one of that slug exists; returns the one there is.
    ///
    /// # Errors
    /// The database refused.
    pub async fn ensure_project(&self, project: &ProjectRow) -> Result<ProjectRow, StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO projects (id, slug, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (slug) DO NOTHING",
        )
        .bind(project.id.as_str())
        .bind(&project.slug)
        .bind(project.created_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        let row = sqlx::query("SELECT id, slug, created_at FROM projects WHERE slug = $1")
            .bind(&project.slug)
            .fetch_one(&mut *transaction)
            .await?;
        let project = project_of(&row)?;
        transaction.commit().await?;
        Ok(project)
    }

    /// Stores a key by its hash.
    ///
    /// # Errors
    /// The database refused.
    pub async fn insert_api_key(&self, key: &ApiKeyRow, hash: &KeyHash) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO api_keys (id, project_id, key_hash, name, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(key.id.as_str())
        .bind(key.project_id.as_str())
        .bind(&hash.0)
        .bind(&key.name)
        .bind(key.created_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// A project.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_project(&self, id: &ProjectId) -> Result<Option<ProjectRow>, StoreError> {
        let row = sqlx::query("SELECT id, slug, created_at FROM projects WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(project_of).transpose()
    }

    /// Whose key this is; none for an unknown or revoked one.
    ///
    /// # Errors
    /// The database refused.
    pub async fn project_of_key(&self, hash: &KeyHash) -> Result<Option<ProjectRow>, StoreError> {
        let row = sqlx::query(
            "SELECT p.id, p.slug, p.created_at FROM api_keys k \
             JOIN projects p ON p.id = k.project_id \
             WHERE k.key_hash = $1 AND k.revoked_at IS NULL",
        )
        .bind(&hash.0)
        .fetch_optional(&self.reader)
        .await?;
        row.as_ref().map(project_of).transpose()
    }

    /// Every key of every project, oldest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_api_keys(&self) -> Result<Vec<ApiKeyRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, project_id, name, created_at, revoked_at FROM api_keys \
             ORDER BY created_at, id",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(key_of).collect()
    }

    /// Refuses a key from now on; false where there is no such key, or it was revoked before.
    ///
    /// # Errors
    /// The database refused.
    pub async fn revoke_api_key(&self, id: &ApiKeyId, now: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done =
            sqlx::query("UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
                .bind(id.as_str())
                .bind(now.as_micros())
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

fn project_of(row: &SqliteRow) -> Result<ProjectRow, StoreError> {
    let columns = Columns::new("project", row)?;
    Ok(ProjectRow {
        id: columns.parsed("id")?,
        slug: columns.text("slug")?,
        created_at: columns.time("created_at")?,
    })
}

fn key_of(row: &SqliteRow) -> Result<ApiKeyRow, StoreError> {
    let columns = Columns::new("API key", row)?;
    Ok(ApiKeyRow {
        id: columns.parsed("id")?,
        project_id: columns.parsed("project_id")?,
        name: columns.text("name")?,
        created_at: columns.time("created_at")?,
        revoked_at: columns.time_or_none("revoked_at")?,
    })
}
