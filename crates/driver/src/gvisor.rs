//! Sandboxes on gVisor (`runsc`), made by the launcher: this is its client.
//!
//! One connection, the anchor, stands as long as the driver: sandboxes of an owner that does not
//! linger die with it. Calls take further connections from a small pool, one call at a time each,
//! so calls run side by side. A call on a pooled connection that turns out dead is made again on a
//! fresh one, which is allowed because every call may be repeated.

mod connection;
mod wire;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use courier_types::{EndReason, Isolation, SandboxId, Timestamp, Usage, VolumeId};
use tokio::sync::Semaphore;

use crate::{Driver, DriverError, Ended, Machine, MachineSpec, Volumes};
use connection::{Connection, Greeting};
use wire::{Answer, How, Refusal, Request, VolumeMount};

/// Most calls at once; further ones wait. A start keeps a core busy for 50 ms, so more only queue
/// up elsewhere.
const MAX_CALLS: usize = 16;
/// What this driver runs on, for messages.
const TECHNOLOGY: &str = "gVisor (runsc)";

/// Whether an owner's sandboxes outlive its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// They stay for a later driver of the same owner.
    Stay,
    /// They go with the driver, whatever ends its process.
    Go,
}

/// A driver that asks the launcher.
#[derive(Debug)]
pub struct GvisorDriver {
    socket: PathBuf,
    greeting: Greeting,
    technology: String,
    calls: Semaphore,
    anchor: Mutex<Connection>,
    idle: Mutex<Vec<Connection>>,
}

impl GvisorDriver {
    /// Connects to the launcher that listens on `socket`. `owner` (1 to 32 of `[a-z0-9]`) and the
    /// user of this process together name whose sandboxes these are.
    ///
    /// # Errors
    /// The launcher does not answer, or refuses the owner or this user.
    pub async fn connect(
        socket: PathBuf,
        owner: &str,
        linger: Linger,
    ) -> Result<Self, DriverError> {
        let greeting = Greeting { owner: owner.to_owned(), linger: linger == Linger::Stay };
        let anchor = Connection::open(&socket, &greeting).await.map_err(DriverError::Launcher)?;
        let technology = anchor.technology.clone().unwrap_or_else(|| TECHNOLOGY.to_owned());
        Ok(Self {
            socket,
            greeting,
            technology,
            calls: Semaphore::new(MAX_CALLS),
            anchor: Mutex::new(anchor),
            idle: Mutex::default(),
        })
    }

    /// Every sandbox of that launcher, whoever owns it.
    ///
    /// # Errors
    /// The launcher does not answer.
    pub async fn list_all(&self) -> Result<Vec<String>, DriverError> {
        self.pages(|after| Request::ListAll { after }).await
    }

    /// Destroys all sandboxes of all owners and ends the launcher. For root.
    ///
    /// # Errors
    /// The launcher does not answer or refuses.
    pub async fn shut_down(&self) -> Result<(), DriverError> {
        self.done(&Request::Shutdown).await
    }

    async fn done(&self, request: &Request<'_>) -> Result<(), DriverError> {
        match self.call(request, None).await?.0 {
            Answer::Done => Ok(()),
            other => Err(unexpected(other, None)),
        }
    }

    async fn pages<'a, F>(&self, request: F) -> Result<Vec<String>, DriverError>
    where
        F: for<'b> Fn(Option<&'b str>) -> Request<'b>,
    {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().cloned();
            match self.call(&request(after.as_deref()), None).await?.0 {
                Answer::List { ids, more } => {
                    let end = !more || ids.is_empty();
                    all.extend(ids);
                    if end {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(other, None)),
            }
        }
    }

    async fn call(
        &self,
        request: &Request<'_>,
        fd: Option<&OwnedFd>,
    ) -> Result<(Answer, Vec<OwnedFd>), DriverError> {
        let _permit = self
            .calls
            .acquire()
            .await
            .map_err(|closed| DriverError::Launcher(io::Error::other(closed)))?;
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        // The connection is the call's own until the answer is here: dropping the call closes it.
        let pooled = lock(&self.idle).pop();
        if let Some(connection) = pooled
            && let Ok(answer) = connection.call(request, &fds).await
        {
            lock(&self.idle).push(connection);
            return Ok(answer);
        }
        let connection = self.open().await.map_err(DriverError::Launcher)?;
        let answer = connection.call(request, &fds).await.map_err(DriverError::Launcher)?;
        lock(&self.idle).push(connection);
        Ok(answer)
    }

    /// Opens a connection, and the anchor anew where the launcher was restarted.
    async fn open(&self) -> io::Result<Connection> {
        if !lock(&self.anchor).is_alive() {
            let anchor = Connection::open(&self.socket, &self.greeting).await?;
            *lock(&self.anchor) = anchor;
            lock(&self.idle).clear();
        }
        Connection::open(&self.socket, &self.greeting).await
    }

    async fn machine(
        &self,
        id: &SandboxId,
        request: Request<'_>,
        image: Option<&OwnedFd>,
    ) -> Result<Machine, DriverError> {
        let (answer, fds) = self.call(&request, image).await?;
        match (answer, <[OwnedFd; 3]>::try_from(fds)) {
            (Answer::Machine, Ok([channel, gone, link])) => {
                Ok(Machine { id: id.clone(), channel, gone, link })
            }
            (other, _) => Err(unexpected(other, Some(id))),
        }
    }
}

