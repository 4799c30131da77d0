//! What there is to compare with: the isolation technology driven directly, and plain processes.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::{Value, json};

/// The program of every comparison: it prints one line and ends.
pub(crate) const PROGRAM: [&str; 2] = ["/bin/echo", "hello"];
/// What keeps a comparison sandbox open for `runsc exec`.
const IDLE: [&str; 2] = ["/bin/sleep", "infinity"];
/// How the launcher runs runsc, too; without its cgroup, namespaces and disk, which are ours.
const FLAGS: [&str; 4] =
    ["-network=none", "-directfs=false", "-ignore-cgroups", "-platform=systrap"];

/// The same with the Sentry's own network stack on the links of its namespace.
const ROUTED_FLAGS: [&str; 4] =
    ["-network=sandbox", "-directfs=false", "-ignore-cgroups", "-platform=systrap"];
/// Starts a sandbox on a network namespace, as `sh -c` with that namespace, a file to find it by and
/// the command. In a pid namespace of its own, so that it ends with its first process; and with
/// nothing at /proc/sys/net, by which runsc tells the host's network namespace and refuses: since
/// Linux 6.11 every namespace looks like it there.
const ROUTED: &str = "mount --bind \"$1\" \"$2\" && mount -t proc proc /proc && \
    mount -t tmpfs none /proc/sys/net && shift 2 && exec \"$@\"";

/// How long a killed Sentry may take to be gone.
const KILL_DEADLINE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Starts and ends sandboxes by runsc itself, on a template's image.
#[derive(Debug)]
pub(crate) struct Floor {
    runsc: PathBuf,
    folder: tempfile::TempDir,
    image: PathBuf,
}

/// An idle sandbox of runsc's own.
#[derive(Debug)]
pub(crate) struct Idle<'a> {
    floor: &'a Floor,
    id: String,
}

impl Floor {
    /// Prepares the comparison.
    ///
    /// # Errors
    /// There is no runsc, or no room for its files.
    pub(crate) fn new(image: PathBuf) -> anyhow::Result<Self> {
        let runsc = crate::doctor::program("runsc")
            .context("runsc is not installed: see `courier doctor`")?;
        let folder = tempfile::tempdir().context("a temporary folder cannot be made")?;
        std::fs::create_dir(folder.path().join("rootfs"))?;
        Ok(Self { runsc, folder, image })
    }

    /// Time from starting `runsc run` until the program's output is there.
    ///
    /// # Errors
    /// runsc failed.
    pub(crate) fn run(&self, id: &str) -> anyhow::Result<Duration> {
        let bundle = self.bundle(id, &PROGRAM)?;
        let started = Instant::now();
        let mut command = self.command();
        let mut child = command.args(["run", "-bundle"]).arg(&bundle).arg(id).spawn()?;
        let first = first_output(&mut child);
        let elapsed = started.elapsed();
        let status = child.wait()?;
        if !status.success() {
            bail!("`runsc run` failed ({status}): {}", tail(child));
        }
        first?;
        Ok(elapsed)
    }

    /// Runs a program in a sandbox on a network namespace, and returns what it prints. It ends
    /// when the future is dropped.
    ///
    /// # Errors
    /// runsc or the program failed.
    pub(crate) async fn run_in(
        &self,
        network: &str,
        id: &str,
        program: &[&str],
    ) -> anyhow::Result<String> {
        let found = self.folder.path().join("network");
        std::fs::write(&found, "")?;
        let bundle = self.bundle_in(id, program, json!({"type": "network", "path": found}))?;
        let mut command = tokio::process::Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare"]);
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ROUTED, "sh"]);
        command.arg(network).arg(&found).arg(&self.runsc);
        command.arg("--root").arg(self.folder.path().join("state")).args(ROUTED_FLAGS);
        command.args(["run", "-bundle"]).arg(&bundle).arg(id);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("`runsc run` on a network failed ({}): {errors}", output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a sandbox that does nothing.
    ///
    /// # Errors
    /// runsc failed.
    pub(crate) fn idle(&self, id: &str) -> anyhow::Result<Idle<'_>> {
        let bundle = self.bundle(id, &IDLE)?;
        let mut command = self.command();
        let status = command
            .args(["run", "-detach", "-bundle"])
            .arg(&bundle)
            .arg("-pid-file")
            .arg(bundle.join("pid"))
            .arg(id)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("`runsc run -detach` failed ({status})");
        }
        Ok(Idle { floor: self, id: id.to_owned() })
    }

    /// Times of writing and of reading a file of the host, in its page cache.
    ///
    /// # Errors
    /// The host refuses.
    pub(crate) fn file(&self, content: &[u8]) -> anyhow::Result<(Duration, Duration)> {
        let path = self.folder.path().join("file");
        let started = Instant::now();
        std::fs::write(&path, content)?;
        let write = started.elapsed();
        let started = Instant::now();
        let read = std::fs::read(&path)?;
        let elapsed = started.elapsed();
        if read.len() != content.len() {
            bail!("a file of {} bytes came back with {}", content.len(), read.len());
        }
        Ok((write, elapsed))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.runsc);
        command.arg("--root").arg(self.folder.path().join("state")).args(FLAGS);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn bundle(&self, id: &str, program: &[&str]) -> anyhow::Result<PathBuf> {
        self.bundle_in(id, program, json!({"type": "network"}))
    }

    fn bundle_in(&self, id: &str, program: &[&str], network: Value) -> anyhow::Result<PathBuf> {
        let bundle = self.folder.path().join(id);
        std::fs::create_dir_all(&bundle)?;
        let rootfs = self.folder.path().join("rootfs");
        let config = configuration(&rootfs, &self.image, program, network);
        std::fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?)?;
        Ok(bundle)
    }
}

