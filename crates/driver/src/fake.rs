//! Machines in memory, without any boundary: for tests of what stands on drivers.
//!
//! The guest is whatever the given function does with its end of the channel, usually a task that
//! serves the guest daemon's protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use courier_types::{EndReason, Isolation, SandboxId, Timestamp, Usage, VolumeId};
use rustix::event::EventfdFlags;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, socketpair};
use tokio::task::JoinHandle;

use crate::{Driver, DriverError, Ended, Machine, MachineSpec, Volumes};

/// What a guest does: it gets its end of the channel and must not block.
type Serve = dyn Fn(OwnedFd) + Send + Sync;

/// A driver whose machines are tasks.
pub struct FakeDriver {
    serve: Arc<Serve>,
    machines: Machines,
    /// Those that were made, and nothing of what would be in them.
    volumes: Mutex<BTreeSet<VolumeId>>,
}

type Machines = Arc<Mutex<BTreeMap<SandboxId, FakeMachine>>>;

struct FakeMachine {
    channel: OwnedFd,
    guest: OwnedFd,
    gone: OwnedFd,
    link: OwnedFd,
    /// The guest's end of the link; absent once it was taken.
    guest_link: Option<OwnedFd>,
    ended: Option<EndReason>,
    timer: Option<JoinHandle<()>>,
    volumes: Vec<VolumeId>,
}

impl fmt::Debug for FakeDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeDriver").field("machines", &lock(&self.machines).len()).finish()
    }
}

impl FakeDriver {
    /// A driver whose guests are `serve`.
    pub fn new(serve: impl Fn(OwnedFd) + Send + Sync + 'static) -> Self {
        Self { serve: Arc::new(serve), machines: Machines::default(), volumes: Mutex::default() }
    }

    /// Ends a machine as a crash would. False when there is none that runs.
    pub fn crash(&self, id: &SandboxId) -> bool {
        lock(&self.machines).get_mut(id).is_some_and(|machine| machine.end(EndReason::Crashed))
    }

    /// The guest's end of a machine's link, once: what is written to it is what the guest sends.
    pub fn take_link(&self, id: &SandboxId) -> Option<OwnedFd> {
        lock(&self.machines).get_mut(id)?.guest_link.take()
    }

    fn machine_of<T>(
        &self,
        id: &SandboxId,
        work: impl FnOnce(&mut FakeMachine) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        match lock(&self.machines).get_mut(id) {
            Some(machine) => work(machine),
            None => Err(DriverError::NotFound { id: id.clone() }),
        }
    }

    /// Ends the machine when its time has come; replaces an earlier timer.
    fn arm(&self, id: &SandboxId, machine: &mut FakeMachine, deadline: Timestamp) {
        let left = deadline.since(Timestamp::from(SystemTime::now()));
        let (machines, id) = (Arc::clone(&self.machines), id.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(left).await;
            if let Some(machine) = lock(&machines).get_mut(&id) {
                machine.end(EndReason::Timeout);
            }
        });
        if let Some(before) = machine.timer.replace(timer) {
            before.abort();
        }
    }
}

impl FakeMachine {
    fn new() -> io::Result<(Self, OwnedFd)> {
        let pair = |flags| socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (channel, guest) = pair(SocketFlags::CLOEXEC)?;
        let (link, guest_link) = pair(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let gone = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let served = guest.try_clone()?;
        let guest_link = Some(guest_link);
        let machine = Self {
            channel,
            guest,
            gone,
            link,
            guest_link,
            ended: None,
            timer: None,
            volumes: Vec::new(),
        };
        Ok((machine, served))
    }

    fn fds(&self, id: &SandboxId) -> Result<Machine, DriverError> {
        if self.ended.is_some() {
            return Err(DriverError::NotFound { id: id.clone() });
        }
        let failed = |source| DriverError::Host { what: "cannot duplicate".to_owned(), source };
        Ok(Machine {
            id: id.clone(),
            channel: self.channel.try_clone().map_err(failed)?,
            gone: self.gone.try_clone().map_err(failed)?,
            link: self.link.try_clone().map_err(failed)?,
        })
    }

    /// True when this was its end.
    fn end(&mut self, reason: EndReason) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.ended = Some(reason);
        // The guest may have closed them already, and an eventfd takes a first write always. The
        // link is shut down for writing from the host's end too: whoever took the other one notices.
        let _closed = rustix::net::shutdown(&self.guest, Shutdown::Both);
        let _closed = rustix::net::shutdown(&self.link, Shutdown::Both);
        let _written = rustix::io::write(&self.gone, &1_u64.to_ne_bytes());
        true
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn isolation(&self) -> Isolation {
        Isolation::Fake
    }

    fn technology(&self) -> String {
        "fake".to_owned()
    }

    async fn create(&self, spec: &MachineSpec) -> Result<Machine, DriverError> {
        let failed =
            |source| DriverError::Host { what: "cannot make a machine".to_owned(), source };
        let mut machines = lock(&self.machines);
        if let Some(machine) = machines.get(&spec.id) {
            return machine.fds(&spec.id);
        }
        let made = lock(&self.volumes);
        if let Some(mount) = spec.volumes.iter().find(|mount| !made.contains(&mount.volume)) {
            return Err(DriverError::NoVolume { id: mount.volume.to_string() });
        }
        drop(made);
        let (mut machine, guest) = FakeMachine::new().map_err(failed)?;
        machine.volumes = spec.volumes.iter().map(|mount| mount.volume.clone()).collect();
        self.arm(&spec.id, &mut machine, spec.deadline);
        let fds = machine.fds(&spec.id)?;
        machines.insert(spec.id.clone(), machine);
        drop(machines);
        (self.serve)(guest);
        Ok(fds)
    }

    async fn attach(&self, id: &SandboxId) -> Result<Machine, DriverError> {
        self.machine_of(id, |machine| machine.fds(id))
    }

    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), DriverError> {
        self.machine_of(id, |machine| {
            if machine.ended.is_some() {
                return Err(DriverError::NotFound { id: id.clone() });
            }
            self.arm(id, machine, deadline);
            Ok(())
        })
    }

    async fn destroy(&self, id: &SandboxId) -> Result<Ended, DriverError> {
        let reason = self.machine_of(id, |machine| {
            machine.end(EndReason::Requested);
            Ok(machine.ended.unwrap_or(EndReason::Requested))
        })?;
        lock(&self.machines).remove(id);
        Ok(Ended { reason, usage: Usage::default(), log: String::new() })
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        Ok(lock(&self.machines).keys().cloned().collect())
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, DriverError> {
        self.machine_of(id, |_| Ok(Usage::default()))
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }
}

#[async_trait]
impl Volumes for FakeDriver {
    async fn make(&self, id: &VolumeId, _size_mib: u32) -> Result<(), DriverError> {
        lock(&self.volumes).insert(id.clone());
        Ok(())
    }

    async fn delete(&self, id: &VolumeId) -> Result<(), DriverError> {
        let has_it =
            |machine: &FakeMachine| machine.ended.is_none() && machine.volumes.contains(id);
        if lock(&self.machines).values().any(has_it) {
            return Err(DriverError::VolumeInUse { what: format!("a sandbox has volume {id}") });
        }
        if lock(&self.volumes).remove(id) {
            Ok(())
        } else {
            Err(DriverError::NoVolume { id: id.to_string() })
        }
    }

    async fn list(&self) -> Result<Vec<VolumeId>, DriverError> {
        Ok(lock(&self.volumes).iter().cloned().collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
