//! Network namespaces without names, and what `ip` does in them: they are held by descriptors, so
//! that a bench that is killed leaves nothing.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace(File);

impl Namespace {
    /// Makes one that has nothing but a loopback interface.
    ///
    /// # Errors
    /// The kernel refuses, or there is no `unshare`.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare (package util-linux) cannot be started")?;
        let mut line = String::new();
        let output = holder.stdout.take().context("standard output is piped")?;
        BufReader::new(output).read_line(&mut line)?;
        let file = File::open(format!("/proc/{}/ns/net", holder.id()));
        // Its input ends here, and so does it; our descriptor keeps the namespace.
        drop(holder.stdin.take());
        holder.wait()?;
        if line != "made\n" {
            bail!("the kernel makes no network namespace");
        }
        let namespace = Self(file?);
        namespace.ip("link set dev lo up")?;
        Ok(namespace)
    }

    /// Where it can be found while this process lives.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        self.run(|| ip(arguments))?
    }

    /// Does something in it, on a thread of its own. Sockets that are made stay in it.
    ///
    /// # Errors
    /// It cannot be entered.
    pub(super) fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
                anyhow::Ok(act())
            });
            inside.join().map_err(|_panic| anyhow::anyhow!("a thread panicked"))?
        })
    }
}

/// Runs `ip` in the namespace of the calling thread.
///
/// # Errors
/// It fails.
pub(super) fn ip(arguments: &str) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    let output = command.args(arguments.split(' ')).stdin(Stdio::null()).output();
    let output = output.context("ip (package iproute2) cannot be started")?;
    if !output.status.success() {
        bail!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
