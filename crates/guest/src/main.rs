//! The daemon inside every sandbox: commands, terminals, files.
//!
//! It is the sandbox's pid 1 and its standard input is the channel to the node. It trusts the node
//! and nobody else; nothing inside can reach it except through `sudo`.

mod buffers;
mod build;
mod context;
mod entry;
mod files;
mod filesystem;
mod folder;
mod http;
mod metrics;
mod network;
mod path;
mod ports;
mod process;
mod reaper;
mod router;
mod rpc;
mod server;
mod sudo;
mod user;
mod volumes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use context::Context;
use user::Accounts;

/// `PATH` of commands where the daemon has none itself.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| sudo::is_name(&name)) {
        return sudo::run(arguments);
    }
    match daemon() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            http::tell(&format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn daemon() -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is where the daemon reads its environment")]
    let path = std::env::var("PATH").unwrap_or_else(|_unset| DEFAULT_PATH.to_owned());
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Outside a sandbox (in tests) this makes orphans ours, as they are pid 1's inside.
    let own = rustix::process::getpid();
    if !own.is_init() {
        rustix::process::set_child_subreaper(Some(own))
            .context("cannot become the parent of orphans")?;
    }
    let stdin = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .context("there is no standard input")?;
    let null = std::fs::File::open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("cannot replace standard input")?;
    // One thread: a daemon that mostly waits is quicker without others to wake, and smaller to fork.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let root = own.is_init().then(|| PathBuf::from("/"));
    let context = Context::new(Accounts::default()).with_path(path).with_root(root);
    let context = Arc::new(context);
    if own.is_init() {
        prepare_sandbox();
        runtime.spawn(serve_sudo(Arc::clone(&context)));
    }
    let served = runtime.block_on(server::serve(context, stdin));
    // Blocking tasks may hang on a device or a pipe; the end does not wait for them.
    runtime.shutdown_background();
    Ok(served?)
}

/// A sandbox without sudo is better than none.
async fn serve_sudo(context: Arc<Context>) {
    if let Err(error) = sudo::serve(context, Path::new(sudo::SOCKET)).await {
        http::tell(&error);
    }
}

/// What an image cannot bring along, because it is mounted over.
fn prepare_sandbox() {
    use std::os::unix::fs::PermissionsExt as _;
    let everybody = std::fs::Permissions::from_mode(0o1777);
    // POSIX shared memory and semaphores of all users live there.
    if let Err(error) = std::fs::set_permissions("/dev/shm", everybody) {
        http::tell(&format_args!("/dev/shm is for root only: {error}"));
    }
}
