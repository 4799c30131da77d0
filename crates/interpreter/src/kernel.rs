//! One kernel process and the connection to it.
//!
//! A kernel is the leader of a process group of its own, so that an interrupt or its end also reaches
//! what the code started. It listens on Unix sockets in a folder that only this user can enter; both
//! sides sign their messages with a key that only they know.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jupyter_protocol::{
    ConnectionInfo, ExecuteRequest, JupyterKernelspec, JupyterMessage, KernelInfoRequest, Transport,
};
use jupyter_zmq_client::{
    ClientIoPubConnection, DealerRecvConnection, DealerSendConnection, RawMessage, RuntimeError,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use uuid::Uuid;
use zeromq::SocketRecv;

use crate::message::{self, Message, Said};

/// A kernel that has not answered by then never will: slow ones take some ten seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// When to ask a starting kernel again: its first output is lost if our subscription came later.
const GREETING_PATIENCE: Duration = Duration::from_secs(1);
/// Messages that were read and not yet handled. What does not fit waits in the socket.
const MESSAGES_WAITING: usize = 64;
/// What is kept of a kernel's own error output, to say why it died.
const LAST_WORDS: usize = 4096;

/// Why a kernel did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("there is no kernel for this language here: {path} cannot be read")]
    NoSpec { path: PathBuf, source: std::io::Error },
    #[error("{path} describes no kernel")]
    BadSpec { path: PathBuf, source: serde_json::Error },
    #[error("{path} names no program")]
    NoProgram { path: PathBuf },
    #[error("the kernel's connection file cannot be made")]
    Folder(#[source] std::io::Error),
    #[error("the kernel's program cannot be started")]
    Spawn(#[source] std::io::Error),
    #[error("the kernel cannot be spoken to")]
    Connect(#[from] RuntimeError),
    #[error("the kernel ended ({status}): {last_words}")]
    Died { status: ExitStatus, last_words: String },
    #[error("the kernel did not answer in time")]
    Late,
}

/// What a kernel is started from.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// `kernel.json` of its language.
    pub(crate) file: PathBuf,
    /// Where it runs.
    pub(crate) cwd: PathBuf,
    /// Where its folder is made.
    pub(crate) runtime: PathBuf,
}

/// A running kernel. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Kernel {
    process: Process,
    wire: Wire,
    started: Instant,
}

struct Wire {
    shell: DealerSendConnection,
    messages: mpsc::Receiver<Message>,
    pumps: [JoinHandle<()>; 2],
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for pump in &self.pumps {
            pump.abort();
        }
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    group: Pid,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    _folder: TempDir,
}

impl Kernel {
    /// Starts a kernel and waits until it answers.
    pub(crate) async fn start(spec: &Spec) -> Result<Self, StartError> {
        let (mut process, connection) = Process::start(spec)?;
        let wire = tokio::select! {
            wire = timeout(START_PATIENCE, Wire::open(&connection)) => match wire {
                Ok(wire) => wire?,
                Err(_elapsed) => return Err(StartError::Late),
            },
            status = process.child.wait() => return Err(process.died(status)),
        };
        Ok(Self { process, wire, started: Instant::now() })
    }

    /// Sends code to be run; what it says will carry the id that this returns.
    pub(crate) async fn execute(
        &mut self,
        code: String,
        silent: Silent,
    ) -> Result<String, RuntimeError> {
        let silent = silent == Silent::Yes;
        let request = ExecuteRequest {
            code,
            silent,
            store_history: !silent,
            user_expressions: None,
            allow_stdin: false,
            stop_on_error: false,
        };
        let message: JupyterMessage = request.into();
        let id = message.header.msg_id.clone();
        self.wire.shell.send(message).await?;
        Ok(id)
    }

    /// The next message, or the kernel's end. Nothing is lost when the caller stops waiting.
    pub(crate) async fn next(&mut self) -> Heard {
        tokio::select! {
            biased;
            message = self.wire.messages.recv() => match message {
                Some(Message { said: Said::Lost, .. }) | None => self.broken().await,
                Some(message) => Heard::Message(message),
            },
            status = self.process.child.wait() => {
                tracing::warn!("{}", self.process.died(status));
                Heard::Death
            }
        }
    }

    /// The connection often breaks a moment before the process's end is known.
    async fn broken(&mut self) -> Heard {
        match timeout(GREETING_PATIENCE, self.process.child.wait()).await {
            Ok(_status) => Heard::Death,
            Err(_elapsed) => Heard::Silence,
        }
    }

    /// Interrupts what it runs, and what that started.
    pub(crate) fn interrupt(&self) {
        self.process.signal(Signal::INT);
    }

    /// Since when it answers.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }
}

/// Whether an execution is counted and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silent {
    Yes,
    No,
}

/// What comes from a kernel.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(Message),
    /// The process ended.
    Death,
    /// The process runs, but its connection broke.
    Silence,
}

