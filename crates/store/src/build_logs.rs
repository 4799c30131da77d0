//! Logs of builds: numbered from 0, only ever longer. Whoever writes them bounds them.

use courier_types::{BuildId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::row::to_bigint;
use crate::{Store, StoreError};

/// How much an entry matters; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevelRow {
    /// For whoever looks for a fault.
    Debug,
    /// What is being done.
    Info,
    /// What went to standard error.
    Warn,
    /// Why it failed.
    Error,
}

impl LogLevelRow {
    const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    const fn number(self) -> i64 {
        match self {
            Self::Debug => 0,
            Self::Info => 1,
            Self::Warn => 2,
            Self::Error => 3,
        }
    }
}

/// An entry of a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildLogRow {
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: LogLevelRow,
    /// Where: `base`, a number from 1, `finalize`.
    pub step: String,
    /// One line.
    pub message: String,
}

/// Which way entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDirection {
    /// From a time on, oldest first.
    Forward,
    /// Up to a time, newest first.
    Backward,
}

impl Store {
    /// Appends entries, the first of which gets that number.
    ///
    /// # Errors
    /// The build or the number is not free for it, or the database refused.
    pub async fn append_build_log(
        &self,
        id: &BuildId,
        first: u64,
        entries: &[BuildLogRow],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for (number, entry) in (first..).zip(entries) {
            sqlx::query(
                "INSERT INTO build_logs (build_id, number, at, level, step, message) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(id.as_str())
            .bind(to_bigint(number))
            .bind(entry.at.as_micros())
            .bind(entry.level.number())
            .bind(&entry.step)
            .bind(&entry.message)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Entries of at least a level, oldest first, after the first `offset` such.
    ///
    /// # Errors
    /// The database refused.
    pub async fn build_log(
        &self,
        id: &BuildId,
        level: LogLevelRow,
        (offset, limit): (u64, u32),
    ) -> Result<Vec<BuildLogRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, level, step, message FROM build_logs WHERE build_id = $1 AND level >= $2 \
             ORDER BY number LIMIT $4 OFFSET $3",
        )
        .bind(id.as_str())
        .bind(level.number())
        .bind(to_bigint(offset))
        .bind(to_bigint(limit.into()))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(entry_of).collect()
    }

    /// Entries of at least a level, from a time on or up to it, that time included.
    ///
    /// # Errors
    /// The database refused.
    pub async fn build_log_around(
        &self,
        id: &BuildId,
        level: LogLevelRow,
        (direction, cursor): (LogDirection, Option<Timestamp>),
        limit: u32,
    ) -> Result<Vec<BuildLogRow>, StoreError> {
        let (query, none) = match direction {
            LogDirection::Forward => (
                "SELECT at, level, step, message FROM build_logs WHERE build_id = $1 \
                 AND level >= $2 AND at >= $3 ORDER BY number LIMIT $4",
                i64::MIN,
            ),
            LogDirection::Backward => (
                "SELECT at, level, step, message FROM build_logs WHERE build_id = $1 \
                 AND level >= $2 AND at <= $3 ORDER BY number DESC LIMIT $4",
                i64::MAX,
            ),
        };
        let rows = sqlx::query(query)
            .bind(id.as_str())
            .bind(level.number())
            .bind(cursor.map_or(none, Timestamp::as_micros))
            .bind(to_bigint(limit.into()))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(entry_of).collect()
    }

    /// The newest entries of one step, oldest first.
    ///
    /// # Errors
    /// The database refused.
    pub async fn build_log_of_step(
        &self,
        id: &BuildId,
        step: &str,
        limit: u32,
    ) -> Result<Vec<BuildLogRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, level, step, message FROM build_logs WHERE build_id = $1 AND step = $2 \
             ORDER BY number DESC LIMIT $3",
        )
        .bind(id.as_str())
        .bind(step)
        .bind(to_bigint(limit.into()))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().rev().map(entry_of).collect()
    }
}

fn entry_of(row: &SqliteRow) -> Result<BuildLogRow, StoreError> {
    let level: i64 = row.try_get("level")?;
    // A level that a newer version knows is at least as grave as ours.
    let level = LogLevelRow::ALL.into_iter().find(|known| known.number() == level);
    Ok(BuildLogRow {
        at: Timestamp::from_micros(row.try_get("at")?),
        level: level.unwrap_or(LogLevelRow::Error),
        step: row.try_get("step")?,
        message: row.try_get("message")?,
    })
}
