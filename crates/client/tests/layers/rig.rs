//! A real sandbox of a small image, and a client of its guest daemon.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use courier_archive::{Bounds, Header, Reader};
use courier_channel::host::Channel;
use courier_client::{GuestClient, Transport, TransportError, WriteTarget, drain, full};
use courier_driver::gvisor::{GvisorDriver, Linger};
use courier_driver::launcher_process::{LauncherOptions, ensure_running};
use courier_driver::{Driver as _, Machine, MachineSpec};
use courier_protocol::envd::init::{INIT_PATH, Init};
use courier_protocol::node::Body;
use courier_types::{GuestFile, Limits, LimitsRequest, SandboxId, Timestamp};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// No step of a test takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most bytes of a layer in these tests.
const LAYER_MAX: usize = 64 << 20;

/// A sandbox, gone when it is dropped: with the launcher's client, machines go.
pub(crate) struct Sandbox {
    pub(crate) client: GuestClient,
    transport: Http,
    id: SandboxId,
    driver: GvisorDriver,
    _channel: Channel,
    _machine: (std::os::fd::OwnedFd, std::os::fd::OwnedFd),
    _dir: tempfile::TempDir,
}

impl Sandbox {
    /// `None`, with a line on standard error, where sandboxes cannot be made because this is not
    /// root.
    pub(crate) async fn start(fill: impl FnOnce(&Path)) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making sandboxes needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = make_image(dir.path(), fill);
        let options = LauncherOptions {
            dir: dir.path().join("launcher"),
            binary: program("courier-launcher"),
            allow_uids: Vec::new(),
            technology_binary: None,
            idle_exit: Some(Duration::from_secs(10)),
        };
        let socket = ensure_running(&options).await.unwrap();
        let driver = GvisorDriver::connect(socket, "layers", Linger::Go).await.unwrap();
        let id = SandboxId::from_random(std::array::from_fn(|index| index as u8));
        let machine = driver.create(&spec(id.clone(), image)).await.unwrap();
        let Machine { channel, gone, link, .. } = machine;
        let mut channel = Channel::new(channel).unwrap();
        let stream = tokio::time::timeout(PATIENCE, channel.open(1)).await.unwrap().unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        let transport = Http(sender);
        let client = GuestClient::new(Arc::new(transport.clone())).as_user(Some("root"));
        let sandbox = Self {
            client,
            transport,
            id,
            driver,
            _channel: channel,
            _machine: (gone, link),
            _dir: dir,
        };
        sandbox.init().await;
        Some(sandbox)
    }

    /// Tells the daemon what a node tells.
    async fn init(&self) {
        let init = Init {
            env_vars: std::collections::BTreeMap::new(),
            default_user: "root".into(),
            default_workdir: "/".into(),
            sandbox_id: self.id.clone(),
            template_id: "t".into(),
            timestamp: Timestamp::from_micros(0),
            disk_bytes: 0,
            nameserver: std::net::Ipv4Addr::new(192, 0, 0, 1),
            ca_bundle: CA.into(),
            files: vec![GuestFile { path: "/etc/pip.conf".into(), text: PRESET.into() }],
        };
        let request = Request::post(INIT_PATH).body(full(serde_json::to_vec(&init).unwrap()));
        let answer = self.transport.send(request.unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), 204);
    }

    /// Writes a file as root.
    pub(crate) async fn write(&self, path: &str, text: &str) {
        let target = WriteTarget { path: path.into(), length: None };
        self.client.write_file(&target, full(text.to_owned())).await.unwrap();
    }

    /// A file's text.
    pub(crate) async fn read(&self, path: &str) -> String {
        let body = self.client.read_file(path).await.unwrap().body;
        String::from_utf8(drain(body, LAYER_MAX).await.unwrap()).unwrap()
    }

    /// What has changed since the mark; nothing where there is no layer.
    pub(crate) async fn changes(&self) -> Vec<(Header, Vec<u8>)> {
        match self.client.layer_changes().await.unwrap() {
            Some(body) => entries(&drain(body, LAYER_MAX).await.unwrap()),
            None => Vec::new(),
        }
    }

    /// The names of [`Sandbox::changes`].
    pub(crate) async fn changed(&self) -> Vec<String> {
        self.changes().await.iter().map(|(header, _)| header.path.to_string()).collect()
    }

    /// Everything, as a layer.
    pub(crate) async fn all(&self) -> Vec<(Header, Vec<u8>)> {
        entries(&drain(self.client.layer_all().await.unwrap(), LAYER_MAX).await.unwrap())
    }

    /// Ends it and its launcher.
    pub(crate) async fn stop(&self) {
        self.driver.destroy(&self.id).await.unwrap();
        self.driver.shut_down().await.unwrap();
    }
}

