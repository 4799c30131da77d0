//! Templates and their names. What sandboxes are made from is a template's builds.

use courier_types::{BuildId, ProjectId, TemplateId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::row::{Columns, to_bigint};
use crate::{BuildBounds, NewBuild, Store, StoreError};

/// The tag that a name without one means.
pub const DEFAULT_TAG: &str = "default";

/// Most templates that one list gives: beyond the bounds of what a project and an installation have.
const LIST_MAX: i64 = 1_000;

/// Most living sandboxes that a refusal names.
const NAMED_MAX: i64 = 5;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRow {
    /// Its id.
    pub id: TemplateId,
    /// Whose it is; none for the installation's own, which every project may use.
    pub project_id: Option<ProjectId>,
    /// Its names; the first one is what answers show.
    pub names: Vec<String>,
    /// Whether every project may use it.
    pub public: bool,
    /// When it was first registered or built.
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

/// The columns that [`Store::template_of`] wants of `templates t`, for `concat!`.
macro_rules! template_columns {
    () => {
        "t.id, t.project_id, t.public, t.created_at, t.updated_at, t.build_count, t.spawn_count, \
         t.last_spawned_at"
    };
}

const ALL: &str = concat!(
    "SELECT ",
    template_columns!(),
    " FROM templates t WHERE t.project_id IS NULL OR t.project_id = $1 \
     ORDER BY t.created_at, t.id LIMIT $2"
);

/// The project's own names go before the installation's, and names before ids.
const ONE: &str = concat!(
    "SELECT ",
    template_columns!(),
    " FROM templates t LEFT JOIN template_names n ON n.template_id = t.id AND n.name = $1 \
     AND n.owner IN ($2, '') WHERE n.name = $1 OR (t.id = $1 \
     AND (t.project_id IS NULL OR t.project_id = $2 OR t.public = 1)) \
     ORDER BY CASE n.owner WHEN $2 THEN 0 WHEN '' THEN 1 ELSE 2 END LIMIT 1"
);

const ONE_OF_ANOTHER: &str = concat!(
    "SELECT ",
    template_columns!(),
    " FROM templates t JOIN projects p ON p.id = t.project_id \
     JOIN template_names n ON n.template_id = t.id WHERE p.slug = $1 AND n.name = $2 \
     AND t.public = 1"
);

const INSTALLED: &str = concat!(
    "SELECT ",
    template_columns!(),
    " FROM templates t JOIN template_names n ON n.template_id = t.id \
     WHERE n.owner = '' AND n.name = $1"
);

const BY_ID: &str = concat!("SELECT ", template_columns!(), " FROM templates t WHERE t.id = $1");

impl Store {
    /// The template of a name or an id that the project may use: its own, the installation's, or by
    /// its id one that another project has made public.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_template(
        &self,
        project: &ProjectId,
        name_or_id: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let query = sqlx::query(ONE).bind(name_or_id).bind(project.as_str());
        let row = query.fetch_optional(&self.reader).await?;
        self.template_or_none(row).await
    }

    /// The public template of that name of another project.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_public_template(
        &self,
        slug: &str,
        name: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let query = sqlx::query(ONE_OF_ANOTHER).bind(slug).bind(name);
        let row = query.fetch_optional(&self.reader).await?;
        self.template_or_none(row).await
    }

    /// The installation's own template of that name.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_installed_template(
        &self,
        name: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let row = sqlx::query(INSTALLED).bind(name).fetch_optional(&self.reader).await?;
        self.template_or_none(row).await
    }

    /// A template of any project.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_template_by_id(
        &self,
        id: &TemplateId,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let row = sqlx::query(BY_ID).bind(id.as_str()).fetch_optional(&self.reader).await?;
        self.template_or_none(row).await
    }

    /// The project's templates and the installation's, oldest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_templates(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<TemplateRow>, StoreError> {
        let rows =
            sqlx::query(ALL).bind(project.as_str()).bind(LIST_MAX).fetch_all(&self.reader).await?;
        let mut templates = Vec::with_capacity(rows.len());
        for row in &rows {
            templates.push(self.template_of(row).await?);
        }
        Ok(templates)
    }

    /// Says whether other projects may use a template.
    ///
    /// # Errors
    /// The database refused.
    pub async fn set_public(&self, id: &TemplateId, public: bool) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE templates SET public = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(i64::from(public))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Forgets a template with its names, tags, builds and their logs; returns the builds. Nothing
    /// is returned of a template that is gone.
    ///
    /// # Errors
    /// Sandboxes of it are alive, or the database refused.
    pub async fn delete_template(
        &self,
        id: &TemplateId,
    ) -> Result<Vec<(BuildId, String)>, StoreError> {
        let mut transaction = self.begin().await?;
        let alive = sqlx::query(
            "SELECT id FROM sandboxes WHERE template_id = $1 AND ended_at IS NULL \
             ORDER BY created_at LIMIT $2",
        )
        .bind(id.as_str())
        .bind(NAMED_MAX)
        .fetch_all(&mut *transaction)
        .await?;
        if !alive.is_empty() {
            let ids = alive.iter().map(|row| row.try_get("id"));
            return Err(StoreError::TemplateInUse { sandboxes: ids.collect::<Result<_, _>>()? });
        }
        let rows = sqlx::query("SELECT id, reference FROM builds WHERE template_id = $1")
            .bind(id.as_str())
            .fetch_all(&mut *transaction)
            .await?;
        let builds = rows.iter().map(|row| {
            let columns = Columns::new("build", row)?;
            Ok::<_, StoreError>((columns.parsed("id")?, columns.text("reference")?))
        });
        let builds = builds.collect::<Result<_, _>>()?;
        sqlx::query("DELETE FROM templates WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(builds)
    }

    async fn template_or_none(
        &self,
        row: Option<SqliteRow>,
    ) -> Result<Option<TemplateRow>, StoreError> {
        match row {
            Some(row) => Ok(Some(self.template_of(&row).await?)),
            None => Ok(None),
        }
    }

    async fn template_of(&self, row: &SqliteRow) -> Result<TemplateRow, StoreError> {
        let columns = Columns::new("template", row)?;
        let project_id: Option<ProjectId> = columns
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
            public: project_id.is_none() || columns.count("public")? != 0,
            project_id,
            names: names.iter().map(|row| row.try_get("name")).collect::<Result<_, _>>()?,
            created_at: columns.time("created_at")?,
            updated_at: columns.time("updated_at")?,
            build_count: columns.count("build_count")?,
            spawn_count: columns.count("spawn_count")?,
            last_spawned_at: columns.time_or_none("last_spawned_at")?,
        })
    }
}

