//! A real OCI registry on loopback (Debian's `docker-registry`), filled by a real tool (Debian's
//! `skopeo`) with images that tests lay out.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::server::free_port;
use crate::{program, wait};

/// Debian's registry. In its package's own place.
const REGISTRY: &str = "/usr/bin/docker-registry";
/// Debian's tool that copies images.
const SKOPEO: &str = "/usr/bin/skopeo";
/// Debian's busybox without libraries.
const BUSYBOX: &str = "/bin/busybox";
/// A start, with nothing stored.
const START: Duration = Duration::from_secs(20);
/// A copy of a small image.
const COPY: Duration = Duration::from_secs(60);

/// Who a locked registry lets in.
pub const USER: &str = "tester";
/// With which password.
pub const PASSWORD: &str = "a password of tests";
/// Its bcrypt hash, as htpasswd files have it.
const PASSWORD_HASH: &str = "$2b$05$JVC0de8PjWa263FDQ3kM.O.gUGbozPrs0oDdjhoAtJrOJlz..zyn2";

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// Everybody.
    Open,
    /// [`USER`] with [`PASSWORD`].
    Locked,
}

/// A registry that runs until it is dropped. It speaks plain HTTP.
#[derive(Debug)]
pub struct Registry {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it has its blobs.
    pub storage: PathBuf,
    doors: Doors,
    child: Child,
}

/// The Debian package is missing.
#[track_caller]
fn needs(path: &str) {
    assert!(Path::new(path).is_file(), "{path} is missing; install it: scripts/setup");
}

impl Registry {
    /// Starts one in a folder that is its own.
    #[track_caller]
    #[must_use]
    pub fn start(folder: &Path, doors: Doors) -> Self {
        needs(REGISTRY);
        needs(SKOPEO);
        let storage = folder.join("storage");
        std::fs::create_dir_all(&storage).expect("the folder can be made");
        let users = folder.join("htpasswd");
        std::fs::write(&users, format!("{USER}:{PASSWORD_HASH}\n")).expect("a file can be written");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": address.to_string(), "secret": "of tests"},
        });
        if doors == Doors::Locked {
            config["auth"] = json!({"htpasswd": {"realm": "tests", "path": users}});
        }
        // JSON is YAML.
        let file = folder.join("config.yml");
        std::fs::write(&file, config.to_string()).expect("a file can be written");
        let log = std::fs::File::create(folder.join("log")).expect("a file can be made");
        let child = Command::new(REGISTRY)
            .args(["serve".as_ref(), file.as_os_str()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the registry can be started");
        let registry = Self { address, storage, doors, child };
        wait::until("the registry listens", START, || {
            TcpStream::connect(address).map_err(|error| error.to_string())
        });
        registry
    }

    /// The full name of an image.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Copies an image of a layout into the registry, with further arguments for skopeo.
    #[track_caller]
    pub fn push(&self, layout: &Layout, tag: &str, name: &str, arguments: &[&str]) {
        let from = format!("oci:{}:{tag}", layout.folder.path().display());
        let to = format!("docker://{}", self.reference(name));
        let mut copy = Command::new(SKOPEO);
        copy.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
        if self.doors == Doors::Locked {
            copy.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        copy.args(arguments).args([&from, &to]);
        program::run(&mut copy, b"", COPY).assert_code(0);
    }

    /// The file in which the registry has a blob.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Images as files (OCI image layout), which tests write and skopeo reads.
#[derive(Debug)]
pub struct Layout {
    folder: TempDir,
    tags: Vec<Value>,
}

impl Layout {
    /// No images yet.
    #[must_use]
    pub fn new(folder: TempDir) -> Self {
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(blobs).expect("a folder can be made");
        let version = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        std::fs::write(folder.path().join("oci-layout"), version).expect("a file can be written");
        Self { folder, tags: Vec::new() }
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex = hex(bytes);
        let file = self.folder.path().join("blobs/sha256").join(&hex);
        std::fs::write(file, bytes).expect("a file can be written");
        let digest = format!("sha256:{hex}");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// An image of plain tars for an architecture; what is not in `run` is empty. Returns what an
    /// index says of it.
    pub fn image(&mut self, architecture: &str, layers: &[Vec<u8>], run: &Value) -> Value {
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
        let config = json!({"architecture": architecture, "os": "linux", "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let layers: Vec<Value> = layers.iter().map(|bytes| self.blob(layer, bytes)).collect();
        let config_type = "application/vnd.oci.image.config.v1+json";
        let manifest = json!({"schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(config_type, config.to_string().as_bytes()), "layers": layers});
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let mut entry = self.blob(manifest_type, manifest.to_string().as_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    }

    /// One image for several platforms. Returns what an index says of it.
    pub fn index(&mut self, images: &[Value]) -> Value {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": images});
        self.blob(media_type, index.to_string().as_bytes())
    }

    /// Gives an image or index a tag.
    pub fn tag(&mut self, tag: &str, mut entry: Value) {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.tags.push(entry);
        let index = json!({"schemaVersion": 2, "manifests": self.tags});
        let file = self.folder.path().join("index.json");
        std::fs::write(file, index.to_string()).expect("a file can be written");
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The tar of a folder, by the system's own tar, of root's files.
#[track_caller]
#[must_use]
pub fn tar(folder: &Path) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(["--create", "--owner=0", "--group=0", "--numeric-owner", "--sort=name"]);
    command.args(["--mtime=@1700000000".as_ref(), "--directory".as_ref(), folder.as_os_str()]);
    command.arg(".");
    let ended = program::run(&mut command, b"", COPY);
    ended.assert_code(0);
    ended.stdout
}

/// A root folder with busybox, its commands as links, and what every program expects.
#[track_caller]
pub fn busybox_root(folder: &Path) {
    needs(BUSYBOX);
    for name in ["bin", "etc", "root", "tmp", "usr/bin", "var"] {
        std::fs::create_dir_all(folder.join(name)).expect("a folder can be made");
    }
    std::fs::copy(BUSYBOX, folder.join("bin/busybox")).expect("busybox can be copied");
    for name in ["sh", "cat", "ls", "id"] {
        let link = folder.join("bin").join(name);
        std::os::unix::fs::symlink("busybox", link).expect("a link can be made");
    }
    let users = "root:x:0:0:root:/root:/bin/sh\n";
    std::fs::write(folder.join("etc/passwd"), users).expect("a file can be written");
    std::fs::write(folder.join("etc/group"), "root:x:0:\n").expect("a file can be written");
}
