//! What reads builds.

use courier_types::{BuildId, TemplateId};
use sqlx::Row as _;

use crate::build_row::{build_columns, build_of};
use crate::row::to_bigint;
use crate::{BuildRow, Store, StoreError};

/// What a build of a template is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildKey<'a> {
    /// The one that a tag means now.
    Tag(&'a str),
    /// This one.
    Id(&'a BuildId),
}

const ONE: &str = concat!("SELECT ", build_columns!(), " FROM builds b WHERE b.id = $1");

const ONE_OF_TEMPLATE: &str = concat!(
    "SELECT ",
    build_columns!(),
    " FROM builds b WHERE b.template_id = $1 AND b.id = $2 AND b.state = 'ready'"
);

const TAGGED: &str = concat!(
    "SELECT ",
    build_columns!(),
    " FROM builds b JOIN template_tags g ON g.build_id = b.id \
     WHERE g.template_id = $1 AND g.tag = $2"
);

const NEWEST: &str = concat!(
    "SELECT ",
    build_columns!(),
    " FROM builds b WHERE b.template_id = $1 ORDER BY b.created_at DESC, b.id DESC LIMIT $2"
);

const UNDER_WAY: &str = concat!(
    "SELECT ",
    build_columns!(),
    " FROM builds b WHERE b.state = 'building' AND b.finished_at IS NULL \
     ORDER BY b.created_at, b.id"
);

/// Builds that no tag names and no sandbox runs from, beyond the newest `$1` such of their template.
const SUPERSEDED: &str = concat!(
    "SELECT ",
    build_columns!(),
    " FROM builds b JOIN (SELECT u.id, ROW_NUMBER() OVER (PARTITION BY u.template_id \
     ORDER BY u.created_at DESC, u.id DESC) AS place FROM builds u \
     WHERE u.finished_at IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM template_tags g WHERE g.build_id = u.id) \
     AND NOT EXISTS (SELECT 1 FROM sandboxes s WHERE s.build = u.reference \
     AND s.ended_at IS NULL)) o ON o.id = b.id WHERE o.place > $1 ORDER BY b.created_at, b.id"
);

impl Store {
    /// A build of any project.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_build(&self, id: &BuildId) -> Result<Option<BuildRow>, StoreError> {
        let row = sqlx::query(ONE).bind(id.as_str()).fetch_optional(&self.reader).await?;
        row.as_ref().map(build_of).transpose()
    }

    /// The build of a template that sandboxes are made from.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_ready_build(
        &self,
        template: &TemplateId,
        key: &BuildKey<'_>,
    ) -> Result<Option<BuildRow>, StoreError> {
        let (query, key) = match key {
            BuildKey::Tag(tag) => (TAGGED, *tag),
            BuildKey::Id(id) => (ONE_OF_TEMPLATE, id.as_str()),
        };
        let row = sqlx::query(query)
            .bind(template.as_str())
            .bind(key)
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(build_of).transpose()
    }

    /// The newest builds of a template, newest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_builds(
        &self,
        template: &TemplateId,
        limit: u32,
    ) -> Result<Vec<BuildRow>, StoreError> {
        let rows = sqlx::query(NEWEST)
            .bind(template.as_str())
            .bind(to_bigint(limit.into()))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(build_of).collect()
    }

    /// The builds that are being made, of all projects, oldest first. Bounded by the projects'
    /// limits.
    ///
    /// # Errors
    /// The database refused.
    pub async fn builds_under_way(&self) -> Result<Vec<BuildRow>, StoreError> {
        let rows = sqlx::query(UNDER_WAY).fetch_all(&self.reader).await?;
        rows.iter().map(build_of).collect()
    }

    /// References of what nodes shall keep: builds that are ready or being made. Bounded by the
    /// numbers of templates and of builds that are kept of each.
    ///
    /// # Errors
    /// The database refused.
    pub async fn build_references(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT reference FROM builds WHERE state IN ('ready', 'building')")
            .fetch_all(&self.reader)
            .await?;
        Ok(rows.iter().map(|row| row.try_get("reference")).collect::<Result<_, _>>()?)
    }

    /// Finished builds that no tag names and no living sandbox was made from, but for the newest
    /// `keep` such of each template; oldest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn superseded_builds(&self, keep: u32) -> Result<Vec<BuildRow>, StoreError> {
        let rows =
            sqlx::query(SUPERSEDED).bind(to_bigint(keep.into())).fetch_all(&self.reader).await?;
        rows.iter().map(build_of).collect()
    }
}