impl Process {
    fn start(spec: &Spec) -> Result<(Self, ConnectionInfo), StartError> {
        let kernel = read_spec(&spec.file)?;
        let folder = tempfile::Builder::new()
            .prefix("k")
            .tempdir_in(&spec.runtime)
            .map_err(StartError::Folder)?;
        let connection = connection(folder.path());
        let file = folder.path().join("connection.json");
        let json = serde_json::to_vec(&connection).expect("names and numbers are JSON");
        std::fs::write(&file, json).map_err(StartError::Folder)?;
        let mut arguments = kernel.argv.iter().map(|argument| fill(argument, &file, &spec.file));
        let program =
            arguments.next().ok_or_else(|| StartError::NoProgram { path: spec.file.clone() })?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(kernel.env.unwrap_or_default())
            // With this variable kernels end when we are gone, however that came.
            .env("JPY_PARENT_PID", std::process::id().to_string())
            .current_dir(&spec.cwd)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(StartError::Spawn)?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .expect("a child that was not waited for has an id");
        let last_words = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(stderr, Arc::clone(&last_words)));
        }
        Ok((Self { child, group, last_words, _folder: folder }, connection))
    }

    fn signal(&self, signal: Signal) {
        // Once it was waited for, its number may be another group's.
        if self.child.id().is_some()
            && let Err(error) = kill_process_group(self.group, signal)
        {
            tracing::debug!(%error, "a kernel's process group took no signal");
        }
    }

    fn died(&self, status: std::io::Result<ExitStatus>) -> StartError {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words =
            String::from_utf8_lossy(&words.iter().copied().collect::<Vec<_>>()).trim().to_owned();
        match status {
            Ok(status) => StartError::Died { status, last_words },
            Err(error) => StartError::Spawn(error),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn read_spec(path: &Path) -> Result<JupyterKernelspec, StartError> {
    let text = std::fs::read(path)
        .map_err(|source| StartError::NoSpec { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|source| StartError::BadSpec { path: path.to_owned(), source })
}

/// Fills the placeholders that a specification may have.
fn fill(argument: &str, connection: &Path, spec: &Path) -> String {
    let folder = spec.parent().unwrap_or(Path::new("."));
    argument
        .replace("{connection_file}", &connection.to_string_lossy())
        .replace("{resource_dir}", &folder.to_string_lossy())
}

fn connection(folder: &Path) -> ConnectionInfo {
    ConnectionInfo {
        transport: Transport::IPC,
        ip: folder.join("s").to_string_lossy().into_owned(),
        shell_port: 1,
        iopub_port: 2,
        stdin_port: 3,
        control_port: 4,
        hb_port: 5,
        key: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()),
        signature_scheme: "hmac-sha256".to_owned(),
        kernel_name: None,
    }
}

/// Keeps the last of what a kernel writes to its error output.
async fn listen(mut stderr: ChildStderr, last_words: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; LAST_WORDS];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend(buffer.iter().take(count));
        let excess = words.len().saturating_sub(LAST_WORDS);
        words.drain(..excess);
    }
}

impl Wire {
    /// Connects as soon as the kernel listens, and waits until output reaches us.
    async fn open(connection: &ConnectionInfo) -> Result<Self, RuntimeError> {
        let session = Uuid::new_v4().to_string();
        let identity = jupyter_zmq_client::peer_identity_for_session(&session)?;
        let iopub =
            jupyter_zmq_client::create_client_iopub_connection(connection, "", &session).await?;
        let shell = jupyter_zmq_client::create_client_shell_connection_with_identity(
            connection, &session, identity,
        )
        .await?;
        let (shell, replies) = shell.split();
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING);
        let pumps = [
            tokio::spawn(pump_output(iopub, sender.clone())),
            tokio::spawn(pump_replies(replies, sender)),
        ];
        let mut wire = Self { shell, messages, pumps };
        wire.greet().await?;
        Ok(wire)
    }

    async fn greet(&mut self) -> Result<(), RuntimeError> {
        loop {
            let request: JupyterMessage = KernelInfoRequest {}.into();
            let id = request.header.msg_id.clone();
            self.shell.send(request).await?;
            if timeout(GREETING_PATIENCE, self.idle(&id)).await.is_ok() {
                return Ok(());
            }
        }
    }

    async fn idle(&mut self, id: &str) {
        while let Some(message) = self.messages.recv().await {
            if message.parent.as_deref() == Some(id) && matches!(message.said, Said::Idle) {
                return;
            }
        }
        // Both pumps ended: the caller waits for the process's end.
        std::future::pending().await
    }
}

async fn pump_output(mut output: ClientIoPubConnection, messages: mpsc::Sender<Message>) {
    while let Ok(multipart) = output.socket.recv().await {
        if let Ok(raw) = RawMessage::from_multipart(multipart, &output.mac)
            && let Some(message) = message::read(&raw)
            && messages.send(message).await.is_err()
        {
            return;
        }
    }
    lost(&messages).await;
}

async fn pump_replies(mut replies: DealerRecvConnection, messages: mpsc::Sender<Message>) {
    while let Ok(multipart) = replies.socket.recv().await {
        if let Ok(raw) = RawMessage::from_multipart(multipart, &replies.mac)
            && let Some(message) = message::read(&raw)
            // A reply also has a status, which is not the end of the output.
            && matches!(message.said, Said::Replied)
            && messages.send(message).await.is_err()
        {
            return;
        }
    }
    lost(&messages).await;
}

async fn lost(messages: &mpsc::Sender<Message>) {
    // Nobody listens any more when this fails, which is as good.
    drop(messages.send(Message { parent: None, said: Said::Lost }).await);
}
