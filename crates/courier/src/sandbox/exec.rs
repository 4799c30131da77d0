//! `courier sandbox exec`.

use std::process::ExitCode;
use std::time::Duration;

use courier_client::{ClientError, GuestClient};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_types::SandboxId;

use super::{remote, terminal};
use crate::api::Api;
use crate::attend::{self, AttendError, PassThrough};
use crate::config::Config;
use crate::{duration, exit, pairs};

/// What programs in a terminal are told it is, when ours does not say.
const DEFAULT_TERM: &str = "xterm-256color";

/// Flags of `courier sandbox exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// User inside
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
    /// Folder to start in [default: the user's home]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Environment of the command
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    env: Vec<(String, String)>,
    /// Pass our standard input on
    #[arg(long, short)]
    interactive: bool,
    /// Run it in a terminal
    #[arg(long, short)]
    tty: bool,
    /// Kill it after this time: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
}

/// Runs a command; our exit code is the command's.
pub(crate) async fn run(args: Args, api: &Api, config: &Config) -> anyhow::Result<ExitCode> {
    let guest = remote::open(api, &args.id).await?.as_user(args.user.as_deref());
    let mut words = args.command.into_iter();
    let mut envs = pairs::map(args.env);
    if args.tty {
        let (name, value) = terminal_env(config);
        envs.entry(name).or_insert(value);
    }
    let process = ProcessConfig {
        cmd: words.next().unwrap_or_default(),
        args: words.collect(),
        envs,
        cwd: args.cwd,
    };
    if args.tty {
        return in_terminal(api, &args.id, &guest, process).await;
    }
    let request = StartRequest {
        process: Some(process),
        pty: None,
        tag: None,
        stdin: Some(args.interactive),
    };
    let input = args.interactive.then(tokio::io::stdin);
    let mut sink = PassThrough::new();
    match attend::attend(&guest, &request, args.timeout, input, &mut sink).await {
        Ok(ended) => Ok(exit::of_command(&ended)),
        Err(AttendError::NoReader) => Ok(ExitCode::from(exit::NO_READER)),
        Err(AttendError::Client(error)) => failed(error, api, &args.id).await,
        Err(error @ AttendError::Output(_)) => Err(error.into()),
    }
}

/// The kind of our terminal, for programs inside.
pub(crate) fn terminal_env(config: &Config) -> (String, String) {
    let term = config.term.clone().unwrap_or_else(|| DEFAULT_TERM.to_owned());
    ("TERM".to_owned(), term)
}

/// Runs a command in a terminal; our exit code is the command's.
pub(crate) async fn in_terminal(
    api: &Api,
    id: &SandboxId,
    guest: &GuestClient,
    process: ProcessConfig,
) -> anyhow::Result<ExitCode> {
    match terminal::session(guest, process).await {
        Ok(terminal::Session::Ended(ended)) => Ok(exit::of_command(&ended)),
        Ok(terminal::Session::Signalled(signal)) => Ok(exit::of_signal(signal)),
        Err(error) => match error.downcast::<ClientError>() {
            Ok(error) => failed(error, api, id).await,
            Err(other) => Err(other),
        },
    }
}

async fn failed(error: ClientError, api: &Api, id: &SandboxId) -> anyhow::Result<ExitCode> {
    if error.refusal() == Some(courier_client::Refusal::TimedOut) {
        eprintln!("courier: killed: timeout");
        return Ok(ExitCode::from(exit::TIMEOUT));
    }
    Err(remote::explain_call(error, api, id).await)
}
