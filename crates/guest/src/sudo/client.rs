//! The client: what runs when somebody types `sudo`.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::options::{self, Invocation, UsageError};
use super::request::{Ask, Caller, Reply, Request};
use super::text::Text;
use super::wire::{self, WireError};
use super::{SOCKET, SUDOERS, signals};

const USAGE: &str = "\
usage: sudo -h | -V | -k | -v
usage: sudo -l [command]
usage: sudo [-AbBEHknNS] [-D directory] [-g group] [-p prompt] [-u user]
            [--preserve-env=list] [VAR=value] [-i | -s] [command [arg ...]]
";

/// The exit code of everything that is not the command's own.
const FAILED: u8 = 1;

/// What a shell adds to the number of the signal that ended a command.
const SIGNAL_BASE: i32 = 128;

/// Why the daemon could not be asked.
#[derive(Debug, Error)]
enum ClientError {
    #[error("{name} is not in the sudoers file: only root and members of the group {SUDOERS} are")]
    NotPermitted { name: String },
    #[error("cannot reach the guest daemon at {SOCKET}")]
    Unreachable(#[source] io::Error),
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    #[error("cannot talk to the guest daemon")]
    Wire(#[from] WireError),
}

/// Runs the client with the arguments after the program's name.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match options::parse(arguments.map(Text::from).collect()) {
        Ok(Invocation::Help) => {
            say(&mut io::stdout(), USAGE);
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            let version = env!("CARGO_PKG_VERSION");
            say(&mut io::stdout(), &format!("sudo of courier-guest {version}\n"));
            ExitCode::SUCCESS
        }
        Ok(Invocation::Forget) => ExitCode::SUCCESS,
        Ok(Invocation::Ask(ask)) => ask_daemon(ask),
        Err(error) => {
            if error != UsageError::NoCommand {
                complain(&error);
            }
            say(&mut io::stderr(), USAGE);
            ExitCode::from(FAILED)
        }
    }
}

fn ask_daemon(ask: Ask) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let stream = UnixStream::connect(SOCKET).await.map_err(unreachable)?;
            converse(stream, request(ask)).await
        }),
        Err(error) => Err(ClientError::Signals(error)),
    };
    match result {
        Ok(ending) => ending.finish(),
        Err(error) => {
            complain(&chain(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn unreachable(error: io::Error) -> ClientError {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return ClientError::Unreachable(error);
    }
    let uid = rustix::process::getuid().as_raw();
    let user = crate::user::Accounts::default().lookup_uid(uid);
    ClientError::NotPermitted { name: user.map_or_else(|_| uid.to_string(), |user| user.name) }
}

fn request(ask: Ask) -> Request {
    let variable = |(name, value): (OsString, OsString)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        Text::from(OsString::from_vec(text))
    };
    let caller = Caller {
        environment: std::env::vars_os().map(variable).collect(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };
    Request { ask, caller }
}

/// How the client ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Exit(i32),
    Signal(i32),
    Told(String),
    Refused { message: String, status: u8 },
}

impl Ending {
    fn finish(self) -> ExitCode {
        let code = match self {
            Self::Exit(code) => code,
            Self::Signal(signal) => {
                signals::end_by(signal);
                SIGNAL_BASE + signal
            }
            Self::Told(text) => {
                say(&mut io::stdout(), &text);
                0
            }
            Self::Refused { message, status } => {
                complain(&message);
                i32::from(status)
            }
        };
        ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
    }
}

/// Asks, passes signals on and waits for the end; not for that of a command in the background.
async fn converse(mut stream: UnixStream, request: Request) -> Result<Ending, ClientError> {
    let mut signals = signals::catch().map_err(ClientError::Signals)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A directory that is gone or closed to us is no reason not to run: the command begins in `/`.
    let folder = rustix::fs::open(".", flags, Mode::empty()).ok();
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let descriptors: Vec<BorrowedFd<'_>> =
        stdio.into_iter().chain(folder.as_ref().map(std::os::fd::AsFd::as_fd)).collect();
    wire::send_request(&mut stream, &request, &descriptors).await?;
    drop(folder);
    let waits = !matches!(&request.ask, Ask::Run(run) if run.background);
    let (mut reader, mut writer) = stream.into_split();
    let mut answers = std::pin::pin!(ending(&mut reader, waits));
    loop {
        tokio::select! {
            biased;
            ending = &mut answers => return Ok(ending?),
            Some(signal) = signals.recv() => forward(&mut writer, signal).await,
        }
    }
}

async fn ending(reader: &mut OwnedReadHalf, waits: bool) -> Result<Ending, WireError> {
    loop {
        return Ok(match wire::receive_reply(reader).await? {
            Reply::Started if waits => continue,
            Reply::Started => Ending::Exit(0),
            Reply::Exited(code) => Ending::Exit(code),
            Reply::Killed(signal) => Ending::Signal(signal),
            Reply::Told { text } => Ending::Told(text),
            Reply::Refused { message, status } => Ending::Refused { message, status },
        });
    }
}

async fn forward(writer: &mut OwnedWriteHalf, signal: Signal) {
    if let Ok(number) = u8::try_from(signal.as_raw()) {
        // A daemon that is gone shows where its replies are read.
        let _gone = writer.write_all(&[number]).await;
    }
    if signal == Signal::TSTP {
        // The shell is waiting for us to stop, not for the command.
        let _refused = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn complain(what: &dyn std::fmt::Display) {
    say(&mut io::stderr(), &format!("sudo: {what}\n"));
}

fn say(stream: &mut impl io::Write, text: &str) {
    // Whoever closed the stream does not want to know.
    let _closed = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}
