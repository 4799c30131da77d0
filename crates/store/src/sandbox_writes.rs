//! What changes sandboxes. A terminal state stays; a stale report changes nothing.

use courier_types::{
    AccessToken, EndReason, Generation, ObservedState, SandboxId, Timestamp, Usage,
};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::guest_tokens;
use crate::idempotency::{self, Idempotency, Insertion};
use crate::row::{to_bigint, to_json};
use crate::sandbox_row::observed_columns;
use crate::{NewSandboxRow, Store, StoreError, volumes};

/// How many sandboxes that have not ended a project may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliveLimit(pub u64);

/// An end to write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// When.
    pub at: Timestamp,
    /// More about it, for people.
    pub detail: Option<String>,
    /// What the sandbox had used.
    pub usage: Option<Usage>,
}

/// A node's report on one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateReport {
    /// Its number: lower than one seen before is stale.
    pub generation: Generation,
    /// What the node saw.
    pub state: ObservedState,
    /// When.
    pub at: Timestamp,
    /// What the sandbox had used.
    pub usage: Option<Usage>,
    /// More, for people.
    pub detail: Option<String>,
}

impl Store {
    /// Writes down a sandbox that is about to be made: desired `running`, observed `creating`. In
    /// the same transaction the project's limit is checked and the idempotency key is taken.
    ///
    /// # Errors
    /// The project is at its limit, the key was used for another request, or the database refused.
    pub async fn insert_sandbox(
        &self,
        new: &NewSandboxRow,
        limit: AliveLimit,
        idempotency: Option<&Idempotency>,
    ) -> Result<Insertion, StoreError> {
        let mut transaction = self.begin().await?;
        if let Some(idempotency) = idempotency
            && let Some(id) =
                idempotency::replay(&mut transaction, &new.project_id, idempotency).await?
        {
            transaction.commit().await?;
            return Ok(Insertion::Replayed(id));
        }
        check_limit(&mut transaction, new, limit).await?;
        insert_row(&mut transaction, new).await?;
        guest_tokens::insert(&mut transaction, &new.spec.id, &new.tokens).await?;
        volumes::insert(&mut transaction, &new.spec.id, &new.volumes).await?;
        sqlx::query(
            "UPDATE templates SET spawn_count = spawn_count + 1, last_spawned_at = $2 \
             WHERE id = $1",
        )
        .bind(new.template_id.as_str())
        .bind(new.created_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        if let Some(idempotency) = idempotency {
            let sandbox = (&new.spec.id, new.created_at);
            idempotency::record(&mut transaction, &new.project_id, sandbox, idempotency).await?;
        }
        transaction.commit().await?;
        Ok(Insertion::Inserted)
    }

    /// The node says that the sandbox is ready. False where it was killed meanwhile.
    ///
    /// # Errors
    /// The database refused.
    pub async fn mark_running(&self, id: &SandboxId, at: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE sandboxes SET observed = 'running', started_at = COALESCE(started_at, $2) \
             WHERE id = $1 AND desired = 'running' AND observed IN ('creating', 'running')",
        )
        .bind(id.as_str())
        .bind(at.as_micros())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Somebody wants the sandbox gone. False where it has ended, or nobody knows it.
    ///
    /// # Errors
    /// The database refused.
    pub async fn mark_killing(&self, id: &SandboxId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE sandboxes SET desired = 'killed', observed = 'killing' \
             WHERE id = $1 AND ended_at IS NULL",
        )
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Writes down an end. The first end of a sandbox stays; a later one only adds the usage and the
    /// detail that the first did not know. True where this was the first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn mark_ended(&self, id: &SandboxId, ended: &Ended) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let first = end_row(&mut transaction, id, ended).await?;
        transaction.commit().await?;
        Ok(first)
    }

    /// Ends a sandbox that never became usable, and frees its idempotency key: nothing of the
    /// user's ran, so the same request may be tried again. False where it had ended before.
    ///
    /// # Errors
    /// The database refused.
    pub async fn mark_never_started(
        &self,
        id: &SandboxId,
        ended: &Ended,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let first = end_row(&mut transaction, id, ended).await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE sandbox_id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(first)
    }

    /// Takes over a node's report. False where it was stale, or nobody knows the sandbox.
    ///
    /// # Errors
    /// The database refused.
    pub async fn apply_report(
        &self,
        id: &SandboxId,
        report: &StateReport,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let (observed, _reason) = observed_columns(report.state);
        // A desired kill shows as killing until the node says that the sandbox is gone.
        let done = sqlx::query(
            "UPDATE sandboxes SET generation = $2, \
             observed = CASE WHEN desired = 'killed' THEN 'killing' \
             WHEN $3 = 'creating' THEN observed ELSE $3 END, \
             started_at = CASE WHEN $3 = 'running' THEN COALESCE(started_at, $4) \
             ELSE started_at END, usage = COALESCE($5, usage) \
             WHERE id = $1 AND ended_at IS NULL AND generation <= $2 AND $6 = 0",
        )
        .bind(id.as_str())
        .bind(to_bigint(report.generation.0))
        .bind(observed)
        .bind(report.at.as_micros())
        .bind(report.usage.as_ref().map(to_json))
        .bind(i64::from(report.state.is_terminal()))
        .execute(&mut *transaction)
        .await?;
        let mut applied = done.rows_affected() > 0;
        if let ObservedState::Killed { reason } | ObservedState::Error { reason } = report.state {
            let ended =
                Ended { reason, at: report.at, detail: report.detail.clone(), usage: report.usage };
            applied = end_row(&mut transaction, id, &ended).await?;
        }
        transaction.commit().await?;
        Ok(applied)
    }

