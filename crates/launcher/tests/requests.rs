//! What the launcher answers to clients that make no sense or mean no good. Needs root; no sandbox
//! is made here (the suite of `courier-driver` makes them).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs::{self, File};
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use serde_json::{Value, json};

/// How long a launcher may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A launcher of its own, which ends with the test.
struct Launcher {
    dir: tempfile::TempDir,
    child: Child,
}

impl Launcher {
    /// `None`, with a line on standard error, where this is not root.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir)
    }

    fn start_in(dir: tempfile::TempDir) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: the launcher needs root");
            return None;
        }
        let child = Command::new(env!("CARGO_BIN_EXE_courier-launcher"))
            .arg("--dir")
            .arg(dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let launcher = Self { dir, child };
        let deadline = Instant::now() + PATIENCE;
        while connect(launcher.dir.path()).is_err() {
            assert!(Instant::now() < deadline, "the launcher listens in time");
            std::thread::yield_now();
        }
        Some(launcher)
    }

    fn greeted(&self) -> Client {
        let client = Client(connect(self.dir.path()).unwrap());
        let hello = json!({"call": "hello", "version": 3, "owner": "test", "linger": false});
        assert_eq!(client.call(&hello, &[])["answer"], "hello");
        client
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Not SIGKILL: it removes its cgroups. An error means that it has ended.
        let _ended = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        self.child.wait().unwrap();
    }
}

/// A connection.
struct Client(OwnedFd);