#[async_trait]
impl Driver for GvisorDriver {
    fn isolation(&self) -> Isolation {
        Isolation::Gvisor
    }

    fn technology(&self) -> String {
        self.technology.clone()
    }

    async fn create(&self, spec: &MachineSpec) -> Result<Machine, DriverError> {
        let image = tokio::fs::File::open(&spec.image).await.map_err(|source| {
            DriverError::Host { what: format!("cannot open {}", spec.image.display()), source }
        })?;
        let image = OwnedFd::from(image.into_std().await);
        let id = spec.id.as_str();
        let deadline = spec.deadline.as_micros();
        let volumes = spec
            .volumes
            .iter()
            .map(|mount| VolumeMount { id: mount.volume.as_str(), path: mount.path.as_str() });
        let volumes = volumes.collect();
        let request = Request::Create { id, limits: spec.limits.into(), deadline, volumes };
        self.machine(&spec.id, request, Some(&image)).await
    }

    async fn attach(&self, id: &SandboxId) -> Result<Machine, DriverError> {
        self.machine(id, Request::Attach { id: id.as_str() }, None).await
    }

    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), DriverError> {
        let deadline = deadline.as_micros();
        match self.call(&Request::SetDeadline { id: id.as_str(), deadline }, None).await?.0 {
            Answer::Done => Ok(()),
            other => Err(unexpected(other, Some(id))),
        }
    }

    async fn destroy(&self, id: &SandboxId) -> Result<Ended, DriverError> {
        let answer = match self.call(&Request::Destroy { id: id.as_str() }, None).await {
            // Nobody serves the socket. The kernel ends every box with its launcher, and the next
            // launcher begins by removing what they left: there is nothing to wait for.
            Err(DriverError::Launcher(error)) if is_unserved(&error) => {
                return Err(DriverError::NotFound { id: id.clone() });
            }
            answer => answer?.0,
        };
        match answer {
            Answer::Ended { how, usage, log } => Ok(Ended { reason: reason(how), usage, log }),
            other => Err(unexpected(other, Some(id))),
        }
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        let ids = self.pages(|after| Request::List { after }).await?;
        let parsed: Result<Vec<SandboxId>, _> = ids.iter().map(|id| id.parse()).collect();
        parsed.map_err(|error| DriverError::Launcher(io::Error::other(error)))
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, DriverError> {
        match self.call(&Request::Usage { id: id.as_str() }, None).await?.0 {
            Answer::Usage(usage) => Ok(usage),
            other => Err(unexpected(other, Some(id))),
        }
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }
}

#[async_trait]
impl Volumes for GvisorDriver {
    async fn make(&self, id: &VolumeId, size_mib: u32) -> Result<(), DriverError> {
        self.done(&Request::MakeVolume { id: id.as_str(), size_mib }).await
    }

    async fn delete(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.done(&Request::DeleteVolume { id: id.as_str() }).await
    }

    async fn list(&self) -> Result<Vec<VolumeId>, DriverError> {
        let ids = self.pages(|after| Request::ListVolumes { after }).await?;
        let parsed: Result<Vec<VolumeId>, _> = ids.iter().map(|id| id.parse()).collect();
        parsed.map_err(|error| DriverError::Launcher(io::Error::other(error)))
    }
}

/// True when there is no launcher on the other side of the socket's path.
fn is_unserved(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

const fn reason(how: How) -> EndReason {
    match how {
        How::Requested => EndReason::Requested,
        How::Timeout => EndReason::Timeout,
        How::Memory => EndReason::Memory,
        How::Crashed => EndReason::Crashed,
    }
}

/// The error that an answer other than the hoped-for one is.
fn unexpected(answer: Answer, id: Option<&SandboxId>) -> DriverError {
    let refusal = match answer {
        Answer::Refused(refusal) => refusal,
        other => {
            return DriverError::Launcher(io::Error::other(format!("strange answer {other:?}")));
        }
    };
    match (refusal, id) {
        (Refusal::NotFound, Some(id)) => DriverError::NotFound { id: id.clone() },
        (Refusal::NotStarted { what: why }, Some(id)) => {
            DriverError::NotStarted { id: id.clone(), why }
        }
        (Refusal::NoVolume { id }, _) => DriverError::NoVolume { id },
        (Refusal::InUse { what }, _) => DriverError::VolumeInUse { what },
        (Refusal::Full { what }, _) => DriverError::Full { what },
        (Refusal::Unavailable { what: why, remedy }, _) => {
            DriverError::Unavailable { technology: TECHNOLOGY, why, remedy }
        }
        (Refusal::Invalid { what }, _) => DriverError::Host {
            what: "the launcher refused the request".to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, what),
        },
        (Refusal::Host { what } | Refusal::NotStarted { what }, _) => DriverError::Host {
            what: "the host refused".to_owned(),
            source: io::Error::other(what),
        },
        (Refusal::NotFound, None) => {
            DriverError::Launcher(io::Error::other("nothing of that kind there"))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
