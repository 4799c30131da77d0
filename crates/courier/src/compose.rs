//! Puts driver, launcher and node together.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use courier_driver::launcher_process::{self, LauncherOptions};
use courier_driver::{Driver, HostDriver, Linger};
use courier_egress::{HostSide, Reach, Resolver, UpstreamTrust};
use courier_image::{GuestFiles, Store, StoreBounds};
use courier_node::{
    BuildDir, BuilderConfig, Builds, Capacity, LocalBuilder, LocalNode, NetworkConfig, NodeConfig,
    StoredBuilds,
};
use courier_protocol::node::{Presets, Secrets, SecretsError, SharedNode};
use courier_types::SandboxId;
use courier_types::egress::{SecretName, SecretValue};

use crate::config::outside::OutsideArgs;
use crate::config::{self, Config};
use crate::folder::Folder;
use crate::local_images::NodeImages;
use crate::presets::NodePresets;
use crate::{passwd, random, registry};

/// A launcher that we started ends after so long without clients and sandboxes.
const LAUNCHER_IDLE_EXIT: Duration = Duration::from_secs(30);
/// Whose sandboxes those of a server are, for the launcher.
const SERVER_OWNER: &str = "server";
/// The images' extension.
const IMAGE: &str = "erofs";
/// The folder of what the product's own templates are made of, in the template folder.
const TEMPLATE_STORE: &str = "store";
/// Largest file of `--egress-ca`: several times what all CAs of a distribution take.
const CA_FILE_MAX: u64 = 4 * 1024 * 1024;

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

/// What one node has that another has not.
pub(crate) struct NodeParts {
    /// How much it takes on.
    pub(crate) capacity: Capacity,
    /// What its sandboxes' networks are made of.
    pub(crate) network: NetworkConfig,
}

/// A node, and what makes its builds and keeps them.
#[derive(Debug)]
pub(crate) struct BuildingNode {
    /// The node.
    pub(crate) node: Arc<LocalNode>,
    /// Makes builds in its sandboxes.
    pub(crate) builder: Arc<LocalBuilder>,
    /// What they are made of.
    pub(crate) store: Store,
}

/// The node of a server: its sandboxes outlive it. Its builds are in the data folder, and behind
/// them those of the template folder.
pub(crate) async fn server_node(
    config: &Config,
    outside: &OutsideArgs,
    parts: NodeParts,
) -> anyhow::Result<BuildingNode> {
    let owner = (SERVER_OWNER, Linger::Stay);
    let images = Folder::new(&config.data).images();
    building_node(config, (outside, &images), owner, parts).await
}

/// A node whose sandboxes end with this process, however it ends. It has no secrets but those of
/// presets; its sandboxes' CAs end with it.
pub(crate) async fn passing_node(
    config: &Config,
    outside: &OutsideArgs,
    presets: Arc<dyn Presets>,
) -> anyhow::Result<SharedNode> {
    let parts = passing_parts(outside, presets)?;
    let builds = Arc::new(template_images(config));
    Ok(Arc::new(node(config, (&passing_owner()?, Linger::Go), parts, builds).await?))
}

/// Such a node that makes the product's own templates. Their layers are in the template folder, which
/// has to be writable; who asked publishes an image there.
pub(crate) async fn template_node(
    config: &Config,
    outside: &OutsideArgs,
    presets: Arc<dyn Presets>,
) -> anyhow::Result<BuildingNode> {
    let parts = passing_parts(outside, presets)?;
    let folder = config.templates.join(TEMPLATE_STORE);
    building_node(config, (outside, &folder), (&passing_owner()?, Linger::Go), parts).await
}

fn passing_parts(outside: &OutsideArgs, presets: Arc<dyn Presets>) -> anyhow::Result<NodeParts> {
    let host = host_side(outside, random::bytes()?)?;
    let network = NetworkConfig::new(host, Arc::new(PresetSecrets(presets)));
    Ok(NodeParts { capacity: Capacity::default(), network })
}

fn passing_owner() -> anyhow::Result<String> {
    Ok(format!("run{:016x}", u64::from_le_bytes(random::bytes()?)))
}

fn template_images(config: &Config) -> BuildDir {
    BuildDir::new(config.templates.clone(), IMAGE.to_owned())
}

async fn building_node(
    config: &Config,
    (outside, folder): (&OutsideArgs, &Path),
    owner: (&str, Linger),
    parts: NodeParts,
) -> anyhow::Result<BuildingNode> {
    let guest = GuestFiles { daemon: config.guest_binary.clone() };
    let store = Store::open(folder, guest, StoreBounds::default())
        .with_context(|| format!("the image store {} cannot be used", folder.display()))?;
    let builds = StoredBuilds::new(store.clone(), template_images(config));
    let node = Arc::new(node(config, owner, parts, Arc::new(builds)).await?);
    let local = outside.registries.image.clone();
    let images = Arc::new(NodeImages::new(local, registry::registries(outside)?));
    let builder =
        LocalBuilder::new(Arc::clone(&node), store.clone(), images, BuilderConfig::default());
    Ok(BuildingNode { node, builder: Arc::new(builder), store })
}

