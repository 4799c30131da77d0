//! What takes time in a sandbox's life. Each job runs beside the task and ends by itself.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courier_driver::{Driver, DriverError, Ended, MachineSpec};
use courier_egress::FlowLog;
use courier_lifecycle::sandbox::Origin;
use courier_types::{SandboxId, SandboxSpec, Timestamp};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::Happened;
use crate::config::{Clock, NodeConfig};
use crate::failure::{DriverFailure, GuestError};
use crate::guest::Guest;
use crate::registry::Context;

/// How much later than the node the driver acts on a deadline: the node's end tells more.
const DRIVER_GRACE: Duration = Duration::from_secs(5);

/// Longest time for one attempt to destroy a machine.
const DESTROY_ATTEMPT: Duration = Duration::from_secs(30);

/// First and longest pause between attempts to destroy a machine.
const DESTROY_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Longest time for the driver to take a new deadline.
const MOVE_DEADLINE: Duration = Duration::from_secs(10);

/// Longest sleep before the wall clock is looked at again: somebody may have set it.
const CLOCK_CHECK: Duration = Duration::from_secs(15);

/// Makes the machine, or attaches to it. On failure nothing is left.
pub(super) async fn make(
    context: Arc<Context>,
    spec: SandboxSpec,
    (origin, image): (Origin, PathBuf),
    doomed: CancellationToken,
) -> Happened {
    let (driver, config) = (&context.driver, &context.config);
    let turn = tokio::select! {
        biased;
        () = doomed.cancelled() => return Happened::NotMade(DriverFailure::Doomed),
        turn = context.making.acquire() => turn,
    };
    let _turn = turn.expect("this semaphore is never closed");
    let machine = async {
        match origin {
            Origin::Fresh => {
                let machine = MachineSpec {
                    id: spec.id.clone(),
                    image,
                    limits: spec.limits,
                    deadline: spec.deadline.plus(DRIVER_GRACE),
                    volumes: spec.volumes.clone(),
                };
                driver.create(&machine).await
            }
            Origin::Adopted => driver.attach(&spec.id).await,
        }
    };
    let error = match tokio::time::timeout(config.make_deadline, machine).await {
        Ok(Ok(machine)) => return Happened::Made(machine),
        Ok(Err(error)) => DriverFailure::Driver(error),
        Err(_elapsed) => DriverFailure::Late { after: config.make_deadline },
    };
    let nothing_left = match &error {
        DriverFailure::Driver(DriverError::NotFound { .. }) => true,
        DriverFailure::Driver(
            DriverError::Full { .. }
            | DriverError::NotStarted { .. }
            | DriverError::NoVolume { .. }
            | DriverError::VolumeInUse { .. }
            | DriverError::Unavailable { .. },
        ) => origin == Origin::Fresh,
        DriverFailure::Doomed => true,
        DriverFailure::Driver(DriverError::Launcher(_) | DriverError::Host { .. })
        | DriverFailure::Late { .. } => false,
    };
    if !nothing_left {
        destroy(driver.as_ref(), &spec.id).await;
    }
    Happened::NotMade(error)
}

/// Puts the policy in force, then opens the channel and tells the guest daemon who it is: nothing of
/// the user's runs before both. Then runs what the build says, within a deadline, where there is one.
pub(super) async fn greet(
    (channel, link): (OwnedFd, OwnedFd),
    config: NodeConfig,
    (spec, flows): (SandboxSpec, FlowLog),
    starting: Option<Duration>,
) -> Happened {
    let network = match config.network.start(link, spec.id.clone(), (spec.network.clone(), flows)) {
        Ok(network) => Arc::new(network),
        Err(error) => return Happened::NotGreeted(GuestError::Network(error)),
    };
    let ca_bundle = network.ca_pem().to_owned();
    let guest = match Guest::greet(channel, &config, (&spec, ca_bundle)).await {
        Ok(guest) => Arc::new(guest),
        Err(error) => return Happened::NotGreeted(error),
    };
    if let Some(after) = starting
        && let Err(error) = super::start::start(&guest, &spec.config, after).await
    {
        return Happened::NotGreeted(error.into());
    }
    Happened::Greeted(guest, network)
}

/// Waits until the machine is gone. One that cannot be watched counts as gone.
pub(super) async fn watch_gone(gone: OwnedFd) -> Happened {
    let watched = async {
        #[expect(
            deprecated,
            reason = "its successor is unsafe code, and an OwnedFd cannot go wrong"
        )]
        let gone = AsyncFd::with_interest(gone, Interest::READABLE)?;
        gone.readable().await.map(drop)
    };
    if let Err(error) = watched.await {
        tracing::error!(%error, "a machine cannot be watched");
    }
    Happened::Gone
}

/// Destroys a machine, again and again until the driver says that it is gone. `None` when it was
/// gone before, and had been told how.
pub(crate) async fn destroy(driver: &dyn Driver, id: &SandboxId) -> Option<Ended> {
    let (mut pause, longest) = DESTROY_PAUSE;
    loop {
        let failure = match tokio::time::timeout(DESTROY_ATTEMPT, driver.destroy(id)).await {
            Ok(Ok(ended)) => return Some(ended),
            Ok(Err(DriverError::NotFound { .. })) => return None,
            Ok(Err(error)) => DriverFailure::Driver(error),
            Err(_elapsed) => DriverFailure::Late { after: DESTROY_ATTEMPT },
        };
        tracing::error!(sandbox = %id, error = ?failure, "a machine is not destroyed; trying on");
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
}

/// Moves the driver's own deadline, a little behind the node's.
pub(crate) async fn move_deadline(
    driver: &dyn Driver,
    id: &SandboxId,
    deadline: Timestamp,
) -> Result<(), DriverFailure> {
    let moved = driver.set_deadline(id, deadline.plus(DRIVER_GRACE));
    match tokio::time::timeout(MOVE_DEADLINE, moved).await {
        Ok(moved) => Ok(moved?),
        Err(_elapsed) => Err(DriverFailure::Late { after: MOVE_DEADLINE }),
    }
}

/// Waits until the wall clock shows a time.
pub(super) async fn until(clock: &Clock, deadline: Timestamp) {
    loop {
        let left = deadline.since(clock());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK_CHECK)).await;
    }
}
