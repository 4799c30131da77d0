//! A launcher, a node and a builder of the tests' own, in this process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use courier_archive::{EntryPath, Header, Kind, Writer};
use courier_client::{Event, GuestClient, NodeTransport, full};
use courier_driver::launcher_process::{LauncherOptions, ensure_running};
use courier_driver::{Driver, HostDriver, Linger};
use courier_egress::{HostSide, Reach, Resolver, UpstreamTrust};
use courier_image::{GuestFiles, Store, StoreBounds};
use courier_node::{
    BuildDir, BuilderConfig, Capacity, ImageOrder, Images, LocalBuilder, LocalNode, NetworkConfig,
    NodeConfig, PulledImage, StoredBuilds, system_clock,
};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_protocol::node::{
    Body, BoxError, BuildError, BuildLog, BuildOrder, BuildSource, BuildStage, BuildWatcher,
    Builder as _, Built, Node as _, Secrets, SecretsError, SharedNode, Step, StepKind,
};
use courier_tests::environment::Environment;
use courier_tests::server::{FIRST_START, courier};
use courier_tests::{host, program, wait};
use courier_types::egress::{NetworkSpec, SecretName, SecretValue};
use courier_types::{BuildConfig, Limits, SandboxId, SandboxSpec};
use tokio::runtime::Runtime;

/// How long a build and its sandboxes may live.
const LIFETIME: Duration = Duration::from_secs(600);

/// What all tests share.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) node: Arc<LocalNode>,
    pub(crate) builder: Arc<LocalBuilder>,
    pub(crate) store: Store,
    driver: Arc<dyn Driver>,
    folder: tempfile::TempDir,
}

impl Drop for World {
    /// The launcher is this process's child, and maybe not the only one: nobody else can wait for
    /// their end.
    fn drop(&mut self) {
        host::end_launchers_below(self.folder.path());
        wait::until("the launcher has ended", Duration::from_secs(20), || {
            match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                Ok(None) => Err("it runs".to_owned()),
                Ok(Some(_)) => Err("one child has ended".to_owned()),
                Err(_no_child_is_left) => Ok(()),
            }
        });
    }
}

/// The reference of template `base`.
const BASE: &str = "base";

