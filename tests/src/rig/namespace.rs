//! Network namespaces without names: held by a descriptor, so that a run that is killed leaves
//! nothing that has to be swept up.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Makes a new one: only a loopback interface, which is down.
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (package util-linux) starts");
        let mut line = String::new();
        let out = holder.stdout.take().expect("stdout is a pipe");
        BufReader::new(out).read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line, "made\n", "the test internet needs root, to make network namespaces");
        let namespace = File::open(format!("/proc/{}/ns/net", holder.id()));
        // Its input ends here, and so does it; our descriptor keeps the namespace.
        drop(holder.stdin.take());
        holder.wait().expect("our child can be waited for");
        Self(namespace.expect("a running process has a network namespace"))
    }

    /// The one that the calling thread is in.
    #[must_use]
    pub fn here() -> Self {
        Self(File::open("/proc/thread-self/ns/net").expect("every thread has a network namespace"))
    }

    /// Moves the calling thread, and what it starts from now on, into this one.
    #[track_caller]
    pub fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter a network namespace");
    }

    /// Runs `act` in this one, on a thread of its own, to its end.
    #[track_caller]
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let result = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                act()
            });
            inside.join()
        });
        match result {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts a thread that lives in this one.
    pub fn spawn(&self, name: &str, act: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        let namespace = Self(self.0.try_clone().expect("a descriptor can be duplicated"));
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = thread.spawn(move || {
            namespace.enter();
            act();
        });
        started.expect("a thread can be started")
    }

    /// Runs `ip` (package iproute2) in this one and returns what it prints; panics when it fails.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let output = self.run(|| {
            let mut command = Command::new("ip");
            command.args(arguments.split(' ')).output().expect("ip (package iproute2) starts")
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sets a switch of this one's, given as its path below `/proc/sys/net`.
    #[track_caller]
    pub fn set(&self, switch: &str, value: &str) {
        let path = format!("/proc/sys/net/{switch}");
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// A second hold on the same namespace.
    #[must_use]
    pub fn another(&self) -> Self {
        Self(self.0.try_clone().expect("a descriptor can be duplicated"))
    }

    /// Its descriptor's path, for `nsenter --net=`, as long as this process lives.
    #[must_use]
    pub fn path(&self) -> String {
        use std::os::fd::AsRawFd as _;
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}
