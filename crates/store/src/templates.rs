//! Templates and their names.

use courier_types::egress::Policy;
use courier_types::{Limits, ProjectId, TemplateId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::row::{Columns, to_json};
use crate::{Store, StoreError};

/// Most templates that one list gives.
const LIST_MAX: i64 = 1_000;

/// What is registered of a template.
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
    /// Id of that build, a UUID.
    pub build_id: String,
    /// Caps of its sandboxes when nobody says anything.
    pub limits: Limits,
    /// What its sandboxes may reach at most; none bounds nothing.
    pub egress: Option<Policy>,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRow {
    /// Its id.
    pub id: TemplateId,
    /// Whose it is; none for the installation's own, which every project may use.
    pub project_id: Option<ProjectId>,
    /// Its names; the first one is what answers show.
    pub names: Vec<String>,
    /// Reference of its newest build.
    pub build: String,
    /// Id of that build, a UUID.
    pub build_id: String,
    /// Caps of its sandboxes when nobody says anything.
    pub limits: Limits,
    /// What its sandboxes may reach at most; none bounds nothing.
    pub egress: Option<Policy>,
    /// When it was first registered.
    pub created_at: Timestamp,
    /// When it last got a build.
    pub updated_at: Timestamp,
    /// How many builds it got.
    pub build_count: u64,
    /// How many sandboxes were made from it.
    pub spawn_count: u64,
    /// When a sandbox was last made from it.
    pub last_spawned_at: Option<Timestamp>,
}

impl TemplateRow {
    /// True where every project may use it.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.project_id.is_none()
    }
}

const COLUMNS_OF_ALL: &str = "SELECT id, project_id, build, build_id, limits, created_at, \
     updated_at, build_count, spawn_count, last_spawned_at, egress FROM templates \
     WHERE project_id IS NULL OR project_id = $1 ORDER BY created_at, id LIMIT $2";

const COLUMNS_OF_ONE: &str = "SELECT t.id, t.project_id, t.build, t.build_id, t.limits, \
     t.created_at, t.updated_at, t.build_count, t.spawn_count, t.last_spawned_at, t.egress \
     FROM templates t LEFT JOIN template_names n ON n.template_id = t.id AND n.name = $1 \
     WHERE (t.id = $1 OR n.name = $1) AND (t.project_id IS NULL OR t.project_id = $2) \
     ORDER BY n.name IS NULL LIMIT 1";

impl Store {
    /// Registers a template, or gives the template of its first name a new build, names and limits.
    ///
    /// # Errors
    /// A name belongs to another template, or the database refused.
    pub async fn register_template(
        &self,
        new: &NewTemplate,
        now: Timestamp,
    ) -> Result<TemplateId, StoreError> {
        let mut transaction = self.begin().await?;
        let existing = match new.names.first() {
            Some(name) => owner_of_name(&mut transaction, name).await?,
            None => None,
        };
        let id = existing.unwrap_or_else(|| new.id.as_str().to_owned());
        sqlx::query(
            "INSERT INTO templates (id, project_id, build, build_id, limits, created_at, \
             updated_at, build_count, spawn_count, egress) \
             VALUES ($1, $2, $3, $4, $5, $6, $6, 1, 0, $7) \
             ON CONFLICT (id) DO UPDATE SET build = $3, build_id = $4, limits = $5, egress = $7, \
             updated_at = CASE WHEN templates.build = $3 THEN templates.updated_at ELSE $6 END, \
             build_count = templates.build_count \
             + CASE WHEN templates.build = $3 THEN 0 ELSE 1 END",
        )
        .bind(&id)
        .bind(new.project_id.as_ref().map(ProjectId::as_str))
        .bind(&new.build)
        .bind(&new.build_id)
        .bind(to_json(&new.limits))
        .bind(now.as_micros())
        .bind(new.egress.as_ref().map(to_json))
        .execute(&mut *transaction)
        .await?;
        name_template(&mut transaction, &id, &new.names).await?;
        transaction.commit().await?;
        id.parse().map_err(|source: courier_types::IdError| StoreError::Corrupt {
            table: "template",
            column: "id",
            id,
            source: source.into(),
        })
    }

    /// The template of a name or an id that the project may use.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_template(
        &self,
        project: &ProjectId,
        name_or_id: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let row = sqlx::query(COLUMNS_OF_ONE)
            .bind(name_or_id)
            .bind(project.as_str())
            .fetch_optional(&self.reader)
            .await?;
        match row {
            Some(row) => Ok(Some(self.template_of(&row).await?)),
            None => Ok(None),
        }
    }

    /// The templates that the project may use, oldest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_templates(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<TemplateRow>, StoreError> {
        let rows = sqlx::query(COLUMNS_OF_ALL)
            .bind(project.as_str())
            .bind(LIST_MAX)
            .fetch_all(&self.reader)
            .await?;
        let mut templates = Vec::with_capacity(rows.len());
        for row in &rows {
            templates.push(self.template_of(row).await?);
        }
        Ok(templates)
    }

    async fn template_of(&self, row: &SqliteRow) -> Result<TemplateRow, StoreError> {
        let columns = Columns::new("template", row)?;
        let project_id =
            columns
                .text_or_none("project_id")?
                .map(|text| text.parse())
                .transpose()
                .map_err(|source: courier_types::IdError| columns.corrupt("project_id", source))?;
        let names = sqlx::query(
            "SELECT name FROM template_names WHERE template_id = $1 ORDER BY position, name",
        )
        .bind(&columns.id)
        .fetch_all(&self.reader)
        .await?;
        Ok(TemplateRow {
            id: columns.parsed("id")?,
            project_id,
            names: names.iter().map(|row| row.try_get("name")).collect::<Result<_, _>>()?,
            build: columns.text("build")?,
            build_id: columns.text("build_id")?,
            limits: columns.json("limits")?,
            egress: columns.json_or_none("egress")?,
            created_at: columns.time("created_at")?,
            updated_at: columns.time("updated_at")?,
            build_count: columns.count("build_count")?,
            spawn_count: columns.count("spawn_count")?,
            last_spawned_at: columns.time_or_none("last_spawned_at")?,
        })
    }
}

async fn owner_of_name(
    transaction: &mut Transaction<'static, Sqlite>,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT template_id FROM template_names WHERE name = $1")
        .bind(name)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(row.map(|row| row.try_get("template_id")).transpose()?)
}

async fn name_template(
    transaction: &mut Transaction<'static, Sqlite>,
    id: &str,
    names: &[String],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM template_names WHERE template_id = $1")
        .bind(id)
        .execute(&mut **transaction)
        .await?;
    for (position, name) in (0_i64..).zip(names) {
        if owner_of_name(transaction, name).await?.is_some_and(|owner| owner != id) {
            return Err(StoreError::NameTaken { name: name.clone() });
        }
        sqlx::query(
            "INSERT INTO template_names (name, template_id, position) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(id)
        .bind(position)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