/// The text of an id that this store has written.
pub(crate) fn id_of(text: String) -> Result<TemplateId, StoreError> {
    text.parse().map_err(|source: courier_types::IdError| StoreError::Corrupt {
        table: "template",
        column: "id",
        id: text,
        source: source.into(),
    })
}

/// The template that an owner has of that name.
pub(crate) async fn owner_of_name(
    transaction: &mut Transaction<'static, Sqlite>,
    owner: &str,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT template_id FROM template_names WHERE owner = $1 AND name = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(row.map(|row| row.try_get("template_id")).transpose()?)
}

/// Makes the template of a build that is asked for; returns its id.
pub(crate) async fn insert_owned(
    transaction: &mut Transaction<'static, Sqlite>,
    new: &NewBuild,
    bounds: &BuildBounds,
    now: Timestamp,
) -> Result<String, StoreError> {
    let (id, owner) = (new.template_id.as_str(), new.project_id.as_str());
    let count: i64 = sqlx::query("SELECT COUNT(*) AS count FROM templates WHERE project_id = $1")
        .bind(owner)
        .fetch_one(&mut **transaction)
        .await?
        .try_get("count")?;
    if count >= to_bigint(bounds.templates_max) {
        return Err(StoreError::TooManyTemplates { max: bounds.templates_max });
    }
    sqlx::query(
        "INSERT INTO templates (id, project_id, created_at, updated_at, build_count, spawn_count) \
         VALUES ($1, $2, $3, $3, 0, 0)",
    )
    .bind(id)
    .bind(owner)
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    name_template(transaction, (owner, id), std::slice::from_ref(&new.name)).await?;
    Ok(id.to_owned())
}

/// Gives a template these names, and no others.
pub(crate) async fn name_template(
    transaction: &mut Transaction<'static, Sqlite>,
    (owner, id): (&str, &str),
    names: &[String],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM template_names WHERE template_id = $1")
        .bind(id)
        .execute(&mut **transaction)
        .await?;
    for (position, name) in (0_i64..).zip(names) {
        if owner_of_name(transaction, owner, name).await?.is_some_and(|other| other != id) {
            return Err(StoreError::NameTaken { name: name.clone() });
        }
        sqlx::query(
            "INSERT INTO template_names (owner, name, template_id, position) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (owner, name) DO NOTHING",
        )
        .bind(owner)
        .bind(name)
        .bind(id)
        .bind(position)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
