//! Volumes: storage of a project that outlives sandboxes.
//!
//! ```text
//! row (making) ─▶ node.make ─▶ ready ─▶ row (deleting) ─▶ node.delete ─▶ no row
//!       └ failed: node.delete ─▶ no row         └ failed: the sweep and the next start repeat it
//! ```

mod content;

use std::sync::Arc;
use std::time::Duration;

use courier_protocol::e2b::VolumeMount as AskedMount;
use courier_protocol::node::{VolumeError as NodeVolumeError, Volumes};
use courier_store::{ProjectRow, StoreError, VolumeRow, VolumeState};
use courier_types::{
    AccessToken, MountPath, MountPathError, SandboxId, VOLUMES_MAX, VolumeId, VolumeMount,
};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::http::{ApiError, chain};
use crate::vault::{Place, UnsealError};
use crate::{clock, random};

pub(crate) use content::{Contents, Lease, lease};

/// Most volumes of one project: each takes some room though it is empty.
const PROJECT_MAX: u64 = 1_000;
/// Longest name in bytes.
const NAME_MAX: usize = 128;
/// Size in MiB of a volume that nobody says one for. It takes room only as it is written.
const SIZE_MIB: u32 = 10_240;
/// Sizes in MiB that can be asked for: those of a sandbox's disk.
const SIZES_MIB: std::ops::RangeInclusive<u32> = 16..=1_048_576;
/// How long a volume may be in the making before the sweep takes it for a failure: the node gives up
/// much earlier.
const MAKING_MAX: Duration = Duration::from_mins(10);
/// Seconds after which a node without room is worth another try.
const FULL_RETRY_SECS: u16 = 5;

/// Why something was not done with a volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("a volume's name has 1 to {NAME_MAX} characters of a-z, A-Z, 0-9, '_' and '-'")]
    Name,
    #[error("a volume has {} to {} MiB", SIZES_MIB.start(), SIZES_MIB.end())]
    Size,
    #[error("volume '{shown}' not found: `GET /volumes` lists what there is")]
    NotFound { shown: String },
    #[error("volumeMounts: {0}")]
    Path(#[from] MountPathError),
    #[error("volumeMounts: at most {VOLUMES_MAX} volumes for one sandbox")]
    TooMany,
    #[error("volumeMounts: {first} and {second} lie in one another: give each a path of its own")]
    Overlap { first: MountPath, second: MountPath },
    #[error("sandboxes have the volume: kill {} first", sandboxes.join(", "))]
    InUse { sandboxes: Vec<String> },
    #[error("the volume's content is being read or written: try again when that is done")]
    Busy,
    #[error("the token is not this volume's, or the volume is gone")]
    Token,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Node(#[from] NodeVolumeError),
    #[error("the volume's token cannot be read")]
    Sealed(#[from] UnsealError),
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<VolumeError> for ApiError {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::Name
            | VolumeError::Size
            | VolumeError::Path(_)
            | VolumeError::TooMany
            | VolumeError::Overlap { .. } => Self::bad_request(error.to_string()),
            VolumeError::NotFound { .. } => Self::not_found(error.to_string()),
            VolumeError::InUse { .. } | VolumeError::Busy => Self::conflict(error.to_string()),
            VolumeError::Token => Self::unauthorized(error.to_string()),
            VolumeError::Store(StoreError::VolumeExists { name }) => {
                Self::conflict(format!("there is a volume '{name}' already"))
            }
            VolumeError::Store(error @ StoreError::TooManyVolumes { .. }) => {
                Self::conflict(error.to_string())
            }
            VolumeError::Store(error) => error.into(),
            VolumeError::Node(NodeVolumeError::Full { what }) => {
                Self::unavailable(format!("no room for another volume: {what}"), FULL_RETRY_SECS)
            }
            VolumeError::Node(NodeVolumeError::InUse { .. }) => {
                Self::conflict("something still uses the volume: try again in a moment".to_owned())
            }
            VolumeError::Node(NodeVolumeError::Unsupported) => {
                Self::not_in_this_version("volumes, on this isolation")
            }
            VolumeError::Node(
                error @ (NodeVolumeError::NotFound { .. } | NodeVolumeError::Node(_)),
            ) => Self::internal(&error),
            VolumeError::Sealed(error) => Self::internal(&error),
            VolumeError::Interrupted => Self::internal(&error),
        }
    }
}

/// Makes a volume. Dropping the future does not stop the work.
pub(crate) async fn create(
    app: &Arc<App>,
    project: &ProjectRow,
    name: &str,
    size_mib: Option<u32>,
) -> Result<VolumeRow, VolumeError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
        return Err(VolumeError::Name);
    }
    let size_mib = size_mib.unwrap_or(SIZE_MIB);
    if !SIZES_MIB.contains(&size_mib) {
        return Err(VolumeError::Size);
    }
    let id = random::volume_id();
    let place = Place::Volume { project: &project.id, id: &id };
    let sealed = app.vault.seal(place, random::access_token().expose().as_bytes());
    let row = VolumeRow {
        project_id: project.id.clone(),
        name: name.to_owned(),
        size_mib,
        sealed,
        state: VolumeState::Making,
        created_at: clock::now(),
        id,
    };
    let own = Arc::clone(app);
    let work = app.work.spawn(async move { make(&own, row).await });
    work.await.map_err(|_join| VolumeError::Interrupted)?
}

