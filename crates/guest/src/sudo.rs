//! `sudo` inside a sandbox, in which the kernel honours no setuid bit.
//!
//! `/usr/bin/sudo` in an image is a link to the guest daemon. A process whose `argv[0]` has the file
//! name `sudo` is a client: it asks the daemon, which is root already, to start the command.
//!
//! ```text
//!  caller ─▶ sudo (client) ── /run/courier-guest.sock ──▶ daemon ─▶ command
//!                stdin, stdout, stderr, working directory by SCM_RIGHTS
//!                request ▶  signals ▶        ◀ exit code, or signal
//! ```
//!
//! Whom the daemon obeys is decided by the kernel: the socket belongs to root and the group `sudo`,
//! and nobody else can connect. What a client says of its caller makes for names and variables, which
//! somebody who may be root could choose anyway.
//!
//! The command is in a session of its own. Where its streams are a terminal, they work, but it is not
//! the command's controlling terminal: that belongs to the caller's session, and a terminal has one
//! session. So a shell says that it has no job control, `/dev/tty` cannot be opened, and what keys do
//! (Ctrl-C, Ctrl-Z, a new size) reaches the command's process group through the client. A command
//! whose client died gets one SIGHUP and may go on. Mask of modes, limits and priority are the
//! daemon's, not the caller's.

mod client;
mod environment;
mod options;
mod plan;
mod request;
mod server;
mod signals;
mod text;
mod wire;

use std::ffi::OsStr;
use std::path::Path;

pub(crate) use client::run;
pub(crate) use server::serve;

/// Where the daemon listens for clients.
pub(crate) const SOCKET: &str = "/run/courier-guest.sock";

/// The group whose members may run commands as anybody.
const SUDOERS: &str = "sudo";

/// Whether a program that was started under this name is to be `sudo`.
pub(crate) fn is_name(argv0: &OsStr) -> bool {
    Path::new(argv0).file_name() == Some(OsStr::new("sudo"))
}
