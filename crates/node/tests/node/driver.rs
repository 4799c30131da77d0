//! A driver whose machines are tasks of this process, with guests that behave as a test wants.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use courier_driver::{Driver, DriverError, Ended, Machine, MachineSpec};
use courier_egress::{HostSide, Reach, Resolver, UpstreamTrust};
use courier_node::{Builds, Capacity, LocalNode, NetworkConfig, NodeConfig, system_clock};
use courier_protocol::node::{BoxError, Secrets, SecretsError};
use courier_types::egress::{SecretName, SecretValue};
use courier_types::{
    AccessToken, EndReason, Isolation, Limits, SandboxId, SandboxSpec, Timestamp, Usage,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::task::JoinHandle;

use crate::guest::{self, Manner};

/// The template of every test.
pub(crate) const BUILD: &str = "base";

/// The one build that there is.
struct OneBuild;

#[async_trait]
impl Builds for OneBuild {
    async fn image(&self, build: &str) -> Result<Option<PathBuf>, BoxError> {
        Ok((build == BUILD).then(|| PathBuf::from("/image")))
    }

    async fn list(&self) -> Vec<String> {
        vec![BUILD.to_owned()]
    }
}

#[derive(Debug)]
struct Alive {
    guest: JoinHandle<()>,
    host: OwnedFd,
    life: Option<OwnedFd>,
    gone: OwnedFd,
    /// The link, and the guest's end of it, which says nothing.
    link: (OwnedFd, OwnedFd),
    found: EndReason,
}

/// The driver.
#[derive(Debug)]
pub(crate) struct TestDriver {
    manner: Manner,
    /// How long making a machine takes.
    pub(crate) make_time: Duration,
    machines: Mutex<HashMap<SandboxId, Alive>>,
    /// How often a machine was destroyed.
    pub(crate) destroyed: AtomicUsize,
    /// The deadlines that it was told last.
    pub(crate) deadlines: Mutex<HashMap<SandboxId, Timestamp>>,
}

impl TestDriver {
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            manner,
            make_time: Duration::ZERO,
            machines: Mutex::default(),
            destroyed: AtomicUsize::new(0),
            deadlines: Mutex::default(),
        }
    }

    /// Machines that are there.
    pub(crate) fn count(&self) -> usize {
        self.machines.lock().unwrap().len()
    }

    /// Lets a machine's guest close its end, while the machine goes on.
    pub(crate) fn hang_up(&self, id: &SandboxId) {
        if let Some(machine) = self.machines.lock().unwrap().get(id) {
            machine.guest.abort();
        }
    }

    /// Breaks a machine's link, while the machine goes on; the driver has a new one at once.
    pub(crate) fn break_link(&self, id: &SandboxId) {
        if let Some(machine) = self.machines.lock().unwrap().get_mut(id) {
            machine.link = pair();
        }
    }

    /// Breaks a machine's link for good: each that the driver gives has ended already.
    pub(crate) fn cut_link(&self, id: &SandboxId) {
        if let Some(machine) = self.machines.lock().unwrap().get_mut(id) {
            let (host, _closed) = pair();
            machine.link = (host.try_clone().unwrap(), host);
        }
    }

    /// Lets a machine end by itself, for a reason that the driver will find.
    pub(crate) fn crash(&self, id: &SandboxId, found: EndReason) {
        let mut machines = self.machines.lock().unwrap();
        let Some(machine) = machines.get_mut(id) else { return };
        machine.guest.abort();
        machine.found = found;
        machine.life = None;
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

#[async_trait]
impl Driver for TestDriver {
    fn isolation(&self) -> Isolation {
        Isolation::Fake
    }

    fn technology(&self) -> String {
        "tasks".to_owned()
    }

    async fn create(&self, spec: &MachineSpec) -> Result<Machine, DriverError> {
        tokio::time::sleep(self.make_time).await;
        if self.manner == Manner::NoMachine {
            return Err(DriverError::NotStarted { id: spec.id.clone(), why: "no".to_owned() });
        }
        let (host, inside) = pair();
        let (life, gone) = pair();
        let machine = Alive {
            guest: tokio::spawn(guest::run(inside, self.manner)),
            host,
            life: Some(life),
            gone,
            link: pair(),
            found: EndReason::Requested,
        };
        self.deadlines.lock().unwrap().insert(spec.id.clone(), spec.deadline);
        self.machines.lock().unwrap().insert(spec.id.clone(), machine);
        self.attach(&spec.id).await
    }

    async fn attach(&self, id: &SandboxId) -> Result<Machine, DriverError> {
        let machines = self.machines.lock().unwrap();
        let machine = machines.get(id).ok_or_else(|| DriverError::NotFound { id: id.clone() })?;
        Ok(Machine {
            id: id.clone(),
            channel: machine.host.try_clone().unwrap(),
            gone: machine.gone.try_clone().unwrap(),
            link: machine.link.0.try_clone().unwrap(),
        })
    }

    async fn set_deadline(&self, id: &SandboxId, deadline: Timestamp) -> Result<(), DriverError> {
        self.deadlines.lock().unwrap().insert(id.clone(), deadline);
        Ok(())
    }

    async fn destroy(&self, id: &SandboxId) -> Result<Ended, DriverError> {
        let machine = self.machines.lock().unwrap().remove(id);
        let machine = machine.ok_or_else(|| DriverError::NotFound { id: id.clone() })?;
        machine.guest.abort();
        self.destroyed.fetch_add(1, Ordering::SeqCst);
        let usage = Usage { cpu_micros: 7, ..Usage::default() };
        Ok(Ended { reason: machine.found, usage, log: "the log".to_owned() })
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        Ok(self.machines.lock().unwrap().keys().cloned().collect())
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, DriverError> {
        match self.machines.lock().unwrap().contains_key(id) {
            true => Ok(Usage { memory_bytes: 42, ..Usage::default() }),
            false => Err(DriverError::NotFound { id: id.clone() }),
        }
    }
}

/// No secrets.
struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn secret(
        &self,
        _sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SecretsError> {
        Err(SecretsError::NoSecret { name: name.clone() })
    }

    async fn token(
        &self,
        _sandbox: &SandboxId,
        _token: &str,
    ) -> Result<(SecretName, SecretValue), SecretsError> {
        Err(SecretsError::NoToken)
    }
}

/// Networks that reach nothing: nobody answers at the resolver's address.
fn network() -> NetworkConfig {
    let resolver = Resolver::with_servers(&[([127, 0, 0, 1], 9).into()]).unwrap();
    let trust = UpstreamTrust::new(&[]).unwrap();
    let host = HostSide::new(resolver, Reach::new(Vec::new()).unwrap(), trust, [7; 32]);
    NetworkConfig::new(host, Arc::new(NoSecrets))
}

/// A node with short deadlines over a driver.
pub(crate) fn node(driver: Arc<TestDriver>) -> LocalNode {
    node_with(driver, Arc::new(OneBuild))
}

/// The same with other builds.
pub(crate) fn node_with(driver: Arc<TestDriver>, builds: Arc<dyn Builds>) -> LocalNode {
    let capacity = Capacity { max_sandboxes: 8, ..Capacity::default() };
    let mut config = NodeConfig::new(builds, capacity, network());
    config.make_deadline = Duration::from_secs(5);
    config.ready_deadline = Duration::from_millis(500);
    config.start_deadline = Duration::from_secs(1);
    config.answer_deadline = Duration::from_millis(300);
    LocalNode::new(driver, config)
}

/// A spec that lives for an hour.
pub(crate) fn spec(number: u8, token: Option<&str>) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::from_random([number; 20]),
        build: BUILD.to_owned(),
        limits: Limits::default(),
        deadline: system_clock()().plus(Duration::from_secs(3_600)),
        env: [("A".to_owned(), "1".to_owned())].into(),
        access_token: token.map(|token| AccessToken::new(token.to_owned())),
        template: BUILD.to_owned(),
        network: courier_types::egress::NetworkSpec::default(),
        files: Vec::new(),
        config: courier_types::BuildConfig::default(),
        volumes: Vec::new(),
    }
}