impl World {
    /// Builds `base` where nobody has yet, and starts everything.
    pub(crate) fn start(environment: Environment) -> Self {
        let folder = environment.folder();
        let mut command = courier(&environment, &folder.path().join("data"));
        program::run(command.args(["template", "build", "base"]), b"", FIRST_START).assert_code(0);
        let manifest = std::fs::read(environment.templates.join("base.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let build = manifest.get("build").unwrap().as_str().unwrap();
        // Its own name for the image: whoever builds `base` anew in the meantime removes the file.
        let image = environment.templates.join(build).with_extension("erofs");
        std::fs::hard_link(image, folder.path().join(BASE).with_extension("erofs")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let options = LauncherOptions {
            dir: folder.path().join("launcher"),
            binary: environment.binary("courier-launcher"),
            technology_binary: None,
            allow_uids: Vec::new(),
            idle_exit: Some(Duration::from_secs(10)),
        };
        let driver = runtime.block_on(async {
            let socket = ensure_running(&options).await.unwrap();
            HostDriver::connect(socket, "builds", Linger::Go).await.unwrap()
        });
        let driver: Arc<dyn Driver> = Arc::new(driver);
        // A copy: whoever builds the project in the meantime replaces the file.
        let daemon = folder.path().join("courier-guest");
        std::fs::copy(environment.binary("courier-guest"), &daemon).unwrap();
        let guest = GuestFiles { daemon };
        let path = folder.path().join("store");
        let store = Store::open(&path, guest, StoreBounds::default()).unwrap();
        let templates = BuildDir::new(folder.path().to_owned(), "erofs".to_owned());
        let builds = Arc::new(StoredBuilds::new(store.clone(), templates));
        let entered = runtime.enter();
        let config = NodeConfig::new(builds, Capacity::default(), network());
        let node = Arc::new(LocalNode::new(Arc::clone(&driver), config));
        drop(entered);
        let config =
            BuilderConfig { start_deadline: Duration::from_secs(60), ..Default::default() };
        let images = Arc::new(BuildsAsImages);
        let builder = LocalBuilder::new(Arc::clone(&node), store.clone(), images, config);
        Self { runtime, node, builder: Arc::new(builder), store, driver, folder }
    }

    /// Makes a build.
    pub(crate) fn build(&self, order: BuildOrder) -> (Result<Built, BuildError>, Arc<Watcher>) {
        let watcher = Watcher::shared();
        let built = self.builder.build(order, Arc::clone(&watcher) as _);
        (self.runtime.block_on(built), watcher)
    }

    /// Makes a sandbox of a build.
    #[track_caller]
    pub(crate) fn sandbox(&self, build: &str, config: BuildConfig) -> SandboxId {
        let spec = SandboxSpec { config, ..spec(build) };
        let id = spec.id.clone();
        self.runtime.block_on(self.node.create(spec)).unwrap();
        id
    }

    /// Runs a shell command as the sandbox's own user; returns its exit code and all output.
    #[track_caller]
    pub(crate) fn sh(&self, id: &SandboxId, script: &str) -> (i32, String) {
        let node: SharedNode = Arc::clone(&self.node) as _;
        let guest = GuestClient::new(Arc::new(NodeTransport::new(node, id.clone())));
        let args = ["-l", "-c", script].map(str::to_owned).to_vec();
        let process = ProcessConfig { cmd: "/bin/bash".to_owned(), args, ..Default::default() };
        let request =
            StartRequest { process: Some(process), stdin: Some(false), ..Default::default() };
        self.runtime.block_on(async {
            let mut events = guest.start(&request, Some(LIFETIME)).await.unwrap();
            let (mut code, mut out) = (-1, Vec::new());
            while let Some(event) = events.next().await.unwrap() {
                match event {
                    Event::Started { .. } => {}
                    Event::Stdout(piece) | Event::Stderr(piece) | Event::Pty(piece) => {
                        out.extend_from_slice(&piece);
                    }
                    Event::Ended(ended) => code = ended.exit_code.unwrap_or(-1),
                }
            }
            (code, String::from_utf8_lossy(&out).into_owned())
        })
    }

    /// Kills a sandbox.
    #[track_caller]
    pub(crate) fn kill(&self, id: &SandboxId) {
        self.runtime.block_on(self.node.kill(id)).unwrap();
    }

    /// How many machines there are.
    pub(crate) fn machines(&self) -> usize {
        self.runtime.block_on(self.driver.list()).unwrap().len()
    }
}

/// Networks that reach nothing: nobody answers at the resolver's address.
fn network() -> NetworkConfig {
    let resolver = Resolver::with_servers(&[([127, 0, 0, 1], 9).into()]).unwrap();
    let trust = UpstreamTrust::new(&[]).unwrap();
    let host = HostSide::new(resolver, Reach::new(Vec::new()).unwrap(), trust, [7; 32]);
    NetworkConfig::new(host, Arc::new(NoSecrets))
}

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

/// A registry whose images have the layers of builds that are there.
struct BuildsAsImages;

#[async_trait]
impl Images for BuildsAsImages {
    async fn pull(&self, order: &ImageOrder<'_>, store: &Store) -> Result<PulledImage, BoxError> {
        let build = store.build(order.reference)?.ok_or("there is no such image")?;
        let digest = format!("sha256:{}", "0".repeat(64));
        let env = [("PATH".to_owned(), "/opt/bin:/usr/bin:/bin".to_owned())].into();
        Ok(PulledImage { digest, layers: build.layers, env, workdir: None })
    }
}

/// Keeps the log; has two archives.
#[derive(Default)]
pub(crate) struct Watcher(Mutex<Vec<BuildLog>>);

#[async_trait]
impl BuildWatcher for Watcher {
    fn log(&self, entry: BuildLog) {
        self.0.lock().unwrap().push(entry);
    }

    async fn files(&self, files: &str) -> Result<Body, BoxError> {
        match files {
            "context" => Ok(full(context())),
            "escaping" => Ok(full(escaping())),
            other => Err(format!("{other} was not uploaded").into()),
        }
    }
}

impl Watcher {
    /// A new one.
    pub(crate) fn shared() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<BuildLog> {
        self.0.lock().unwrap().clone()
    }

    /// All messages, each on a line.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<String> = self.entries().into_iter().map(|entry| entry.message).collect();
        format!("\n{}\n", lines.join("\n"))
    }
}

/// A context with one file.
fn context() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let folder = Header::new(EntryPath::new("src").unwrap(), Kind::Directory);
    writer.append(&Header { mode: 0o755, ..folder }, std::io::empty()).unwrap();
    let text = b"the main file\n";
    let size = text.len().try_into().unwrap();
    let file = Header::new(EntryPath::new("src/main.txt").unwrap(), Kind::File { size });
    writer.append(&Header { mode: 0o644, ..file }, &text[..]).unwrap();
    writer.finish().unwrap()
}

/// A context whose one entry is outside of it: a name of the same length in the same place, and the
/// checksum of the header put right.
fn escaping() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let path = EntryPath::new("xx/outside").unwrap();
    writer.append(&Header::new(path, Kind::File { size: 0 }), std::io::empty()).unwrap();
    let mut tar = writer.finish().unwrap();
    tar.get_mut(..2).unwrap().copy_from_slice(b"..");
    let (checksum, blank) = (148..156, b"        ");
    tar.get_mut(checksum.clone()).unwrap().copy_from_slice(blank);
    let sum: u32 = tar.iter().take(512).map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    tar.get_mut(checksum).unwrap().copy_from_slice(text.as_bytes());
    tar
}

/// A sandbox without any network.
pub(crate) fn spec(build: &str) -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::from_random(std::array::from_fn(|_| rand::random())),
        build: build.to_owned(),
        limits: Limits::default(),
        deadline: system_clock()().plus(LIFETIME),
        env: std::collections::BTreeMap::new(),
        access_token: None,
        template: "test".to_owned(),
        network: NetworkSpec::default(),
        files: Vec::new(),
        config: BuildConfig::default(),
        volumes: Vec::new(),
    }
}

/// A build of `base`.
pub(crate) fn order(reference: &str, kinds: Vec<StepKind>) -> BuildOrder {
    let config = BuildConfig::default();
    BuildOrder {
        source: BuildSource::Build { build: BASE.to_owned(), config },
        steps: kinds.into_iter().map(|kind| Step { kind, force: false }).collect(),
        start: None,
        ready: None,
        force: false,
        sandbox: spec(reference),
    }
}

/// A RUN step.
pub(crate) fn run(command: &str) -> StepKind {
    StepKind::Run { command: command.to_owned(), user: None }
}

/// A RUN step of another user.
pub(crate) fn run_as(user: &str, command: &str) -> StepKind {
    StepKind::Run { command: command.to_owned(), user: Some(user.to_owned()) }
}

/// Where and why a build failed.
#[track_caller]
pub(crate) fn failure(built: Result<Built, BuildError>) -> (BuildStage, String) {
    match built.unwrap_err() {
        BuildError::Failed { stage, message } => (stage, message),
        BuildError::Node(error) => unreachable!("{error:?}"),
    }
}