    /// Forgets the generations of what is alive: a node that has just started counts afresh.
    ///
    /// # Errors
    /// The database refused.
    pub async fn reset_generations(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE sandboxes SET generation = 0 WHERE ended_at IS NULL")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Moves the end of a usable sandbox's time. False where it is not usable.
    ///
    /// # Errors
    /// The database refused.
    pub async fn set_end_at(&self, id: &SandboxId, end_at: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE sandboxes SET end_at = $2 \
             WHERE id = $1 AND desired = 'running' AND ended_at IS NULL",
        )
        .bind(id.as_str())
        .bind(end_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes the rows of sandboxes that ended before `before`, beyond the newest `keep_max` ended
    /// ones too, and expired idempotency keys and tokens; returns how many sandboxes went.
    ///
    /// # Errors
    /// The database refused.
    pub async fn prune(
        &self,
        before: Timestamp,
        keep_max: u64,
        keys_before: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "DELETE FROM sandboxes WHERE ended_at IS NOT NULL AND (ended_at < $1 OR id IN \
             (SELECT id FROM sandboxes WHERE ended_at IS NOT NULL \
             ORDER BY ended_at DESC, id LIMIT $3 OFFSET $2))",
        )
        .bind(before.as_micros())
        .bind(to_bigint(keep_max))
        .bind(i64::MAX)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE created_at < $1")
            .bind(keys_before.as_micros())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM guest_tokens WHERE expires_at <= $1")
            .bind(now.as_micros())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }
}

async fn check_limit(
    transaction: &mut Transaction<'static, Sqlite>,
    new: &NewSandboxRow,
    limit: AliveLimit,
) -> Result<(), StoreError> {
    let alive: i64 = sqlx::query(
        "SELECT COUNT(*) AS alive FROM sandboxes WHERE project_id = $1 AND ended_at IS NULL",
    )
    .bind(new.project_id.as_str())
    .fetch_one(&mut **transaction)
    .await?
    .try_get("alive")?;
    let alive = u64::try_from(alive).unwrap_or(0);
    if alive >= limit.0 { Err(StoreError::TooManySandboxes { alive }) } else { Ok(()) }
}

async fn insert_row(
    transaction: &mut Transaction<'static, Sqlite>,
    new: &NewSandboxRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sandboxes (id, project_id, template_id, template, template_name, build, \
         desired, observed, generation, limits, metadata, access_token, created_at, end_at, \
         purpose, sealed, secret_names) VALUES ($1, $2, $3, $4, $5, $6, 'running', 'creating', 0, \
         $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(new.spec.id.as_str())
    .bind(new.project_id.as_str())
    .bind(new.template_id.as_str())
    .bind(&new.spec.template)
    .bind(&new.template_name)
    .bind(&new.spec.build)
    .bind(to_json(&new.spec.limits))
    .bind(to_json(&new.metadata))
    .bind(new.spec.access_token.as_ref().map(AccessToken::expose))
    .bind(new.created_at.as_micros())
    .bind(new.spec.deadline.as_micros())
    .bind(new.purpose.as_str())
    .bind(new.sealed.as_str())
    .bind(to_json(&new.secret_names))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn end_row(
    transaction: &mut Transaction<'static, Sqlite>,
    id: &SandboxId,
    ended: &Ended,
) -> Result<bool, StoreError> {
    let (observed, reason) = observed_columns(ObservedState::ended(ended.reason));
    let usage = ended.usage.as_ref().map(to_json);
    let done = sqlx::query(
        "UPDATE sandboxes SET desired = 'killed', observed = $2, reason = $3, ended_at = $4, \
         detail = COALESCE($5, detail), usage = COALESCE($6, usage), sealed = NULL, \
         secret_names = '[]' \
         WHERE id = $1 AND ended_at IS NULL",
    )
    .bind(id.as_str())
    .bind(observed)
    .bind(reason)
    .bind(ended.at.as_micros())
    .bind(&ended.detail)
    .bind(&usage)
    .execute(&mut **transaction)
    .await?;
    if done.rows_affected() > 0 {
        guest_tokens::forget(transaction, id).await?;
        return Ok(true);
    }
    sqlx::query(
        "UPDATE sandboxes SET detail = COALESCE(detail, $2), usage = COALESCE($3, usage) \
         WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(&ended.detail)
    .bind(&usage)
    .execute(&mut **transaction)
    .await?;
    Ok(false)
}
