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
//! Whom the daemon obeys is decided by `SO_PEERCRED` and its own reading of the accounts: root, and
//! members of the group `sudo`. Nothing that the client says of its caller is believed.
//!
//! The command is in a session of its own. Where its streams are a terminal, they work, but it is not
//! the command's controlling terminal: that belongs to the caller's session, and a terminal has one
//! session. So a shell says that it has no job control, and Ctrl-C reaches the command through the
//! client, which passes signals on. A command whose client died gets one SIGHUP.
