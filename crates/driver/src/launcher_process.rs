//! Starting the launcher where no service manager did.

use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The socket's name in the launcher's directory.
const SOCKET: &str = "launcher.sock";
/// The log of a launcher that was started here.
const LOG: &str = "launcher.log";
/// Mode of the launcher's directory, as in the launcher.
const DIR_MODE: u32 = 0o755;
/// A longer log is begun anew at the next start.
const MAX_LOG: u64 = 1 << 20;
/// How much of a log goes into an error.
const LOG_TAIL: u64 = 2 * 1024;
/// How long a launcher may take to answer; it first removes what an earlier one left.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two looks for the socket.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// The launcher's exit code when another one serves the directory.
const EXIT_BUSY: i32 = 3;

/// How to start a launcher.
#[derive(Debug, Clone)]
pub struct LauncherOptions {
    /// Its directory.
    pub dir: PathBuf,
    /// Its program.
    pub binary: PathBuf,
    /// Users that may use it beside root.
    pub allow_uids: Vec<u32>,
    /// The runsc that it shall use; the usual places when absent.
    pub technology_binary: Option<PathBuf>,
    /// It ends after so long without clients and sandboxes.
    pub idle_exit: Option<Duration>,
}

/// Why no launcher answers.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// Only root can start one.
    #[error(
        "no launcher answers on {}, and only root can start one; start the service \
         (systemctl start courier-launcher) or run this as root", socket.display()
    )]
    NotRoot {
        /// Where it should answer.
        socket: PathBuf,
    },
    /// The program could not be started.
    #[error("cannot start {}", binary.display())]
    Spawn {
        /// The program.
        binary: PathBuf,
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// It ended at once.
    #[error("the launcher ended at once: {log}")]
    Ended {
        /// The end of its log.
        log: String,
    },
    /// It does not answer in time.
    #[error("the launcher does not answer on {}", socket.display())]
    Silent {
        /// Where it should answer.
        socket: PathBuf,
        /// The last answer of the host.
        #[source]
        source: io::Error,
    },
}

/// The socket of a launcher's directory.
#[must_use]
pub fn socket_path(dir: &Path) -> PathBuf {
    dir.join(SOCKET)
}

/// Makes sure that a launcher serves the directory, and returns its socket. Two callers at once both
/// succeed: the directory's lock lets one launcher live, and both callers find that one.
///
/// # Errors
/// None answers and none can be started.
pub async fn ensure_running(options: &LauncherOptions) -> Result<PathBuf, LauncherError> {
    let socket = socket_path(&options.dir);
    let deadline = Instant::now() + START_DEADLINE;
    let mut child: Option<(Child, u64)> = None;
    loop {
        let error = match probe(&socket) {
            Ok(()) => return Ok(socket),
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::PermissionDenied || Instant::now() >= deadline {
            return Err(LauncherError::Silent { socket, source: error });
        }
        child = match child {
            None => Some(start(options).await?),
            Some((mut child, log_start)) => match child.try_wait() {
                Ok(None) => Some((child, log_start)),
                Ok(Some(status)) if status.code() == Some(EXIT_BUSY) || status.success() => None,
                Ok(Some(_)) => {
                    let log = log_tail(&options.dir.join(LOG), log_start);
                    return Err(LauncherError::Ended { log });
                }
                Err(source) => {
                    return Err(LauncherError::Spawn { binary: options.binary.clone(), source });
                }
            },
        };
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Connects and leaves.
fn probe(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // A full backlog is a launcher too.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Starts a launcher in a session of its own; returns it and where its part of the log begins.
async fn start(options: &LauncherOptions) -> Result<(Child, u64), LauncherError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LauncherError::NotRoot { socket: socket_path(&options.dir) });
    }
    let failed = |source| LauncherError::Spawn { binary: options.binary.clone(), source };
    let (log, log_start) = open_log(&options.dir).map_err(failed)?;
    let mut command = Command::new(&options.binary);
    command.arg("--dir").arg(&options.dir);
    for uid in &options.allow_uids {
        command.arg("--allow-uid").arg(uid.to_string());
    }
    if let Some(runsc) = &options.technology_binary {
        command.arg("--runsc").arg(runsc);
    }
    if let Some(idle) = options.idle_exit {
        command.arg("--idle-exit-s").arg(idle.as_secs().max(1).to_string());
    }
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    own_session(&mut command);
    command.spawn().map(|child| (child, log_start)).map_err(failed)
}

/// Neither Ctrl-C nor the end of the caller's terminal reaches the launcher.
#[expect(unsafe_code, reason = "std has no stable way to start a program in its own session")]
fn own_session(command: &mut Command) {
    let in_child = || rustix::process::setsid().map(|_| ()).map_err(io::Error::from);
    // SAFETY: setsid is async-signal-safe, and the closure allocates nothing.
    unsafe { command.pre_exec(in_child) };
}

fn open_log(dir: &Path) -> io::Result<(OwnedFd, u64)> {
    // The launcher refuses a directory that others can write to, whatever the umask is here.
    std::fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    let path = dir.join(LOG);
    let log = std::fs::File::options().append(true).create(true).open(&path)?;
    if log.metadata()?.len() > MAX_LOG {
        log.set_len(0)?;
    }
    let start = log.metadata()?.len();
    Ok((log.into(), start))
}

fn log_tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        file.seek(io::SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("{} cannot be read: {error}", path.display()))
}
