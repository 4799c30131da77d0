//! Volumes of projects, and which sandboxes have them.
//!
//! ```text
//! making ──▶ ready ──▶ deleting ──▶ (no row)
//!    └────────────────────────────────▲
//! ```

use courier_types::{MountPath, ProjectId, SandboxId, Timestamp, VolumeId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use crate::row::Columns;
use crate::{Sealed, Store, StoreError};

/// Most sandboxes that an error names.
const NAMED_MAX: i64 = 10;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// Its id.
    pub id: VolumeId,
    /// Whose it is.
    pub project_id: ProjectId,
    /// Its name, unique within the project.
    pub name: String,
    /// Its largest size, in MiB.
    pub size_mib: u32,
    /// The token for its content.
    pub sealed: Sealed,
    /// What is being done with it.
    pub state: VolumeState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What is being done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// The node makes it.
    Making,
    /// It can be used.
    Ready,
    /// The node deletes it.
    Deleting,
}

impl VolumeState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Making, Self::Ready, Self::Deleting].into_iter().find(|state| state.as_str() == text)
    }
}

/// A volume of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxVolume {
    /// Which.
    pub volume: VolumeId,
    /// Its name.
    pub name: String,
    /// Where it is inside.
    pub path: MountPath,
}

/// The columns that [`volume_of`] wants, for `concat!`.
macro_rules! volume_columns {
    () => {
        "id, project_id, name, size_mib, sealed, state, created_at"
    };
}

const BY_NAME: &str = concat!(
    "SELECT ",
    volume_columns!(),
    " FROM volumes WHERE project_id = $1 AND name = $2 AND state = 'ready'"
);

const BY_ID: &str =
    concat!("SELECT ", volume_columns!(), " FROM volumes WHERE id = $1 AND state = 'ready'");

const OF_PROJECT: &str = concat!(
    "SELECT ",
    volume_columns!(),
    " FROM volumes WHERE project_id = $1 AND state = 'ready' ORDER BY created_at DESC, id DESC"
);

const UNSETTLED: &str =
    concat!("SELECT ", volume_columns!(), " FROM volumes WHERE state <> 'ready' ORDER BY id");

const ALL: &str = concat!("SELECT ", volume_columns!(), " FROM volumes ORDER BY id");