impl Client {
    fn call(&self, request: &Value, fds: &[BorrowedFd<'_>]) -> Value {
        self.call_raw(request.to_string().as_bytes(), fds)
    }

    /// The answer, or null when the launcher closed.
    fn call_raw(&self, request: &[u8], fds: &[BorrowedFd<'_>]) -> Value {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        let iov = [IoSlice::new(request)];
        rustix::net::sendmsg(&self.0, &iov, &mut control, SendFlags::NOSIGNAL).unwrap();
        let mut answer = vec![0; 128 * 1024];
        let count = rustix::io::read(&self.0, &mut answer).unwrap();
        if count == 0 { Value::Null } else { serde_json::from_slice(&answer[..count]).unwrap() }
    }

    #[track_caller]
    fn refuses(&self, request: &Value, fds: &[BorrowedFd<'_>], word: &str) {
        let answer = self.call(request, fds);
        assert_eq!(answer["answer"], "refused", "{request}: {answer}");
        assert!(answer.to_string().contains(word), "{request}: {answer}");
    }
}

fn connect(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(dir.join("launcher.sock"))?)?;
    Ok(socket)
}

fn create(id: &str, memory_mib: u32) -> Value {
    let limits = json!({
        "memory_mib": memory_mib, "cpu_millis": 1000, "pids": 64, "disk_mib": 64, "open_files": 64,
    });
    json!({"call": "create", "id": id, "limits": limits, "deadline": i64::MAX, "volumes": []})
}

#[test]
fn an_id_that_is_a_name_of_the_kernels_neither_harms_this_launcher_nor_its_successor() {
    let Some(launcher) = Launcher::start() else { return };
    let image = File::open("/etc/hostname").unwrap();
    // In every cgroup of version 1 there is a file of that name.
    launcher.greeted().refuses(&create("tasks", 512), &[image.as_fd()], "begins with i");
    let sandboxes = launcher.dir.path().join("sandboxes");
    assert_eq!(fs::read_dir(&sandboxes).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_removed_does_not_keep_a_launcher_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let stuck = dir.path().join("sandboxes/tasks");
    fs::create_dir_all(&stuck).unwrap();
    let Some(launcher) = Launcher::start_in(dir) else { return };
    launcher.greeted();
}

#[test]
fn a_directory_that_others_could_have_prepared_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let prepare: [fn(&Path); 2] = [
        |dir| std::os::unix::fs::chown(dir, Some(12_345), None).unwrap(),
        |dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap(),
    ];
    for prepared in prepare {
        let dir = tempfile::tempdir().unwrap();
        prepared(dir.path());
        let output = Command::new(env!("CARGO_BIN_EXE_courier-launcher"))
            .arg("--dir")
            .arg(dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("root's alone"), "{told}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_connection_begins_with_a_greeting_of_the_same_version() {
    let Some(launcher) = Launcher::start() else { return };
    let client = || Client(connect(launcher.dir.path()).unwrap());
    client().refuses(&json!({"call": "list", "after": null}), &[], "begins with hello");
    let old = json!({"call": "hello", "version": 0, "owner": "a", "linger": true});
    client().refuses(&old, &[], "speaks version 0");
    let climbing = json!({"call": "hello", "version": 3, "owner": "../a", "linger": true});
    client().refuses(&climbing, &[], "a-z and 0-9");
}

#[test]
fn rubbish_ends_the_connection_and_not_the_launcher() {
    let Some(launcher) = Launcher::start() else { return };
    for rubbish in [&b"{"[..], b"\xff\xff", b"[]", b"{\"call\":\"create\"}", &[b' '; 130 * 1024]] {
        let client = launcher.greeted();
        assert_eq!(client.call_raw(rubbish, &[])["answer"], "refused");
        let mut rest = String::new();
        assert_eq!(File::from(client.0).read_to_string(&mut rest).unwrap(), 0);
    }
    let unknown = json!({"call": "list", "after": null, "root": "/"});
    launcher.greeted().refuses(&unknown, &[], "unknown field");
    launcher.greeted();
}

#[test]
fn ids_limits_and_images_are_checked_before_anything_is_made() {
    let Some(launcher) = Launcher::start() else { return };
    let client = launcher.greeted();
    let path = launcher.dir.path().join("image");
    fs::write(&path, "image").unwrap();
    let image = File::open(&path).unwrap();
    let fds = [image.as_fd()];
    for id in ["", "..", "a/b", "A", &"a".repeat(33)] {
        client.refuses(&create(id, 512), &fds, "a-z and 0-9");
    }
    client.refuses(&create("i0", 1), &fds, "memory_mib = 1 is out of range");
    client.refuses(&create("i0", 512), &[], "0 descriptors");
    client.refuses(&create("i0", 512), &[image.as_fd(), image.as_fd()], "2 descriptors");
    let writable = File::options().read(true).write(true).open(&path).unwrap();
    let directory = File::open("/").unwrap();
    // Opening it again would give a client what its own rights did not.
    let only_a_path =
        rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
    for fd in [writable.as_fd(), directory.as_fd(), only_a_path.as_fd()] {
        client.refuses(&create("i0", 512), &[fd], "regular file, opened for reading only");
    }
    assert_eq!(fs::read_dir(launcher.dir.path().join("sandboxes")).unwrap().count(), 0);
    assert_eq!(client.call(&json!({"call": "list", "after": null}), &[])["ids"], json!([]));
}

#[test]
fn what_is_not_there_is_not_found() {
    let Some(launcher) = Launcher::start() else { return };
    let client = launcher.greeted();
    for call in ["attach", "usage", "destroy"] {
        client.refuses(&json!({"call": call, "id": "i0"}), &[], "not_found");
    }
}

#[test]
fn a_nearly_full_disk_refuses_sandboxes() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    rustix::mount::mount("none", &path, "tmpfs", MountFlags::empty(), c"size=64m,mode=755")
        .unwrap();
    let launcher = Launcher::start_in(dir).unwrap();
    let image_path = path.join("image");
    fs::write(&image_path, "image").unwrap();
    let image = File::open(&image_path).unwrap();
    launcher.greeted().refuses(&create("i0", 512), &[image.as_fd()], "512 MiB are the least");
    assert_eq!(fs::read_dir(path.join("sandboxes")).unwrap().count(), 0);
    rustix::mount::unmount(&path, UnmountFlags::DETACH).unwrap();
}

#[test]
fn sigterm_ends_it_cleanly() {
    let Some(mut launcher) = Launcher::start() else { return };
    let pid = rustix::process::Pid::from_child(&launcher.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(launcher.child.wait().unwrap().success());
    assert!(!launcher.dir.path().join("launcher.sock").exists());
}
