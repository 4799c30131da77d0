//! The daemon's half: starts what clients ask for.
//!
//! Who may ask is who can open the socket: it belongs to root and the group `sudo`, and the kernel
//! checks that when a client connects. `SO_PEERCRED` is of no use, as in gVisor it shows the one
//! who asks for it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Gid, Pid, Signal, Uid};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

use super::plan::{self, Plan, PlanError};
use super::request::{Ask, Caller, Reply, Request, Run};
use super::text::Text;
use super::wire::{self, Streams, WireError};
use super::{SUDOERS, signals};
use crate::context::Context;
use crate::http::tell;
use crate::process::{Cwd, Launch};
use crate::reaper::Exit;
use crate::user::Accounts;

/// Most clients at a time; a sandbox's limit of processes is usually lower.
const CLIENTS_MAX: usize = 1_024;

/// How long a client may take to say what it wants.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long accepting rests after it failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most signals that are read at once.
const SIGNALS_AT_ONCE: usize = 16;

/// The exit code of a client whose command was not run.
const REFUSED: u8 = 1;

/// The exit code where a command was found and could not be started.
const NOT_STARTED: u8 = 126;

/// Why there is no sudo.
#[derive(Debug, Error)]
pub(crate) enum SudoError {
    /// The socket cannot be made.
    #[error("cannot listen for sudo at {path}: {source}")]
    Listen {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Error)]
enum Refusal {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("unable to execute {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("the guest daemon failed: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Start { .. } => NOT_STARTED,
            Refusal::Plan(_) | Refusal::Panicked(_) => REFUSED,
        };
        Self::Refused { message: refusal.to_string(), status }
    }
}

/// Serves clients at `path` for ever.
///
/// # Errors
/// The socket cannot be made.
pub(crate) async fn serve(context: Arc<Context>, path: &Path) -> Result<(), SudoError> {
    let listener = listen(&context, path)
        .map_err(|source| SudoError::Listen { path: path.display().to_string(), source })?;
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok((stream, _nameless)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let context = Arc::clone(&context);
        let place = Arc::clone(&room).try_acquire_owned();
        tokio::spawn(async move {
            let served = match place {
                Ok(_place) => serve_client(context, stream).await,
                Err(_full) => refuse_for_want_of_room(stream).await,
            };
            if let Err(error) = served {
                tell(&format_args!("a client of sudo was left: {error}"));
            }
        });
    }
}

/// Makes the socket. Until it belongs to the group, only root can connect: the daemon's umask sees
/// to that.
fn listen(context: &Context, path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Some(gid) = context.accounts().group(SUDOERS) {
        rustix::fs::chown(path, Some(Uid::ROOT), Some(Gid::from_raw(gid)))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

async fn refuse_for_want_of_room(mut stream: UnixStream) -> Result<(), WireError> {
    let message = format!("{CLIENTS_MAX} commands run by sudo already: wait for some");
    wire::send_reply(&mut stream, &Reply::Refused { message, status: REFUSED }).await
}

/// Serves one client to the end of its command.
async fn serve_client(context: Arc<Context>, mut stream: UnixStream) -> Result<(), WireError> {
    let received = tokio::time::timeout(REQUEST_DEADLINE, wire::receive_request(&mut stream)).await;
    let (request, streams) =
        received.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let Request { ask, caller } = request;
    let reply = match ask {
        Ask::Run(run) => {
            let background = run.background;
            // Looking for files may block.
            let task = Arc::clone(&context);
            let started =
                tokio::task::spawn_blocking(move || start(&task, &caller, &run, streams)).await;
            match started.map_err(Refusal::from).and_then(|started| started) {
                Ok((pid, exit)) => return follow(stream, pid, exit, background).await,
                Err(refusal) => refusal.into(),
            }
        }
        Ask::List(command) => list(context.accounts(), &caller, &command, streams.folder),
        Ask::Validate => Reply::Told { text: String::new() },
    };
    wire::send_reply(&mut stream, &reply).await
}

fn start(
    context: &Context,
    caller: &Caller,
    run: &Run,
    streams: Streams,
) -> Result<(Pid, oneshot::Receiver<Exit>), Refusal> {
    let plan = Plan::of(context.accounts(), caller, run, streams.folder)?;
    let Plan { program, argv0, args, env, folder, target } = plan;
    let launch = Launch {
        program: &program,
        argv0: Some(&argv0),
        args: &args,
        env: &env,
        cwd: Cwd::Opened(folder),
        user: &target,
        stdio: streams.stdio,
        terminal: None,
    };
    let started = context.commands().reaper.start(|| crate::process::launch(launch));
    started.map_err(|source| {
        let program = Path::new(&program).display().to_string();
        Refusal::Start { program, source }
    })
}

/// Passes signals to the command and its end to the client. A client that is gone is a terminal
/// that was hung up: the command hears of it and may go on.
async fn follow(
    mut stream: UnixStream,
    command: Pid,
    mut exit: oneshot::Receiver<Exit>,
    background: bool,
) -> Result<(), WireError> {
    if background {
        return wire::send_reply(&mut stream, &Reply::Started).await;
    }
    let (mut reader, mut writer) = stream.into_split();
    let exit = loop {
        tokio::select! {
            biased;
            exit = &mut exit => break exit,
            signals = next_signals(&mut reader) => match signals {
                Some(signals) => signals.into_iter().for_each(|signal| pass_on(command, signal)),
                None => {
                    pass_on(command, Signal::HUP);
                    // One that is stopped would never hear it.
                    pass_on(command, Signal::CONT);
                    return Ok(());
                }
            },
        }
    };
    // The reaper keeps every promise while the daemon lives.
    let exit = exit.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
    wire::send_reply(&mut writer, &exit.into()).await
}

/// The next signals that the client passes on; none when it is gone. May be cancelled.
async fn next_signals(reader: &mut OwnedReadHalf) -> Option<Vec<Signal>> {
    let mut bytes = [0; SIGNALS_AT_ONCE];
    let count = reader.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
    Some(bytes.into_iter().take(count).filter_map(signals::forwarded).collect())
}

/// Signals the command's process group, as a terminal would.
fn pass_on(command: Pid, signal: Signal) {
    // It leads a session of its own, in which nothing but this can stop or continue it.
    let signal = if signal == Signal::TSTP { Signal::STOP } else { signal };
    // A group that is gone needs no signal.
    let _gone = rustix::process::kill_process_group(command, signal);
}

/// What the caller may run, or where a command is.
fn list(accounts: &Accounts, caller: &Caller, command: &[Text], folder: Option<OwnedFd>) -> Reply {
    let listed = plan::account(accounts, caller).map_err(PlanError::from).and_then(|account| {
        match command.split_first() {
            None => {
                let host = rustix::system::uname();
                Ok(format!(
                    "User {} may run the following commands on {}:\n    (ALL : ALL) NOPASSWD: ALL\n",
                    account.name,
                    host.nodename().to_string_lossy()
                ))
            }
            Some((name, args)) => {
                let folder = plan::working_directory(folder, &Run::default(), &account)?;
                let path = plan::locate(&folder, &name.0)
                    .ok_or_else(|| PlanError::NotFound { name: name.shown() })?;
                let words = std::iter::once(Path::new(&path).display().to_string());
                let words: Vec<_> = words.chain(args.iter().map(Text::shown)).collect();
                Ok(format!("{}\n", words.join(" ")))
            }
        }
    });
    match listed {
        Ok(text) => Reply::Told { text },
        Err(error) => Refusal::from(error).into(),
    }
}

#[cfg(test)]
mod tests;