async fn node(
    config: &Config,
    (owner, linger): (&str, Linger),
    NodeParts { capacity, network }: NodeParts,
    builds: Arc<dyn Builds>,
) -> anyhow::Result<LocalNode> {
    let socket = launcher(config).await?;
    let driver = HostDriver::connect(socket, owner, linger).await?;
    let driver: Arc<dyn Driver> = Arc::new(driver);
    Ok(LocalNode::new(driver, NodeConfig::new(builds, capacity, network)))
}

/// The presets that this machine offers.
pub(crate) fn presets(outside: &OutsideArgs) -> Arc<dyn Presets> {
    Arc::new(node_presets(outside))
}

fn node_presets(outside: &OutsideArgs) -> NodePresets {
    // What is wrong with a file of certificates is told where the sandboxes' networks are made.
    let ca = outside.egress_ca.iter().filter_map(|path| certificates(path).ok()).collect();
    NodePresets::new(config::variables(), outside.preset.clone(), ca)
}

/// The host's side of all networks of a node: resolver, reach, trust, and the seed of the CAs.
///
/// # Errors
/// One of them cannot be used; the error names the flag or the file.
pub(crate) fn host_side(outside: &OutsideArgs, seed: [u8; 32]) -> anyhow::Result<HostSide> {
    let resolver = match outside.egress_resolver.as_slice() {
        [] => Resolver::system().context("name a DNS server with --egress-resolver")?,
        servers => Resolver::with_servers(servers).context("--egress-resolver cannot be used")?,
    };
    let reach = Reach::new(outside.egress_permit.clone())
        .context("--egress-permit opens what it must not")?
        .with_hosts(node_presets(outside).hosts());
    let extra = outside.egress_ca.iter().map(|path| certificates(path));
    let extra = extra.collect::<anyhow::Result<Vec<_>>>()?;
    let files = outside.egress_ca.iter().map(|path| path.display().to_string());
    let files: Vec<String> = files.collect();
    let trust = UpstreamTrust::new(&extra).with_context(|| {
        let files = if files.is_empty() { "none".to_owned() } else { files.join(", ") };
        format!("the CA certificates cannot be used (files of --egress-ca: {files})")
    })?;
    Ok(HostSide::new(resolver, reach, trust, seed))
}

/// A file of `--egress-ca`.
///
/// # Errors
/// It cannot be read, or is too large; the error names it.
pub(crate) fn certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let file = std::fs::File::open(path)?;
        let length = file.take(CA_FILE_MAX + 1).read_to_end(&mut text)?;
        if u64::try_from(length).is_ok_and(|length| length > CA_FILE_MAX) {
            return Err(std::io::Error::other("it is too large to be a file of certificates"));
        }
        Ok(text)
    };
    read().with_context(|| {
        format!(
            "--egress-ca {} cannot be read: may the user of the server read it?",
            path.display()
        )
    })
}

/// The secrets that presets bring along, for a node without a server.
struct PresetSecrets(Arc<dyn Presets>);

#[async_trait]
impl Secrets for PresetSecrets {
    async fn secret(
        &self,
        _sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SecretsError> {
        self.0.secret(name).ok_or_else(|| SecretsError::NoSecret { name: name.clone() })
    }

    async fn token(
        &self,
        _sandbox: &SandboxId,
        _token: &str,
    ) -> Result<(SecretName, SecretValue), SecretsError> {
        Err(SecretsError::NoToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_told_by_its_flag_or_file() {
        let of = |outside: OutsideArgs| format!("{:#}", host_side(&outside, [0; 32]).unwrap_err());
        let none = OutsideArgs::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let error = of(OutsideArgs { egress_ca: vec![path.clone()], ..none.clone() });
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        let missing = OutsideArgs { egress_ca: vec!["/nonexistent/ca.pem".into()], ..none.clone() };
        let error = of(missing);
        assert!(error.contains("--egress-ca /nonexistent/ca.pem"), "{error}");
        let loopback = vec!["127.0.0.0/8".parse().unwrap()];
        let error = of(OutsideArgs { egress_permit: loopback, ..none.clone() });
        assert!(error.contains("--egress-permit") && error.contains("127.0.0.0/8"), "{error}");
        let resolver = "192.0.2.1:53".parse().unwrap();
        let error = of(OutsideArgs { egress_resolver: vec![resolver; 99], ..none });
        assert!(error.contains("--egress-resolver") && error.contains("99"), "{error}");
    }

    #[test]
    fn a_file_that_has_no_end_is_not_read_to_it() {
        let error = format!("{:#}", certificates(Path::new("/dev/zero")).unwrap_err());
        assert!(error.contains("too large"), "{error}");
    }
}