impl Idle<'_> {
    /// Time of one `runsc exec`, from its start to its end.
    ///
    /// # Errors
    /// runsc failed.
    pub(crate) fn exec(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let output = self.floor.command().arg("exec").arg(&self.id).args(PROGRAM).output()?;
        let elapsed = started.elapsed();
        if !output.status.success() {
            bail!("`runsc exec` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(elapsed)
    }

    /// Time from SIGKILL to the Sentry until it is gone.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn kill(&self) -> anyhow::Result<Duration> {
        let file = self.floor.folder.path().join(&self.id).join("pid");
        let pid: i32 = std::fs::read_to_string(file)?.trim().parse()?;
        let pid = Pid::from_raw(pid).context("the Sentry's pid is 0")?;
        let sentry = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let started = Instant::now();
        rustix::process::pidfd_send_signal(&sentry, Signal::KILL)?;
        let mut gone = [PollFd::new(&sentry, PollFlags::IN)];
        if rustix::event::poll(&mut gone, Some(&KILL_DEADLINE))? == 0 {
            bail!("a Sentry survived SIGKILL");
        }
        Ok(started.elapsed())
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        let mut command = self.floor.command();
        // What is left then is in a temporary folder, and its process is told below.
        match command.args(["delete", "-force", &self.id]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                eprintln!("courier: `runsc delete`: {}", String::from_utf8_lossy(&output.stderr));
            }
            Err(error) => eprintln!("courier: `runsc delete`: {error}"),
        }
    }
}

/// Time of the program as a plain process of the host.
///
/// # Errors
/// It cannot be started.
pub(crate) fn spawn_on_host() -> anyhow::Result<Duration> {
    let [program, argument] = PROGRAM;
    let started = Instant::now();
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output()?;
    let elapsed = started.elapsed();
    if !output.status.success() {
        bail!("{program} failed on the host ({})", output.status);
    }
    Ok(elapsed)
}

fn first_output(child: &mut Child) -> anyhow::Result<()> {
    let mut output = child.stdout.take().context("standard output is piped")?;
    let mut first = [0; 1];
    output.read_exact(&mut first).context("the program printed nothing")?;
    Ok(())
}

fn tail(child: Child) -> String {
    let mut text = String::new();
    if let Some(mut error) = child.stderr {
        // The status has told the failure; this is only more of it.
        let _unread = error.read_to_string(&mut text);
    }
    text
}

/// The same root file system and the same view as in our sandboxes; the overlay in memory is the
/// cheapest that there is.
fn configuration(rootfs: &Path, image: &Path, program: &[&str], network: Value) -> Value {
    let namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount"]
        .map(|kind| json!({ "type": kind }))
        .into_iter()
        .chain([network])
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": program,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
        },
        "root": {"path": rootfs, "readonly": false},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {"namespaces": namespaces},
        "annotations": {
            "dev.gvisor.spec.rootfs.type": "erofs",
            "dev.gvisor.spec.rootfs.source": image,
            "dev.gvisor.spec.rootfs.overlay": "memory",
        },
    })
}
