//! What reads sandboxes.

use courier_types::{ProjectId, SandboxId, Timestamp};

use crate::row::to_bigint;
use crate::sandbox_row::{sandbox_columns, sandbox_of};
use crate::{SandboxRow, Store, StoreError};

/// The order of a page, by time of creation and then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrder {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// The last item of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePosition {
    /// When it was created.
    pub created_at: Timestamp,
    /// Its id.
    pub id: String,
}

const ONE: &str = concat!("SELECT ", sandbox_columns!(), " FROM sandboxes WHERE id = $1");

const ALIVE: &str = concat!(
    "SELECT ",
    sandbox_columns!(),
    " FROM sandboxes WHERE ended_at IS NULL ORDER BY created_at, id"
);

const ALIVE_OF_PROJECT: &str = concat!(
    "SELECT ",
    sandbox_columns!(),
    " FROM sandboxes WHERE project_id = $1 AND ended_at IS NULL AND purpose <> 'volume' \
     ORDER BY created_at, id"
);

const PAGE_UP: &str = concat!(
    "SELECT ",
    sandbox_columns!(),
    " FROM sandboxes WHERE project_id = $1 AND purpose <> 'volume' \
     AND (created_at > $2 OR (created_at = $2 AND id > $3)) ORDER BY created_at, id LIMIT $4"
);

const PAGE_DOWN: &str = concat!(
    "SELECT ",
    sandbox_columns!(),
    " FROM sandboxes WHERE project_id = $1 AND purpose <> 'volume' \
     AND (created_at < $2 OR (created_at = $2 AND id < $3)) \
     ORDER BY created_at DESC, id DESC LIMIT $4"
);

impl Store {
    /// A sandbox of any project, alive or ended.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_sandbox(&self, id: &SandboxId) -> Result<Option<SandboxRow>, StoreError> {
        let row = sqlx::query(ONE).bind(id.as_str()).fetch_optional(&self.reader).await?;
        row.as_ref().map(sandbox_of).transpose()
    }

    /// Every sandbox that has not ended, oldest first. Bounded by the projects' limits.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_alive(&self) -> Result<Vec<SandboxRow>, StoreError> {
        let rows = sqlx::query(ALIVE).fetch_all(&self.reader).await?;
        rows.iter().map(sandbox_of).collect()
    }

    /// The project's sandboxes that have not ended, oldest first, but for those that reach volumes. Bounded by the project's limit.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_alive_of(&self, project: &ProjectId) -> Result<Vec<SandboxRow>, StoreError> {
        let rows =
            sqlx::query(ALIVE_OF_PROJECT).bind(project.as_str()).fetch_all(&self.reader).await?;
        rows.iter().map(sandbox_of).collect()
    }

    /// One page of the project's sandboxes, ended ones too, but for those that reach volumes.
    ///
    /// # Errors
    /// The database refused.
    pub async fn page_sandboxes(
        &self,
        project: &ProjectId,
        order: PageOrder,
        after: Option<&PagePosition>,
        limit: u32,
    ) -> Result<Vec<SandboxRow>, StoreError> {
        let (query, start) = match order {
            PageOrder::Ascending => (PAGE_UP, i64::MIN),
            PageOrder::Descending => (PAGE_DOWN, i64::MAX),
        };
        let rows = sqlx::query(query)
            .bind(project.as_str())
            .bind(after.map_or(start, |position| position.created_at.as_micros()))
            .bind(after.map_or("", |position| position.id.as_str()))
            .bind(to_bigint(limit.into()))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(sandbox_of).collect()
    }
}