impl Store {
    /// Writes a volume down that is about to be made.
    ///
    /// # Errors
    /// The project has one of that name, or `max` of them already, or the database refused.
    pub async fn insert_volume(&self, new: &VolumeRow, max: u64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query(
            "SELECT COUNT(*) AS volumes, COALESCE(SUM(CASE WHEN name = $2 THEN 1 ELSE 0 END), 0) \
             AS namesakes FROM volumes WHERE project_id = $1",
        )
        .bind(new.project_id.as_str())
        .bind(&new.name)
        .fetch_one(&mut *transaction)
        .await?;
        let (volumes, namesakes): (i64, i64) = (row.try_get("volumes")?, row.try_get("namesakes")?);
        if namesakes > 0 {
            return Err(StoreError::VolumeExists { name: new.name.clone() });
        }
        if u64::try_from(volumes).unwrap_or(0) >= max {
            return Err(StoreError::TooManyVolumes { max });
        }
        sqlx::query(
            "INSERT INTO volumes (id, project_id, name, size_mib, sealed, state, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id.as_str())
        .bind(new.project_id.as_str())
        .bind(&new.name)
        .bind(i64::from(new.size_mib))
        .bind(new.sealed.as_str())
        .bind(new.state.as_str())
        .bind(new.created_at.as_micros())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// The node has made it. False where it is gone.
    ///
    /// # Errors
    /// The database refused.
    pub async fn mark_volume_ready(&self, id: &VolumeId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done =
            sqlx::query("UPDATE volumes SET state = 'ready' WHERE id = $1 AND state = 'making'")
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// A volume is to be deleted: from now on no sandbox gets it. False where it is gone.
    ///
    /// # Errors
    /// Sandboxes that have not ended have it, or the database refused.
    pub async fn mark_volume_deleting(&self, id: &VolumeId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query(
            "SELECT DISTINCT v.sandbox_id FROM sandbox_volumes v \
             JOIN sandboxes b ON b.id = v.sandbox_id \
             WHERE v.volume_id = $1 AND b.ended_at IS NULL ORDER BY v.sandbox_id LIMIT $2",
        )
        .bind(id.as_str())
        .bind(NAMED_MAX)
        .fetch_all(&mut *transaction)
        .await?;
        if !rows.is_empty() {
            let sandboxes = rows.iter().map(|row| row.try_get("sandbox_id"));
            return Err(StoreError::VolumeInUse {
                sandboxes: sandboxes.collect::<Result<_, _>>()?,
            });
        }
        let done = sqlx::query("UPDATE volumes SET state = 'deleting' WHERE id = $1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets a volume of which nothing is left on the node.
    ///
    /// # Errors
    /// The database refused.
    pub async fn forget_volume(&self, id: &VolumeId) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM volumes WHERE id = $1 AND state <> 'ready'")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// A volume that can be used, whoever's it is.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_volume(&self, id: &VolumeId) -> Result<Option<VolumeRow>, StoreError> {
        let row = sqlx::query(BY_ID).bind(id.as_str()).fetch_optional(&self.reader).await?;
        row.as_ref().map(volume_of).transpose()
    }

    /// The project's volume of a name.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_volume_by_name(
        &self,
        project: &ProjectId,
        name: &str,
    ) -> Result<Option<VolumeRow>, StoreError> {
        let query = sqlx::query(BY_NAME).bind(project.as_str()).bind(name);
        let row = query.fetch_optional(&self.reader).await?;
        row.as_ref().map(volume_of).transpose()
    }

    /// The project's volumes, newest first. There are no more than [`Store::insert_volume`] lets in.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_volumes(&self, project: &ProjectId) -> Result<Vec<VolumeRow>, StoreError> {
        let rows = sqlx::query(OF_PROJECT).bind(project.as_str()).fetch_all(&self.reader).await?;
        rows.iter().map(volume_of).collect()
    }

    /// Every volume, in whatever state.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_all_volumes(&self) -> Result<Vec<VolumeRow>, StoreError> {
        let rows = sqlx::query(ALL).fetch_all(&self.reader).await?;
        rows.iter().map(volume_of).collect()
    }

    /// The volumes that are being made or deleted, or should be and are not.
    ///
    /// # Errors
    /// The database refused.
    pub async fn list_unsettled_volumes(&self) -> Result<Vec<VolumeRow>, StoreError> {
        let rows = sqlx::query(UNSETTLED).fetch_all(&self.reader).await?;
        rows.iter().map(volume_of).collect()
    }

    /// The volumes of a sandbox, by path.
    ///
    /// # Errors
    /// The database refused.
    pub async fn volumes_of_sandbox(
        &self,
        id: &SandboxId,
    ) -> Result<Vec<SandboxVolume>, StoreError> {
        let rows = sqlx::query(
            "SELECT v.id, v.name, m.path FROM sandbox_volumes m \
             JOIN volumes v ON v.id = m.volume_id WHERE m.sandbox_id = $1 ORDER BY m.path",
        )
        .bind(id.as_str())
        .fetch_all(&self.reader)
        .await?;
        let of = |row: &SqliteRow| {
            let columns = Columns::new("volume of a sandbox", row)?;
            Ok(SandboxVolume {
                volume: columns.parsed("id")?,
                name: columns.text("name")?,
                path: columns.parsed("path")?,
            })
        };
        rows.iter().map(of).collect()
    }
}

/// Writes down the volumes of a sandbox that is about to be made. One that has gone meanwhile, or is
/// another project's, refuses it.
pub(crate) async fn insert(
    transaction: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    volumes: &[(VolumeId, MountPath)],
) -> Result<(), StoreError> {
    for (volume, path) in volumes {
        let done = sqlx::query(
            "INSERT INTO sandbox_volumes (sandbox_id, volume_id, path) \
             SELECT b.id, v.id, $3 FROM sandboxes b \
             JOIN volumes v ON v.project_id = b.project_id \
             WHERE b.id = $1 AND v.id = $2 AND v.state = 'ready'",
        )
        .bind(sandbox.as_str())
        .bind(volume.as_str())
        .bind(path.as_str())
        .execute(&mut **transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NoVolume { id: volume.clone() });
        }
    }
    Ok(())
}

fn volume_of(row: &SqliteRow) -> Result<VolumeRow, StoreError> {
    let columns = Columns::new("volume", row)?;
    let size = columns.count("size_mib")?;
    Ok(VolumeRow {
        id: columns.parsed("id")?,
        project_id: columns.parsed("project_id")?,
        name: columns.text("name")?,
        size_mib: u32::try_from(size).map_err(|source| columns.corrupt("size_mib", source))?,
        sealed: Sealed::new(columns.text("sealed")?),
        state: VolumeState::parse(&columns.text("state")?)
            .ok_or_else(|| columns.corrupt("state", "no state of a volume"))?,
        created_at: columns.time("created_at")?,
    })
}
