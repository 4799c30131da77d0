//! What the store could not do.

use std::path::PathBuf;

use courier_types::egress::SecretName;
use courier_types::{SecretId, VolumeId};

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be made readable by its owner only.
    #[error("cannot create {path} with mode 0600")]
    Create {
        /// The database file.
        path: PathBuf,
        /// The host's answer.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused the file.
    #[error("cannot open the database {path}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: sqlx::Error,
    },
    /// The file was written by a newer version of CodeCourier.
    #[error(
        "the database {path} has schema {found}, this version knows up to {known}: install the \
         newer version again, or use another data folder"
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Schema version of the file.
        found: i64,
        /// Newest schema version that this program knows.
        known: i64,
    },
    /// A migration failed; the file is as it was before it.
    #[error("cannot bring the database {path} to schema {version}")]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// The schema version that was not reached.
        version: i64,
        /// SQLite's answer.
        #[source]
        source: sqlx::Error,
    },
}

/// Why a query failed. Nothing that it would have written was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused: a full or failing disk, mostly.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
    /// A column holds what this program did not write.
    #[error("column {column} of {table} {id} is corrupt")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: &'static str,
        /// Which row.
        id: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The project has as many sandboxes as it may have.
    #[error("the project has {alive} sandboxes, the most that it may have at once")]
    TooManySandboxes {
        /// How many there are.
        alive: u64,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// The project has a secret of that name.
    #[error("the project has a secret {name} already")]
    SecretExists {
        /// The name.
        name: SecretName,
    },
    /// The project has as many secrets as it may have.
    #[error("the project has {max} secrets, the most that it may have")]
    TooManySecrets {
        /// How many that is.
        max: u64,
    },
    /// A token was to stand for a secret that is not there.
    #[error("secret {id} is not there")]
    NoSecret {
        /// Its id.
        id: SecretId,
    },
    /// The project has a volume of that name.
    #[error("the project has a volume {name} already")]
    VolumeExists {
        /// The name.
        name: String,
    },
    /// The project has as many volumes as it may have.
    #[error("the project has {max} volumes, the most that it may have")]
    TooManyVolumes {
        /// How many that is.
        max: u64,
    },
    /// A sandbox was to have a volume that is not there.
    #[error("volume {id} is not there")]
    NoVolume {
        /// Its id.
        id: VolumeId,
    },
    /// Sandboxes that have not ended have the volume.
    #[error("sandboxes have the volume: {}", sandboxes.join(", "))]
    VolumeInUse {
        /// Some of them.
        sandboxes: Vec<String>,
    },
    /// The project has as many builds under way as it may have.
    #[error("the project has {max} builds that wait or are under way, the most that it may have")]
    TooManyBuilds {
        /// How many that is.
        max: u64,
    },
    /// The project has as many templates as it may have.
    #[error("the project has {max} templates, the most that it may have")]
    TooManyTemplates {
        /// How many that is.
        max: u64,
    },
    /// The template has as many tags as it may have.
    #[error("the template would have more than {max} tags, the most that it may have")]
    TooManyTags {
        /// How many that is.
        max: u64,
    },
    /// Sandboxes of the template are alive.
    #[error("sandboxes of the template are alive: {}", sandboxes.join(", "))]
    TemplateInUse {
        /// Some of them.
        sandboxes: Vec<String>,
    },
    /// The name belongs to another template.
    #[error("the name {name:?} belongs to another template")]
    NameTaken {
        /// The name.
        name: String,
    },
}

/// SQLite's primary result codes of a disk that fails, and of one that is full.
const DISK_CODES: [i64; 2] = [10, 13];
/// The primary code within an extended one.
const PRIMARY_CODE: i64 = 0xff;

impl StoreError {
    /// True when the disk under the database is full or failing.
    #[must_use]
    pub fn is_disk_trouble(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        let code = error.code().and_then(|code| code.parse::<i64>().ok());
        code.is_some_and(|code| DISK_CODES.contains(&(code & PRIMARY_CODE)))
    }
}
