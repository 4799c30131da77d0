//! Tags of templates: each means one build, and moves.

use std::collections::BTreeSet;

use courier_types::{BuildId, TemplateId, Timestamp};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::{Store, StoreError};

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRow {
    /// The tag.
    pub tag: String,
    /// The build that it means.
    pub build_id: BuildId,
    /// Since when.
    pub created_at: Timestamp,
}

impl Store {
    /// Makes tags mean a build of their template from now on. False where that build is not ready,
    /// or is gone.
    ///
    /// # Errors
    /// The template would have more than `max` tags, or the database refused.
    pub async fn tag_build(
        &self,
        (template, build): (&TemplateId, &BuildId),
        tags: &[String],
        max: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "SELECT 1 FROM builds WHERE id = $1 AND template_id = $2 AND state = 'ready'",
        )
        .bind(build.as_str())
        .bind(template.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        if row.is_none() {
            return Ok(false);
        }
        check_room(&mut transaction, template.as_str(), tags, max).await?;
        for tag in tags {
            set_tag(&mut transaction, (template.as_str(), tag), build, now).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Takes tags away. Those that are not there are no error.
    ///
    /// # Errors
    /// The database refused.
    pub async fn untag(&self, template: &TemplateId, tags: &[String]) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let mut gone = 0;
        for tag in tags {
            let done = sqlx::query("DELETE FROM template_tags WHERE template_id = $1 AND tag = $2")
                .bind(template.as_str())
                .bind(tag)
                .execute(&mut *transaction)
                .await?;
            gone += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(gone)
    }

    /// The tags of a template, by name. Bounded by whoever sets them.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_tags(&self, template: &TemplateId) -> Result<Vec<TagRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT tag, build_id, created_at FROM template_tags WHERE template_id = $1 \
             ORDER BY tag",
        )
        .bind(template.as_str())
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                let build: String = row.try_get("build_id")?;
                let corrupt = |source: courier_types::IdError| StoreError::Corrupt {
                    table: "tag",
                    column: "build_id",
                    id: template.to_string(),
                    source: source.into(),
                };
                Ok(TagRow {
                    tag: row.try_get("tag")?,
                    build_id: build.parse().map_err(corrupt)?,
                    created_at: Timestamp::from_micros(row.try_get("created_at")?),
                })
            })
            .collect()
    }
}

/// Fails where a template would have too many tags with these.
pub(crate) async fn check_room(
    transaction: &mut Transaction<'static, Sqlite>,
    template: &str,
    tags: &[String],
    max: u64,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT tag FROM template_tags WHERE template_id = $1")
        .bind(template)
        .fetch_all(&mut **transaction)
        .await?;
    let known = rows.iter().map(|row| row.try_get::<String, _>("tag"));
    let mut all: BTreeSet<String> = known.collect::<Result<_, _>>()?;
    all.extend(tags.iter().cloned());
    if u64::try_from(all.len()).is_ok_and(|count| count <= max) {
        Ok(())
    } else {
        Err(StoreError::TooManyTags { max })
    }
}

/// Makes a tag mean a build, whatever it meant before.
pub(crate) async fn set_tag(
    transaction: &mut Transaction<'static, Sqlite>,
    (template, tag): (&str, &str),
    build: &BuildId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO template_tags (template_id, tag, build_id, created_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (template_id, tag) DO UPDATE SET \
         created_at = CASE WHEN template_tags.build_id = $3 THEN template_tags.created_at \
         ELSE $4 END, build_id = $3",
    )
    .bind(template)
    .bind(tag)
    .bind(build.as_str())
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Makes a tag mean a build that has just become ready, unless it means one that was asked for
/// later: of two builds under way at once, the newer request counts, whichever ends first.
pub(crate) async fn move_tag(
    transaction: &mut Transaction<'static, Sqlite>,
    (template, tag): (&str, &str),
    build: &BuildId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO template_tags (template_id, tag, build_id, created_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (template_id, tag) DO UPDATE \
         SET build_id = $3, created_at = $4 \
         WHERE (SELECT created_at FROM builds WHERE id = template_tags.build_id) \
         <= (SELECT created_at FROM builds WHERE id = $3)",
    )
    .bind(template)
    .bind(tag)
    .bind(build.as_str())
    .bind(now.as_micros())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
