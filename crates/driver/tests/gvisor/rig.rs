//! A launcher of its own, an image with the echoing guest, and a driver on both.

#![expect(clippy::unwrap_used, reason = "a rig of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use courier_driver::conformance::{Rig, echo};
use courier_driver::gvisor::{GvisorDriver, Linger};
use courier_driver::launcher_process::{LauncherOptions, ensure_running, socket_path};
use courier_driver::leaks::find_leaks;
use courier_driver::{Driver, Machine};
use courier_types::SandboxId;
use rustix::process::{Pid, Signal};

pub(crate) struct GvisorRig {
    dir: tempfile::TempDir,
    driver: GvisorDriver,
    pub(crate) options: LauncherOptions,
}

impl GvisorRig {
    /// `None`, with a line on standard error, where sandboxes cannot be made because this is not
    /// root.
    pub(crate) async fn start(owner: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making sandboxes needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        make_image(dir.path());
        let options = options(&dir.path().join("launcher"));
        let socket = ensure_running(&options).await.unwrap();
        let driver = GvisorDriver::connect(socket, owner, Linger::Go).await.unwrap();
        Some(Self { dir, driver, options })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Another client of the same launcher.
    pub(crate) async fn client(&self, owner: &str, linger: Linger) -> GvisorDriver {
        GvisorDriver::connect(socket_path(self.dir()), owner, linger).await.unwrap()
    }

    /// The launcher's process.
    pub(crate) fn launcher_pid(&self) -> Pid {
        let wanted = self.dir().as_os_str().as_encoded_bytes();
        let launcher = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let line = fs::read(path.join("cmdline")).ok()?;
            let is_it = line.split(|byte| *byte == 0).any(|word| word == wanted);
            is_it.then(|| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?))?
        });
        launcher.last().expect("a launcher runs")
    }

    /// Ends the launcher and proves that nothing is left.
    pub(crate) async fn stop(self) {
        self.driver.shut_down().await.unwrap();
        let Self { dir, driver, options } = self;
        drop(driver);
        assert_eq!(find_leaks(&options.dir).await.unwrap(), []);
        drop(dir);
    }
}

/// How tests start a launcher: it goes by itself soon after a test that failed.
pub(crate) fn options(dir: &Path) -> LauncherOptions {
    LauncherOptions {
        dir: dir.to_owned(),
        binary: launcher(),
        allow_uids: Vec::new(),
        technology_binary: None,
        idle_exit: Some(std::time::Duration::from_secs(10)),
    }
}

#[async_trait::async_trait]
impl Rig for GvisorRig {
    fn driver(&self) -> &dyn Driver {
        &self.driver
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image.erofs")
    }

    async fn crash(&self, id: &SandboxId) {
        let pids = sandbox_pids(id);
        assert!(!pids.is_empty(), "{id} has processes");
        for pid in pids {
            let _gone_already = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    fn send_packet(&self, machine: &Machine) {
        assert_eq!(echo(&machine.channel, b"packet"), b"sent");
    }
}

/// The processes in a sandbox's cgroup, on v1 or v2.
pub(crate) fn sandbox_pids(id: &SandboxId) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_name().to_str() == Some(id.as_str()) {
                let procs = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap();
                found.extend(procs.lines().filter_map(|pid| Pid::from_raw(pid.parse().unwrap())));
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    found.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    found.dedup();
    found
}

/// An image with nothing in it but the echoing guest.
fn make_image(dir: &Path) {
    let root = dir.join("root");
    for name in ["proc", "sys", "dev", "tmp", "usr/local/bin"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("tmp/.keep"), "").unwrap();
    let guest = root.join("usr/local/bin/courier-guest");
    fs::copy(built("examples/echo_guest"), &guest).unwrap();
    fs::set_permissions(&guest, fs::Permissions::from_mode(0o755)).unwrap();
    let made = Command::new("mkfs.erofs")
        .args(["-d0", "-E", "noinline_data"])
        .args([&dir.join("image.erofs"), &root])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("mkfs.erofs runs (package erofs-utils)");
    assert!(made.success());
}

/// The launcher's program, up to date: cargo does not build other packages' programs for a test.
fn launcher() -> PathBuf {
    let built_now = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "courier-launcher"])
        .status()
        .unwrap();
    assert!(built_now.success());
    built("courier-launcher")
}

/// A file of the folder that this test was built into.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join(name)
}
