//! Puts driver, launcher and node together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use courier_driver::launcher_process::{self, LauncherOptions};
use courier_driver::{Driver, HostDriver, Linger};
use courier_egress::{HostSide, Reach, Resolver, UpstreamTrust};
use courier_node::{BuildDir, Capacity, LocalNode, NetworkConfig, NoSecrets, NodeConfig};
use courier_protocol::node::SharedNode;

use crate::config::Config;
use crate::passwd;

/// A launcher that we started ends after so long without clients and sandboxes.
const LAUNCHER_IDLE_EXIT: Duration = Duration::from_secs(30);
/// Whose sandboxes those of a server are, for the launcher.
const SERVER_OWNER: &str = "server";
/// The images' extension.
const IMAGE: &str = "erofs";

/// Makes sure that the launcher runs; returns its socket. Only root can start it.
pub(crate) async fn launcher(config: &Config) -> anyhow::Result<PathBuf> {
    let service = passwd::find(crate::serve::USER)
        .context("the users of this machine cannot be read from /etc/passwd")?;
    let options = LauncherOptions {
        dir: config.launcher_dir.clone(),
        binary: config.launcher_binary.clone(),
        technology_binary: config.isolation_binary.clone(),
        allow_uids: service.map(|user| user.uid).into_iter().collect(),
        idle_exit: Some(LAUNCHER_IDLE_EXIT),
    };
    Ok(launcher_process::ensure_running(&options).await?)
}

/// The node of a server: its sandboxes outlive it.
pub(crate) async fn server_node(config: &Config, capacity: Capacity) -> anyhow::Result<LocalNode> {
    node(config, (SERVER_OWNER, Linger::Stay), capacity).await
}

/// A node whose sandboxes end with this process, however it ends.
pub(crate) async fn passing_node(config: &Config) -> anyhow::Result<SharedNode> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let owner = format!("run{:016x}", u64::from_le_bytes(random));
    Ok(Arc::new(node(config, (&owner, Linger::Go), Capacity::default()).await?))
}

async fn node(
    config: &Config,
    (owner, linger): (&str, Linger),
    capacity: Capacity,
) -> anyhow::Result<LocalNode> {
    let socket = launcher(config).await?;
    let driver = HostDriver::connect(socket, owner, linger).await?;
    let driver: Arc<dyn Driver> = Arc::new(driver);
    let builds = BuildDir::new(config.templates.clone(), IMAGE.to_owned());
    Ok(LocalNode::new(driver, NodeConfig::new(Arc::new(builds), capacity, network()?)))
}

/// What the sandboxes' networks are made of.
fn network() -> anyhow::Result<NetworkConfig> {
    let resolver = Resolver::system().context("the machine's DNS servers are not known")?;
    let trust = UpstreamTrust::new(&[]).context("the machine's CA certificates cannot be used")?;
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    let host = HostSide::new(resolver, Reach::new(Vec::new())?, trust, seed);
    Ok(NetworkConfig::new(host, Arc::new(NoSecrets)))
}
