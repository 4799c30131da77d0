//! The way to what is in a volume: a sandbox of the server's own that has it, and nothing else. No
//! file of a volume is ever opened on the host.
//!
//! There is at most one such sandbox for a volume. It is made with the first request, reaches
//! nothing, and is killed when nobody has asked for a while. Requests hold a [`Lease`] as long as their
//! answer's body flows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use courier_protocol::v1::LimitsBody;
use courier_store::{ProjectRow, Purpose, VolumeRow};
use courier_types::{BuildConfig, SandboxId, VolumeId, VolumeMount};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::VolumeError;
use crate::app::App;
use crate::http::{ApiError, chain};
use crate::sandboxes::{self, CreateOrder};
use crate::templates::{self, FindError};

/// How long a sandbox waits for the next request.
const IDLE: Duration = Duration::from_secs(30);
/// How long a sandbox gets new requests; then the next one gets a new sandbox.
const SERVES_FOR: Duration = Duration::from_hours(1);
/// How long a sandbox lives at most: a transfer that begins last still has some hours.
const LIVES_FOR: Duration = Duration::from_hours(6);
/// Most such sandboxes at once, of all projects.
const OPEN_MAX: usize = 16;
/// Seconds after which another try makes sense where there are too many.
const FULL_RETRY_SECS: u16 = 30;
/// What they are made from: the installation's own template of that name.
const TEMPLATE: &str = "base";
/// The guest daemon alone needs little.
const LIMITS: LimitsBody = LimitsBody {
    memory_mib: Some(256),
    cpu_millis: Some(1_000),
    pids: Some(64),
    disk_mib: Some(64),
    open_files: Some(1_024),
};
/// Where a volume is in them.
const MOUNT: &str = courier_protocol::envd::volume::MOUNT;

/// The open volumes.
#[derive(Debug, Default)]
pub(crate) struct Contents(Mutex<HashMap<VolumeId, Arc<Open>>>);

/// One open volume.
#[derive(Debug)]
struct Open {
    /// Held while the sandbox is made or killed.
    sandbox: tokio::sync::Mutex<Option<Serving>>,
    /// How many requests are under way.
    users: watch::Sender<usize>,
    /// It is no longer in the table.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Serving {
    id: SandboxId,
    since: Instant,
}

/// Keeps the sandbox of a volume.
#[derive(Debug)]
pub(crate) struct Lease {
    open: Arc<Open>,
    /// The sandbox.
    pub(crate) sandbox: SandboxId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.open.users.send_modify(|users| *users = users.saturating_sub(1));
    }
}

impl Contents {
    fn lock(&self) -> MutexGuard<'_, HashMap<VolumeId, Arc<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a volume, and whether it is new; `None` where there are too many.
    fn entry(&self, id: &VolumeId) -> Option<(Arc<Open>, bool)> {
        let mut open = self.lock();
        if let Some(known) = open.get(id) {
            return Some((Arc::clone(known), false));
        }
        if open.len() >= OPEN_MAX {
            return None;
        }
        let new = Arc::new(Open {
            sandbox: tokio::sync::Mutex::default(),
            users: watch::Sender::new(0),
            closed: CancellationToken::new(),
        });
        open.insert(id.clone(), Arc::clone(&new));
        Some((new, true))
    }

    /// Takes an entry out of the table, if it is still that one.
    fn forget(&self, id: &VolumeId, open: &Arc<Open>) {
        let mut table = self.lock();
        if table.get(id).is_some_and(|known| Arc::ptr_eq(known, open)) {
            table.remove(id);
        }
        open.closed.cancel();
    }
}

/// A sandbox that has the volume. Dropping the future does not stop the work: a sandbox that is being
/// made is known by then, and retires as others do.
pub(crate) async fn lease(
    app: &Arc<App>,
    project: ProjectRow,
    volume: VolumeRow,
) -> Result<Lease, ApiError> {
    let own = Arc::clone(app);
    let work = app.work.spawn(async move { lease_to_the_end(&own, &project, &volume).await });
    work.await.map_err(|_join| VolumeError::Interrupted)?
}

