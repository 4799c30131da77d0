//! Secrets of projects. Their values come sealed and go sealed.

use std::collections::BTreeMap;

use courier_types::egress::SecretName;
use courier_types::{ProjectId, SecretId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::row::{Columns, to_bigint, to_json};
use crate::{PagePosition, Sealed, Store, StoreError};

/// A stored secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Its id.
    pub id: SecretId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name, unique within the project.
    pub name: SecretName,
    /// Number of its value, from 1.
    pub version: u64,
    /// Its value.
    pub sealed: Sealed,
    /// What its owner wrote on it.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it got its newest value.
    pub updated_at: Timestamp,
}

/// What a secret is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretKey {
    /// Its id.
    Id(SecretId),
    /// Its name.
    Name(SecretName),
}

/// A new value of a secret.
#[derive(Debug, Clone)]
pub struct SecretUpdate {
    /// The number of the value that it replaces.
    pub replaces: u64,
    /// The new value, whose number is one higher.
    pub sealed: Sealed,
    /// What replaces the metadata, where something does.
    pub metadata: Option<BTreeMap<String, String>>,
    /// When.
    pub at: Timestamp,
}

/// The columns that [`secret_of`] wants, for `concat!`.
macro_rules! secret_columns {
    () => {
        "s.id, s.project_id, s.name, s.version, s.sealed, s.metadata, s.created_at, s.updated_at"
    };
}
pub(crate) use secret_columns;

const BY_ID: &str =
    concat!("SELECT ", secret_columns!(), " FROM secrets s WHERE s.project_id = $1 AND s.id = $2");

const BY_NAME: &str = concat!(
    "SELECT ",
    secret_columns!(),
    " FROM secrets s WHERE s.project_id = $1 AND s.name = $2"
);

const PAGE: &str = concat!(
    "SELECT ",
    secret_columns!(),
    " FROM secrets s WHERE s.project_id = $1 \
     AND (s.created_at < $2 OR (s.created_at = $2 AND s.id < $3)) \
     ORDER BY s.created_at DESC, s.id DESC LIMIT $4"
);

impl Store {
    /// Stores a new secret.
    ///
    /// # Errors
    /// The project has one of that name, or `max` of them already, or the database refused.
    pub async fn insert_secret(&self, new: &SecretRow, max: u64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        check_room(&mut transaction, new, max).await?;
        sqlx::query(
            "INSERT INTO secrets (id, project_id, name, version, sealed, metadata, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(new.id.as_str())
        .bind(new.project_id.as_str())
        .bind(new.name.as_str())
        .bind(to_bigint(new.version))
        .bind(new.sealed.as_str())
        .bind(to_json(&new.metadata))
        .bind(new.created_at.as_micros())
        .bind(new.updated_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// A secret of the project.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_secret(
        &self,
        project: &ProjectId,
        key: &SecretKey,
    ) -> Result<Option<SecretRow>, StoreError> {
        let (query, key) = match key {
            SecretKey::Id(id) => (BY_ID, id.as_str()),
            SecretKey::Name(name) => (BY_NAME, name.as_str()),
        };
        let row = sqlx::query(query)
            .bind(project.as_str())
            .bind(key)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(secret_of).transpose()
    }

    /// One page of the project's secrets, newest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn page_secrets(
        &self,
        project: &ProjectId,
        after: Option<&PagePosition>,
        limit: u32,
    ) -> Result<Vec<SecretRow>, StoreError> {
        let rows = sqlx::query(PAGE)
            .bind(project.as_str())
            .bind(after.map_or(i64::MAX, |position| position.created_at.as_micros()))
            .bind(after.map_or("", |position| position.id.as_str()))
            .bind(to_bigint(limit.into()))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(secret_of).collect()
    }

    /// Gives a secret its next value. False where it is gone, or has got another one meanwhile.
    ///
    /// # Errors
    /// The database refused.
    pub async fn update_secret(
        &self,
        id: &SecretId,
        update: &SecretUpdate,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE secrets SET version = version + 1, sealed = $3, \
             metadata = COALESCE($4, metadata), updated_at = $5 WHERE id = $1 AND version = $2",
        )
        .bind(id.as_str())
        .bind(to_bigint(update.replaces))
        .bind(update.sealed.as_str())
        .bind(update.metadata.as_ref().map(to_json))
        .bind(update.at.as_micros())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes a secret, and every token that stands for it. False where there is none.
    ///
    /// # Errors
    /// The database refused.
    pub async fn delete_secret(&self, id: &SecretId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query("DELETE FROM secrets WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

async fn check_room(
    transaction: &mut Transaction<'static, Sqlite>,
    new: &SecretRow,
    max: u64,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS secrets, COALESCE(SUM(CASE WHEN name = $2 THEN 1 ELSE 0 END), 0) \
         AS namesakes FROM secrets WHERE project_id = $1",
    )
    .bind(new.project_id.as_str())
    .bind(new.name.as_str())
    .fetch_one(&mut **transaction)
    .await?;
    let (secrets, namesakes): (i64, i64) = (row.try_get("secrets")?, row.try_get("namesakes")?);
    if namesakes > 0 {
        return Err(StoreError::SecretExists { name: new.name.clone() });
    }
    let secrets = u64::try_from(secrets).unwrap_or(0);
    if secrets >= max { Err(StoreError::TooManySecrets { max }) } else { Ok(()) }
}

pub(crate) fn secret_of(row: &SqliteRow) -> Result<SecretRow, StoreError> {
    let columns = Columns::new("secret", row)?;
    Ok(SecretRow {
        id: columns.parsed("id")?,
        project_id: columns.parsed("project_id")?,
        name: columns.parsed("name")?,
        version: columns.count("version")?,
        sealed: Sealed::new(columns.text("sealed")?),
        metadata: columns.json("metadata")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}