async fn make(app: &App, row: VolumeRow) -> Result<VolumeRow, VolumeError> {
    let volumes = volumes(app)?;
    app.store.insert_volume(&row, PROJECT_MAX).await?;
    if let Err(error) = volumes.make(&row.id, row.size_mib).await {
        if let Err(left) = erase(app, &row.id).await {
            tracing::error!(volume = %row.id, error = chain(&left), "could not undo a volume");
        }
        return Err(error.into());
    }
    if app.store.mark_volume_ready(&row.id).await? {
        Ok(VolumeRow { state: VolumeState::Ready, ..row })
    } else {
        Err(VolumeError::Interrupted)
    }
}

/// Has the node delete a volume, and forgets it.
async fn erase(app: &App, id: &VolumeId) -> Result<(), VolumeError> {
    match volumes(app)?.delete(id).await {
        Ok(()) | Err(NodeVolumeError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(app.store.forget_volume(id).await?)
}

fn volumes(app: &App) -> Result<&dyn Volumes, VolumeError> {
    app.node.volumes().ok_or(VolumeError::Node(NodeVolumeError::Unsupported))
}

/// A volume of the project.
pub(crate) async fn find(
    app: &App,
    project: &ProjectRow,
    segment: &str,
) -> Result<VolumeRow, VolumeError> {
    let missing = || VolumeError::NotFound { shown: segment.chars().take(64).collect() };
    let id: VolumeId = segment.parse().map_err(|_no_id| missing())?;
    let row = app.store.find_volume(&id).await?;
    row.filter(|row| row.project_id == project.id).ok_or_else(missing)
}

/// Deletes a volume and all that is in it. Dropping the future does not stop the work.
pub(crate) async fn delete(
    app: &Arc<App>,
    project: &ProjectRow,
    segment: &str,
) -> Result<(), VolumeError> {
    let row = find(app, project, segment).await?;
    let own = Arc::clone(app);
    let work = app.work.spawn(async move {
        content::close(&own, &row.id).await?;
        match own.store.mark_volume_deleting(&row.id).await {
            Ok(_true_unless_gone) => erase(&own, &row.id).await,
            Err(StoreError::VolumeInUse { sandboxes }) => Err(VolumeError::InUse { sandboxes }),
            Err(error) => Err(error.into()),
        }
    });
    work.await.map_err(|_join| VolumeError::Interrupted)?
}

/// The token for a volume's content.
pub(crate) fn token(app: &App, row: &VolumeRow) -> Result<AccessToken, VolumeError> {
    let place = Place::Volume { project: &row.project_id, id: &row.id };
    let bytes = app.vault.unseal(place, &row.sealed)?;
    Ok(AccessToken::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The volume that a token opens.
pub(crate) async fn open(
    app: &App,
    segment: &str,
    presented: &str,
) -> Result<VolumeRow, VolumeError> {
    let id: VolumeId = segment.parse().map_err(|_no_id| VolumeError::Token)?;
    let row = app.store.find_volume(&id).await?.ok_or(VolumeError::Token)?;
    let token = token(app, &row)?;
    // Of hashes: how long that takes tells nothing about the token.
    if Sha256::digest(presented.as_bytes()) == Sha256::digest(token.expose().as_bytes()) {
        Ok(row)
    } else {
        Err(VolumeError::Token)
    }
}

/// The volumes that a sandbox is to have.
pub(crate) async fn mounts(
    app: &App,
    project: &ProjectRow,
    asked: &[AskedMount],
) -> Result<Vec<VolumeMount>, VolumeError> {
    if asked.len() > VOLUMES_MAX {
        return Err(VolumeError::TooMany);
    }
    let mut mounts: Vec<VolumeMount> = Vec::new();
    for AskedMount { name, path } in asked {
        let path: MountPath = path.parse()?;
        if let Some(other) = mounts.iter().find(|other| other.path.overlaps(&path)) {
            return Err(VolumeError::Overlap { first: other.path.clone(), second: path });
        }
        let row = app.store.find_volume_by_name(&project.id, name).await?;
        let row = row.ok_or_else(|| VolumeError::NotFound {
            shown: name.chars().take(NAME_MAX).collect(),
        })?;
        mounts.push(VolumeMount { volume: row.id, path, size_mib: row.size_mib });
    }
    Ok(mounts)
}

/// The volumes of a sandbox, as the wire shows them.
pub(crate) async fn shown(app: &App, id: &SandboxId) -> Result<Vec<AskedMount>, StoreError> {
    let mounts = app.store.volumes_of_sandbox(id).await?;
    let shown = mounts.into_iter();
    Ok(shown.map(|mount| AskedMount { name: mount.name, path: mount.path.into() }).collect())
}

/// Finishes what an earlier server began, before anything is served. What fails is the sweep's.
pub(crate) async fn settle(app: &App) -> Result<(), StoreError> {
    let Some(volumes) = app.node.volumes() else { return Ok(()) };
    let rows = app.store.list_all_volumes().await?;
    for row in rows.iter().filter(|row| row.state != VolumeState::Ready) {
        // One that was never ready has nothing in it.
        erase_or_report(app, &row.id).await;
    }
    let known = |id: &VolumeId| rows.iter().any(|row| row.id == *id);
    let listed = volumes.list().await.map(|found| warn_of_unknown(&found, known));
    report(listed.map_err(|error| chain(&error)), "the node's volumes cannot be listed");
    Ok(())
}

/// One sweep: what should be gone and is not is tried again.
pub(crate) async fn sweep(app: &App) -> Result<(), StoreError> {
    if app.node.volumes().is_none() {
        return Ok(());
    }
    let before = clock::before(clock::now(), MAKING_MAX);
    for row in app.store.list_unsettled_volumes().await? {
        if row.state != VolumeState::Making || row.created_at < before {
            erase_or_report(app, &row.id).await;
        }
    }
    Ok(())
}

async fn erase_or_report(app: &App, id: &VolumeId) {
    let erased = erase(app, id).await;
    report(erased.map_err(|error| chain(&error)), "a volume that was to go is still there");
}

fn report(done: Result<(), String>, failure: &'static str) {
    if let Err(error) = done {
        tracing::error!(error, failure);
    }
}

/// Nothing is deleted that the database does not know: it may be all that is left of somebody's data,
/// and the database an old copy.
fn warn_of_unknown(found: &[VolumeId], known: impl Fn(&VolumeId) -> bool) {
    let unknown: Vec<&str> = found.iter().filter(|id| !known(id)).map(VolumeId::as_str).collect();
    if !unknown.is_empty() {
        tracing::warn!(?unknown, "the node has volumes that the database does not know");
    }
}
