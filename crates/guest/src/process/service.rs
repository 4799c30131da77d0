//! Which RPC of `process.Process` does what.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::process::{
    CloseStdinRequest, ConnectRequest, ConnectResponse, Empty, ListRequest, ListResponse, Pty,
    SendInputRequest, SendSignalRequest, Signal, StartRequest, StartResponse, StreamInputRequest,
    UpdateRequest,
};
use futures_util::{Stream, StreamExt as _};
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

use super::command::Command;
use super::events::{self, Follower};
use super::input::Input;
use super::plan::Plan;
use super::pump::Source;
use super::supervise::Started;
use super::{Commands, Cwd, Launch, Terminal, terminal};
use crate::context::Context;
use crate::http::{Request, Response};
use crate::rpc::{self, Call, Messages};
use crate::user::User;

/// How long the answer to SIGKILL waits for the process to be gone: whoever asks then may rely on it.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Answers a call of `process.Process/{method}`.
pub(crate) async fn serve(context: Arc<Context>, method: &str, request: Request) -> Response {
    let on =
        |selector| move |context: &Context| context.commands().running(Option::as_ref(&selector));
    match method {
        "List" => rpc::unary(request, |_, _: ListRequest| async move { list(&context) }).await,
        "Start" => {
            let handle = |call, message| async move { start(&context, &call, message) };
            rpc::server_stream(request, start_keepalive, handle).await
        }
        "Connect" => {
            let handle = |call, message| async move { connect(&context, &call, message) };
            rpc::server_stream(request, connect_keepalive, handle).await
        }
        "Update" => {
            let handle = |_, message: UpdateRequest| async move {
                update(&*on(message.process)(&context)?, message.pty)
            };
            rpc::unary(request, handle).await
        }
        "SendInput" => {
            let handle = |_, message: SendInputRequest| async move {
                let command = on(message.process)(&context)?;
                command.input.write(message.input.unwrap_or_default()).await?;
                Ok(Empty {})
            };
            rpc::unary(request, handle).await
        }
        "StreamInput" => {
            let handle = |_, messages| async move { stream_input(&context, messages).await };
            rpc::client_stream(request, handle).await
        }
        "SendSignal" => {
            let handle = |_, message: SendSignalRequest| async move {
                signal(&*on(message.process)(&context)?, message.signal).await
            };
            rpc::unary(request, handle).await
        }
        "CloseStdin" => {
            let handle = |_, message: CloseStdinRequest| async move {
                on(message.process)(&context)?.input.close().await?;
                Ok(Empty {})
            };
            rpc::unary(request, handle).await
        }
        _ => rpc::unknown_method(request.uri().path()),
    }
}

fn list(context: &Context) -> Result<ListResponse, ConnectError> {
    Ok(ListResponse { processes: context.commands().list() })
}

fn start_keepalive() -> StartResponse {
    StartResponse { event: Some(events::keepalive()) }
}

fn connect_keepalive() -> ConnectResponse {
    ConnectResponse { event: Some(events::keepalive()) }
}

/// Starts a command. Its lifetime is the caller's deadline, and it does not depend on the caller.
fn start(
    context: &Arc<Context>,
    call: &Call,
    mut request: StartRequest,
) -> Result<
    impl Stream<Item = Result<StartResponse, ConnectError>> + Send + 'static + use<>,
    ConnectError,
> {
    let user = call.user(context)?;
    let plan = Plan::of(context, user, &mut request)?;
    context.commands().check_room()?;
    let ends = match &request.pty {
        Some(pty) => Ends::terminal(pty, &plan.user),
        None => Ends::pipes(request.stdin.unwrap_or(true)),
    }
    .map_err(|error| ConnectError::internal(format!("cannot make pipes or a terminal: {error}")))?;
    let Ends { stdio, terminal, input, sources } = ends;
    let (pid, exit) = context
        .commands()
        .reaper
        .start(|| {
            super::launch(Launch {
                program: &plan.config.cmd,
                argv0: None,
                args: &plan.config.args,
                env: &plan.env,
                cwd: Cwd::Path(&plan.cwd),
                user: &plan.user,
                stdio,
                terminal,
            })
        })
        .map_err(|error| not_started(&plan, &error))?;
    let command = Arc::new(Command::new(pid, plan.config, plan.tag, input));
    let output = command.subscribe()?;
    let lifetime = call.timeout;
    Commands::adopt(context, Started { command: Arc::clone(&command), exit, sources, lifetime });
    Ok(events::events(command, output, Follower::Starter)
        .map(|event| event.map(|event| StartResponse { event: Some(event) })))
}

/// Follows a command from now on; the caller's deadline ends the following only.
fn connect(
    context: &Context,
    call: &Call,
    request: ConnectRequest,
) -> Result<
    impl Stream<Item = Result<ConnectResponse, ConnectError>> + Send + 'static + use<>,
    ConnectError,
