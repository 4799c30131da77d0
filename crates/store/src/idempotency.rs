//! Idempotency keys: one key makes one sandbox, however often the request comes.

use courier_types::{ProjectId, SandboxId, Timestamp};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::StoreError;

/// The key that a create request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, as the client chose it.
    pub key: String,
    /// Hash of the request, in hexadecimal: another request under the same key is refused.
    pub request_hash: String,
    /// Keys older than this have expired.
    pub valid_since: Timestamp,
}

/// What an insertion came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// A new sandbox: it is the caller's to make.
    Inserted,
    /// The key was used before: this is the sandbox that it made.
    Replayed(SandboxId),
}

/// The sandbox of the key, where it was used for the same request.
pub(crate) async fn replay(
    transaction: &mut Transaction<'static, Sqlite>,
    project: &ProjectId,
    idempotency: &Idempotency,
) -> Result<Option<SandboxId>, StoreError> {
    sqlx::query(
        "DELETE FROM idempotency_keys \
         WHERE project_id = $1 AND idempotency_key = $2 AND created_at < $3",
    )
    .bind(project.as_str())
    .bind(&idempotency.key)
    .bind(idempotency.valid_since.as_micros())
    .execute(&mut **transaction)
    .await?;
    let row = sqlx::query(
        "SELECT request_hash, sandbox_id FROM idempotency_keys \
         WHERE project_id = $1 AND idempotency_key = $2",
    )
    .bind(project.as_str())
    .bind(&idempotency.key)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<String, _>("request_hash")? != idempotency.request_hash {
        return Err(StoreError::IdempotencyMismatch);
    }
    let id: String = row.try_get("sandbox_id")?;
    id.parse().map(Some).map_err(|source: courier_types::IdError| StoreError::Corrupt {
        table: "idempotency key",
        column: "sandbox_id",
        id,
        source: source.into(),
    })
}

pub(crate) async fn record(
    transaction: &mut Transaction<'static, Sqlite>,
    project: &ProjectId,
    sandbox: (&SandboxId, Timestamp),
    idempotency: &Idempotency,
) -> Result<(), StoreError> {
    let (id, now) = sandbox;
    sqlx::query(
        "INSERT INTO idempotency_keys \
         (project_id, idempotency_key, request_hash, sandbox_id, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(project.as_str())
    .bind(&idempotency.key)
    .bind(&idempotency.request_hash)
    .bind(id.as_str())
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
