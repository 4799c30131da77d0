//! What changes builds. A final state stays; with the state `ready` the build's tags move to it, in
//! one transaction.

use courier_types::egress::{Policy, SecretName};
use courier_types::{BuildConfig, BuildId, Limits, ProjectId, SandboxId, TemplateId, Timestamp};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::row::{to_bigint, to_json};
use crate::template_tags::{check_room, move_tag};
use crate::{BuildReason, Store, StoreError, templates};

/// How many of its things a project may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildBounds {
    /// Builds that wait, and as many that are being made.
    pub builds_max: u64,
    /// Templates.
    pub templates_max: u64,
    /// Tags of one template.
    pub tags_max: u64,
}

/// A build that is asked for.
#[derive(Debug, Clone)]
pub struct NewBuild {
    /// Its id.
    pub id: BuildId,
    /// What nodes will know it by.
    pub reference: String,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Name of its template, which is made where the project has none of that name.
    pub name: String,
    /// Id of that one then.
    pub template_id: TemplateId,
    /// Caps of its sandboxes.
    pub limits: Limits,
    /// The tags that it gets when it is ready.
    pub tags: Vec<String>,
}

/// What a build that was asked for belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedBuild {
    /// Its template.
    pub template_id: TemplateId,
    /// Whether other projects may use that.
    pub public: bool,
}

/// What is known of a build when it starts.
#[derive(Debug, Clone)]
pub struct StartedBuild {
    /// The sandbox of its steps.
    pub sandbox_id: SandboxId,
    /// Secrets that the policy of that one refers to.
    pub secret_names: Vec<SecretName>,
    /// What sandboxes made from it may reach at most: what those of its base may.
    pub egress: Option<Policy>,
}

/// What a build came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishedBuild {
    /// Sandboxes can be made from it.
    Ready {
        /// What it says about them.
        config: BuildConfig,
        /// Size of its root file system in bytes.
        size_bytes: u64,
        /// Digest of the image that it started from.
        image_digest: Option<String>,
    },
    /// It failed.
    Failed(BuildReason),
}

impl Store {
    /// Writes down a build that is asked for, and its template where that is new. Where the project
    /// has too many that wait, the oldest of them fail.
    ///
    /// # Errors
    /// The project is at one of its bounds, or the database refused.
    pub async fn request_build(
        &self,
        new: &NewBuild,
        bounds: &BuildBounds,
        now: Timestamp,
    ) -> Result<RequestedBuild, StoreError> {
        let mut transaction = self.begin().await?;
        let owner = new.project_id.as_str();
        let template = match templates::owner_of_name(&mut transaction, owner, &new.name).await? {
            Some(id) => id,
            None => templates::insert_owned(&mut transaction, new, bounds, now).await?,
        };
        check_room(&mut transaction, &template, &new.tags, bounds.tags_max).await?;
        drop_waiting(&mut transaction, owner, bounds.builds_max, now).await?;
        insert(&mut transaction, &template, new, now).await?;
        let row = sqlx::query(
            "UPDATE templates SET build_count = build_count + 1, updated_at = $2 \
             WHERE id = $1 RETURNING public",
        )
        .bind(&template)
        .bind(now.as_micros())
        .fetch_one(&mut *transaction)
        .await?;
        let public: i64 = row.try_get("public")?;
        transaction.commit().await?;
        Ok(RequestedBuild { template_id: templates::id_of(template)?, public: public != 0 })
    }

