//! Opening the file.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};

use crate::{OpenError, StoreError, migrations};

/// Connections that read. More than the cores of a machine only wait for each other.
const READERS_MAX: u32 = 4;

/// How long a query waits for a connection before it fails: far beyond any query's own time, so that
/// only a stuck disk reaches it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long SQLite itself waits for another process's lock (a backup tool, `sqlite3`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    pub(crate) reader: SqlitePool,
}

impl Store {
    /// Opens the file, or creates it (mode 0600), and brings its schema up to date.
    ///
    /// One process at a time: the caller holds the data folder's lock.
    ///
    /// # Errors
    /// The file cannot be opened, was written by a newer version, or cannot be migrated.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        create_private(path)
            .map_err(|source| OpenError::Create { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let opened = |source| OpenError::Open { path: path.to_owned(), source };
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // SQLite itself rolls back what a full disk broke, and sqlx then counts one transaction
            // too many for ever: such a connection is closed, and the next one is new.
            .before_acquire(|connection, _meta| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(options.clone())
            .await
            .map_err(opened)?;
        migrations::run(&writer, path).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(opened)?;
        Ok(Self { writer, reader })
    }

    /// Waits for the queries under way and closes the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// The one writing transaction. It has the write lock from its begin; dropped, it rolls back.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Makes the file with its mode before SQLite sees it; SQLite gives its `-wal` and `-shm` files the
/// mode of the database file.
fn create_private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}