> {
    let command = context.commands().recent(request.process.as_ref())?;
    let output = command.subscribe()?;
    let events = events::events(command, output, Follower::Other)
        .map(|event| event.map(|event| ConnectResponse { event: Some(event) }));
    Ok(call.bounded(events))
}

fn update(command: &Command, pty: Option<Pty>) -> Result<Empty, ConnectError> {
    let terminal = command.input.terminal()?;
    if let Some(size) = pty.and_then(|pty| pty.size) {
        terminal
            .resize(&size)
            .map_err(|error| ConnectError::internal(format!("error resizing: {error}")))?;
    }
    Ok(Empty {})
}

async fn signal(command: &Command, signal: i32) -> Result<Empty, ConnectError> {
    let (signal, fatal) = match Signal::try_from(signal) {
        Ok(Signal::Sigterm) => (rustix::process::Signal::TERM, false),
        Ok(Signal::Sigkill) => (rustix::process::Signal::KILL, true),
        Ok(Signal::Unspecified) | Err(_) => {
            return Err(ConnectError::invalid_argument("use SIGNAL_SIGTERM or SIGNAL_SIGKILL"));
        }
    };
    command
        .signal(signal)
        .map_err(|errno| ConnectError::internal(format!("error sending the signal: {errno}")))?;
    if fatal {
        // Still not gone is no failure: the signal is on its way.
        let _patience = tokio::time::timeout(KILL_PATIENCE, command.until_reaped()).await;
    }
    Ok(Empty {})
}

async fn stream_input(
    context: &Context,
    mut messages: Messages<StreamInputRequest>,
) -> Result<Empty, ConnectError> {
    let mut command: Option<Arc<Command>> = None;
    while let Some(message) = messages.next().await? {
        if let Some(start) = message.start {
            command = Some(context.commands().running(start.process.as_ref())?);
        }
        let Some(data) = message.data else { continue };
        let Some(command) = &command else {
            return Err(ConnectError::invalid_argument("the first message must be `start`"));
        };
        command.input.write(data.input.unwrap_or_default()).await?;
    }
    Ok(Empty {})
}

fn not_started(plan: &Plan, error: &io::Error) -> ConnectError {
    let program = &plan.config.cmd;
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            (Code::InvalidArgument, format!("fork/exec {program}: no such file or directory"))
        }
        io::ErrorKind::NotFound => (
            Code::InvalidArgument,
            format!("exec: \"{program}\": executable file not found in $PATH"),
        ),
        io::ErrorKind::PermissionDenied => {
            (Code::InvalidArgument, format!("fork/exec {program}: permission denied"))
        }
        io::ErrorKind::ArgumentListTooLong => {
            (Code::InvalidArgument, format!("fork/exec {program}: argument list too long"))
        }
        // The sandbox's limit of processes or of memory.
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            (Code::ResourceExhausted, format!("fork/exec {program}: {error}"))
        }
        _ => (Code::Internal, format!("fork/exec {program}: {error}")),
    };
    ConnectError::new(code, format!("error starting process '{program}': {why}"))
}

/// Both ends of a command's input and output.
struct Ends {
    stdio: [OwnedFd; 3],
    terminal: Option<OwnedFd>,
    input: Input,
    sources: Vec<Source>,
}

impl Ends {
    fn pipes(stdin: bool) -> io::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (input, theirs_in) = if stdin {
            let (theirs, ours) = rustix::pipe::pipe_with(flags)?;
            (Input::Pipe(Mutex::new(Some(pipe::Sender::from_owned_fd(ours)?))), theirs)
        } else {
            (Input::Null, File::open("/dev/null")?.into())
        };
        let (stdout, theirs_out) = rustix::pipe::pipe_with(flags)?;
        let (stderr, theirs_err) = rustix::pipe::pipe_with(flags)?;
        let sources = vec![
            Source::Stdout(pipe::Receiver::from_owned_fd(stdout)?),
            Source::Stderr(pipe::Receiver::from_owned_fd(stderr)?),
        ];
        Ok(Self { stdio: [theirs_in, theirs_out, theirs_err], terminal: None, input, sources })
    }

    fn terminal(pty: &Pty, user: &User) -> io::Result<Self> {
        let (ours, theirs) = Terminal::open(pty.size.as_ref())?;
        terminal::give(&theirs, user.uid, user.gid);
        let ours = Arc::new(ours);
        let stdio = [theirs.try_clone()?, theirs.try_clone()?, theirs.try_clone()?];
        let sources = vec![Source::Terminal(Arc::clone(&ours))];
        Ok(Self { stdio, terminal: Some(theirs), input: Input::Terminal(ours), sources })
    }
}