    /// A waiting build is made from now on. False where it does not wait.
    ///
    /// # Errors
    /// The project has `max` builds under way already, or the database refused.
    pub async fn start_build(
        &self,
        id: &BuildId,
        started: &StartedBuild,
        max: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE builds SET state = 'building', sandbox_id = $2, secret_names = $3, \
             egress = $4, updated_at = $5 WHERE id = $1 AND state = 'waiting'",
        )
        .bind(id.as_str())
        .bind(started.sandbox_id.as_str())
        .bind(to_json(&started.secret_names))
        .bind(started.egress.as_ref().map(to_json))
        .bind(now.as_micros())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let under_way: i64 = sqlx::query(
            "SELECT COUNT(*) AS under_way FROM builds WHERE state = 'building' \
             AND project_id = (SELECT project_id FROM builds WHERE id = $1)",
        )
        .bind(id.as_str())
        .fetch_one(&mut *transaction)
        .await?
        .try_get("under_way")?;
        if under_way > to_bigint(max) {
            return Err(StoreError::TooManyBuilds { max });
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Writes down what a build came to, and moves its tags to it where it is ready. False where it
    /// had come to an end before, or is gone.
    ///
    /// # Errors
    /// The database refused.
    pub async fn finish_build(
        &self,
        id: &BuildId,
        finished: &FinishedBuild,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let first = match finished {
            FinishedBuild::Ready { config, size_bytes, image_digest } => {
                let what = (config, *size_bytes, image_digest.as_deref());
                set_ready(&mut transaction, id, what, now).await?
            }
            FinishedBuild::Failed(reason) => set_failed(&mut transaction, id, reason, now).await?,
        };
        transaction.commit().await?;
        Ok(first)
    }

    /// Every build that is being made has failed for that reason: nobody makes it any more. Returns
    /// how many that were.
    ///
    /// # Errors
    /// The database refused.
    pub async fn fail_builds_under_way(
        &self,
        message: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE builds SET state = 'error', reason = $1, sandbox_id = NULL, \
             secret_names = '[]', updated_at = $2, finished_at = $2 WHERE state = 'building'",
        )
        .bind(message)
        .bind(now.as_micros())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Builds that were asked for before `before` and that nobody started have failed for that
    /// reason.
    ///
    /// # Errors
    /// The database refused.
    pub async fn expire_waiting_builds(
        &self,
        before: Timestamp,
        message: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE builds SET state = 'error', reason = $1, updated_at = $2, finished_at = $2 \
             WHERE state = 'waiting' AND created_at < $3",
        )
        .bind(message)
        .bind(now.as_micros())
        .bind(before.as_micros())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Forgets a finished build that no tag names. False where one does by now, or it is gone.
    ///
    /// # Errors
    /// The database refused.
    pub async fn delete_build(&self, id: &BuildId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "DELETE FROM builds WHERE id = $1 AND finished_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM template_tags g WHERE g.build_id = builds.id)",
        )
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

async fn insert(
    transaction: &mut Transaction<'static, Sqlite>,
    template: &str,
    new: &NewBuild,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO builds (id, template_id, project_id, reference, state, config, limits, tags, \
         created_at, updated_at) VALUES ($1, $2, $3, $4, 'waiting', $5, $6, $7, $8, $8)",
    )
    .bind(new.id.as_str())
    .bind(template)
    .bind(new.project_id.as_str())
    .bind(&new.reference)
    .bind(to_json(&BuildConfig::default()))
    .bind(to_json(&new.limits))
    .bind(to_json(&new.tags))
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Fails the oldest waiting builds of a project until there is room for one more.
async fn drop_waiting(
    transaction: &mut Transaction<'static, Sqlite>,
    project: &str,
    max: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE builds SET state = 'error', \
         reason = 'it was never started, and others were asked for since', \
         updated_at = $2, finished_at = $2 WHERE id IN (SELECT id FROM builds \
         WHERE project_id = $1 AND state = 'waiting' ORDER BY created_at DESC, id DESC \
         LIMIT $4 OFFSET $3)",
    )
    .bind(project)
    .bind(now.as_micros())
    .bind(to_bigint(max.saturating_sub(1)))
    .bind(i64::MAX)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn set_ready(
    transaction: &mut Transaction<'static, Sqlite>,
    id: &BuildId,
    (config, size_bytes, image_digest): (&BuildConfig, u64, Option<&str>),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "UPDATE builds SET state = 'ready', config = $2, size_bytes = $3, image_digest = $4, \
         sandbox_id = NULL, secret_names = '[]', updated_at = $5, finished_at = $5 \
         WHERE id = $1 AND state = 'building' RETURNING template_id, tags",
    )
    .bind(id.as_str())
    .bind(to_json(config))
    .bind(to_bigint(size_bytes))
    .bind(image_digest)
    .bind(now.as_micros())
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(row) = row else { return Ok(false) };
    let template: String = row.try_get("template_id")?;
    let tags: Vec<String> = serde_json::from_str(row.try_get("tags")?).map_err(|source| {
        let (id, source) = (id.to_string(), Box::new(source));
        StoreError::Corrupt { table: "build", column: "tags", id, source }
    })?;
    for tag in &tags {
        move_tag(transaction, (&template, tag), id, now).await?;
    }
    sqlx::query("UPDATE templates SET updated_at = $2 WHERE id = $1")
        .bind(&template)
        .bind(now.as_micros())
        .execute(&mut **transaction)
        .await?;
    Ok(true)
}

async fn set_failed(
    transaction: &mut Transaction<'static, Sqlite>,
    id: &BuildId,
    reason: &BuildReason,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE builds SET state = 'error', reason = $2, step = $3, sandbox_id = NULL, \
         secret_names = '[]', updated_at = $4, finished_at = $4 \
         WHERE id = $1 AND finished_at IS NULL",
    )
    .bind(id.as_str())
    .bind(&reason.message)
    .bind(&reason.step)
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}
