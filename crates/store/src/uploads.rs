//! Archives that clients have uploaded for builds.

use courier_types::{ProjectId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::row::to_bigint;
use crate::{Store, StoreError};

/// An archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// Whose it is.
    pub project_id: ProjectId,
    /// What the client calls it: 64 hexadecimal digits.
    pub hash: String,
    /// SHA-256 of its bytes, in hexadecimal: the name of its file.
    pub digest: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last uploaded, asked for or built with.
    pub used_at: Timestamp,
}

/// How much of it a project may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadBounds {
    /// Bytes of all archives.
    pub bytes: u64,
    /// Archives.
    pub count: u64,
}

impl Store {
    /// Writes an archive down; one of the same hash is replaced. What was not used for longest goes
    /// while the project has more than its bounds.
    ///
    /// # Errors
    /// The database refused.
    pub async fn put_upload(
        &self,
        new: &UploadRow,
        bounds: UploadBounds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO uploads (project_id, hash, digest, size_bytes, used_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (project_id, hash) DO UPDATE SET \
             digest = $3, size_bytes = $4, used_at = $5",
        )
        .bind(new.project_id.as_str())
        .bind(&new.hash)
        .bind(&new.digest)
        .bind(to_bigint(new.size_bytes))
        .bind(new.used_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        make_room(&mut transaction, new.project_id.as_str(), bounds).await?;
        Ok(transaction.commit().await?)
    }

    /// An archive of the project; it counts as used now.
    ///
    /// # Errors
    /// The database refused.
    pub async fn use_upload(
        &self,
        project: &ProjectId,
        hash: &str,
        now: Timestamp,
    ) -> Result<Option<UploadRow>, StoreError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "UPDATE uploads SET used_at = $3 WHERE project_id = $1 AND hash = $2 \
             RETURNING project_id, hash, digest, size_bytes, used_at",
        )
        .bind(project.as_str())
        .bind(hash)
        .bind(now.as_micros())
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        row.as_ref().map(upload_of).transpose()
    }

    /// Forgets the archives that were not used since `before`.
    ///
    /// # Errors
    /// The database refused.
    pub async fn expire_uploads(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query("DELETE FROM uploads WHERE used_at < $1")
            .bind(before.as_micros())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// True where the project has an archive of that digest.
    ///
    /// # Errors
    /// The database refused.
    pub async fn has_upload(&self, project: &str, digest: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM uploads WHERE project_id = $1 AND digest = $2")
            .bind(project)
            .bind(digest)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.is_some())
    }
}

async fn make_room(
    transaction: &mut Transaction<'static, Sqlite>,
    project: &str,
    bounds: UploadBounds,
) -> Result<(), StoreError> {
    // The newest is never beyond the bounds: one archive alone is smaller.
    sqlx::query(
        "DELETE FROM uploads WHERE project_id = $1 AND hash IN (SELECT hash FROM (SELECT hash, \
         SUM(size_bytes) OVER (ORDER BY used_at DESC, hash) AS total, \
         ROW_NUMBER() OVER (ORDER BY used_at DESC, hash) AS place FROM uploads \
         WHERE project_id = $1) sums WHERE total > $2 OR place > $3)",
    )
    .bind(project)
    .bind(to_bigint(bounds.bytes))
    .bind(to_bigint(bounds.count))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn upload_of(row: &SqliteRow) -> Result<UploadRow, StoreError> {
    let project: String = row.try_get("project_id")?;
    let size: i64 = row.try_get("size_bytes")?;
    let corrupt = |source: courier_types::IdError| StoreError::Corrupt {
        table: "upload",
        column: "project_id",
        id: project.clone(),
        source: source.into(),
    };
    Ok(UploadRow {
        project_id: project.parse().map_err(corrupt)?,
        hash: row.try_get("hash")?,
        digest: row.try_get("digest")?,
        size_bytes: u64::try_from(size).unwrap_or(0),
        used_at: Timestamp::from_micros(row.try_get("used_at")?),
    })
}