async fn lease_to_the_end(
    app: &Arc<App>,
    project: &ProjectRow,
    volume: &VolumeRow,
) -> Result<Lease, ApiError> {
    loop {
        let entry = app.contents.entry(&volume.id);
        let (open, is_new) = entry.ok_or_else(|| {
            ApiError::unavailable(
                format!("the content of {OPEN_MAX} volumes is open, the most at once"),
                FULL_RETRY_SECS,
            )
        })?;
        if is_new {
            app.loops.spawn(retire(Arc::clone(app), volume.id.clone(), Arc::clone(&open)));
        }
        let mut serving = open.sandbox.lock().await;
        // Somebody closed it while we waited: the next entry is a new one.
        if open.closed.is_cancelled() {
            continue;
        }
        if is_spent(app, &open, serving.as_ref()).await?
            && let Some(spent) = serving.take()
        {
            end(app, &spent.id).await;
        }
        let sandbox = match serving.as_ref() {
            Some(serving) => serving.id.clone(),
            None => {
                let id = make(app, project, volume).await?;
                *serving = Some(Serving { id: id.clone(), since: Instant::now() });
                id
            }
        };
        open.users.send_modify(|users| *users += 1);
        drop(serving);
        return Ok(Lease { open, sandbox });
    }
}

/// Whether a sandbox has ended, or has served long enough and is not needed just now.
async fn is_spent(app: &App, open: &Open, serving: Option<&Serving>) -> Result<bool, VolumeError> {
    let Some(Serving { id, since }) = serving else { return Ok(false) };
    let row = app.store.find_sandbox(id).await?;
    let runs = row.is_some_and(|row| row.is_usable());
    Ok(!runs || (since.elapsed() > SERVES_FOR && *open.users.borrow() == 0))
}

async fn make(
    app: &Arc<App>,
    project: &ProjectRow,
    volume: &VolumeRow,
) -> Result<SandboxId, ApiError> {
    let timeout = LIVES_FOR.min(app.config.timeout_max);
    // Never the project's own of that name: nobody could delete that while a request is carried out,
    // for a reason that nobody is shown.
    let found = templates::installed(app, TEMPLATE).await.map_err(no_template)?;
    let mut order = CreateOrder::of(app, project, found, timeout)?.with_limits(LIMITS)?;
    // Nothing but the guest daemon is wanted.
    order.sealed.config = BuildConfig::default();
    order.purpose = Purpose::Volume;
    let path = MOUNT.parse().map_err(VolumeError::from)?;
    let mount = VolumeMount { volume: volume.id.clone(), path, size_mib: volume.size_mib };
    order.sealed.volumes = vec![mount];
    let row = sandboxes::create(app, order).await.map_err(|error| ApiError::from(&*error))?;
    Ok(row.spec.id)
}

/// A missing template is nothing that whoever asks for a file could know.
fn no_template(error: FindError) -> ApiError {
    match error {
        FindError::Store(error) => error.into(),
        FindError::Reference { .. } | FindError::NoTemplate { .. } | FindError::NoBuild { .. } => {
            let message = format!(
                "the content of volumes is reached by template '{TEMPLATE}', which is not here"
            );
            ApiError::unavailable(message, FULL_RETRY_SECS)
        }
    }
}

async fn end(app: &Arc<App>, id: &SandboxId) {
    if let Err(error) = sandboxes::kill(app, id).await {
        // The sweep goes on with it.
        tracing::error!(sandbox = %id, error = chain(&error), "could not kill a volume's sandbox");
    }
}

/// Kills the sandbox of a volume when nobody has asked for a while, or the server stops.
async fn retire(app: Arc<App>, id: VolumeId, open: Arc<Open>) {
    let mut users = open.users.subscribe();
    loop {
        let idle = async {
            // The sender is part of `open`, which we have.
            drop(users.wait_for(|users| *users == 0).await);
            tokio::time::timeout(IDLE, users.changed()).await.is_err()
        };
        let is_over = tokio::select! {
            is_idle = idle => is_idle,
            () = open.closed.cancelled() => return,
            () = app.stop.cancelled() => true,
        };
        if !is_over {
            continue;
        }
        let mut serving = open.sandbox.lock().await;
        if *open.users.borrow() > 0 && !app.stop.is_cancelled() {
            continue;
        }
        app.contents.forget(&id, &open);
        if let Some(serving) = serving.take() {
            end(&app, &serving.id).await;
        }
        return;
    }
}

/// Kills the sandbox of a volume that is about to be deleted; refused while it is used.
pub(super) async fn close(app: &Arc<App>, id: &VolumeId) -> Result<(), VolumeError> {
    let Some(open) = app.contents.lock().get(id).cloned() else { return Ok(()) };
    let mut serving = open.sandbox.lock().await;
    if *open.users.borrow() > 0 {
        return Err(VolumeError::Busy);
    }
    app.contents.forget(id, &open);
    if let Some(serving) = serving.take() {
        end(app, &serving.id).await;
    }
    Ok(())
}