/// Certificate of the sandbox's CA; its content is `ABCDEFGH`.
pub(crate) const CA: &str =
    "-----BEGIN CERTIFICATE-----\nQUJDREVGR0g=\n-----END CERTIFICATE-----\n";

/// A preset's file.
pub(crate) const PRESET: &str = "[global]\nindex-url = https://mirror.test/\n";

/// Entries of an archive with their contents, which must be in order.
pub(crate) fn entries(bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut reader = Reader::new(bytes, Bounds::LAYER);
    let mut entries: Vec<(Header, Vec<u8>)> = Vec::new();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let last = entries.last().map(|(header, _)| &header.path);
        assert!(last.is_none_or(|last| *last < entry.header.path), "{last:?}");
        entries.push((entry.header, content));
    }
    entries
}

fn spec(id: SandboxId, image: PathBuf) -> MachineSpec {
    let request = LimitsRequest {
        memory_mib: Some(512),
        disk_mib: Some(512),
        cpu_millis: Some(2_000),
        ..LimitsRequest::default()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let end = i64::try_from((now + PATIENCE).as_micros()).unwrap();
    MachineSpec {
        id,
        image,
        limits: Limits::try_from(request).unwrap(),
        deadline: Timestamp::from_micros(end),
        volumes: Vec::new(),
    }
}

/// An image with the daemon and what `fill` puts in.
fn make_image(dir: &Path, fill: impl FnOnce(&Path)) -> PathBuf {
    let (root, image) = (dir.join("root"), dir.join("image.erofs"));
    for name in ["proc", "sys", "dev", "tmp", "etc", "run", "usr/local/bin", "usr/bin"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("tmp/.keep"), "").unwrap();
    let guest = root.join("usr/local/bin/courier-guest");
    fs::copy(program("courier-guest"), &guest).unwrap();
    fs::set_permissions(&guest, fs::Permissions::from_mode(0o755)).unwrap();
    fill(&root);
    let made = Command::new("mkfs.erofs")
        .args(["-d0", "-E", "noinline_data"])
        .args([&image, &root])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("mkfs.erofs runs (package erofs-utils)");
    assert!(made.success());
    image
}

/// A program, up to date: cargo does not build other packages' programs for a test.
fn program(name: &str) -> PathBuf {
    static BUILT: LazyLock<bool> = LazyLock::new(|| {
        let packages = ["--package", "courier-launcher", "--package", "courier-guest"];
        let built = Command::new(env!("CARGO")).args(["build", "--quiet"]).args(packages).status();
        built.unwrap().success()
    });
    assert!(*BUILT);
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(name)
}

/// HTTP/2 on the channel, as the node's.
#[derive(Clone)]
struct Http(SendRequest<Body>);

#[async_trait::async_trait]
impl Transport for Http {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().unwrap().as_str();
        head.uri = format!("http://guest{path}").parse().unwrap();
        let answer = self.0.clone().send_request(Request::from_parts(head, body)).await;
        let answer = answer.map_err(|error| TransportError::Guest(error.into()))?;
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

/// A request that the client has no method for.
pub(crate) async fn status_of(sandbox: &Sandbox, method: Method, path: &str) -> u16 {
    let request = Request::builder().method(method).uri(path).body(full("")).unwrap();
    sandbox.transport.send(request).await.unwrap().status().as_u16()
}
