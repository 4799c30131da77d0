//! The installation's own templates, whose builds are made elsewhere and registered at a start.

use courier_types::egress::Policy;
use courier_types::{BuildConfig, BuildId, Limits, ProjectId, TemplateId, Timestamp};
use sqlx::{Sqlite, Transaction};

use crate::row::to_json;
use crate::template_tags::set_tag;
use crate::templates::{DEFAULT_TAG, id_of, name_template, owner_of_name};
use crate::{Store, StoreError};

/// What is registered of a template whose build was made elsewhere: one of the installation's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTemplate {
    /// Its id, where it is new.
    pub id: TemplateId,
    /// Whose it is; none for the installation's own, which every project may use.
    pub project_id: Option<ProjectId>,
    /// Its names; the first one is what answers show. The first one also says which template it is:
    /// a template of that name is updated.
    pub names: Vec<String>,
    /// Reference of its newest build: the file name stem of the image on the nodes.
    pub build: String,
    /// Id of that build.
    pub build_id: BuildId,
    /// What that build says about its sandboxes.
    pub config: BuildConfig,
    /// Caps of its sandboxes when nobody says anything.
    pub limits: Limits,
    /// What its sandboxes may reach at most; none bounds nothing.
    pub egress: Option<Policy>,
}

impl Store {
    /// Registers a template and its build, or gives the template of its first name a new build and
    /// names. Tag `default` means that build then.
    ///
    /// # Errors
    /// A name belongs to another template, or the database refused.
    pub async fn register_template(
        &self,
        new: &NewTemplate,
        now: Timestamp,
    ) -> Result<TemplateId, StoreError> {
        let mut transaction = self.begin().await?;
        let owner = new.project_id.as_ref().map_or("", ProjectId::as_str);
        let existing = match new.names.first() {
            Some(name) => owner_of_name(&mut transaction, owner, name).await?,
            None => None,
        };
        let id = existing.unwrap_or_else(|| new.id.as_str().to_owned());
        sqlx::query(
            "INSERT INTO templates (id, project_id, created_at, updated_at, build_count, \
             spawn_count) VALUES ($1, $2, $3, $3, 0, 0) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&id)
        .bind(new.project_id.as_ref().map(ProjectId::as_str))
        .bind(now.as_micros())
        .execute(&mut *transaction)
        .await?;
        name_template(&mut transaction, (owner, &id), &new.names).await?;
        register_build(&mut transaction, &id, new, now).await?;
        set_tag(&mut transaction, (&id, DEFAULT_TAG), &new.build_id, now).await?;
        transaction.commit().await?;
        id_of(id)
    }
}

/// Writes down a build that is on the nodes already. What its manifest says is the operator's word:
/// of one that is known, it counts anew.
async fn register_build(
    transaction: &mut Transaction<'static, Sqlite>,
    template: &str,
    new: &NewTemplate,
    now: Timestamp,
) -> Result<(), StoreError> {
    let known = sqlx::query("SELECT 1 FROM builds WHERE id = $1")
        .bind(new.build_id.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO builds (id, template_id, project_id, reference, state, config, limits, \
         egress, tags, created_at, updated_at, finished_at) \
         VALUES ($1, $2, $3, $4, 'ready', $5, $6, $7, $8, $9, $9, $9) \
         ON CONFLICT (id) DO UPDATE SET config = $5, limits = $6, egress = $7",
    )
    .bind(new.build_id.as_str())
    .bind(template)
    .bind(new.project_id.as_ref().map(ProjectId::as_str))
    .bind(&new.build)
    .bind(to_json(&new.config))
    .bind(to_json(&new.limits))
    .bind(new.egress.as_ref().map(to_json))
    .bind(to_json(&[DEFAULT_TAG]))
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    if known.is_none() {
        sqlx::query(
            "UPDATE templates SET build_count = build_count + 1, updated_at = $2 WHERE id = $1",
        )
        .bind(template)
        .bind(now.as_micros())
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
