//! `courier sandbox`: the sandboxes of a running server, over its API.

mod copy;
mod exec;
mod kill;
mod list;
mod logs;
mod new;
mod open;
pub(crate) mod remote;
mod shell;
mod terminal;

use std::process::ExitCode;

pub(crate) use remote::{HttpTransport, explain, wait_for_end};

use crate::api::Api;
use crate::config::Config;

/// What `courier sandbox --help` ends with.
const EXAMPLES: &str = "\
Examples:
  ID=$(courier sandbox new --timeout 10m)
  courier sandbox cp data.csv $ID:data.csv
  courier sandbox exec $ID -- python3 -c 'print(open(\"data.csv\").read())'
  courier sandbox shell $ID
  courier sandbox open $ID 8080
  courier sandbox kill $ID";

/// Flags of `courier sandbox`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List sandboxes
    Ls(list::Args),
    /// Make a sandbox and print its id
    New(new::Args),
    /// Run a command in a sandbox
    Exec(exec::Args),
    /// Open a terminal in a sandbox
    Shell(shell::Args),
    /// Reach a port of a sandbox as one of this machine
    Open(open::Args),
    /// Copy files and folders into or out of a sandbox
    Cp(copy::Args),
    /// Show what happened to a sandbox
    Logs(logs::Args),
    /// Kill sandboxes
    Kill(kill::Args),
}

/// Runs `courier sandbox`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    crate::log::start(config, crate::config::LOG_COMMAND)?;
    let api = Api::find(config)?;
    match args.command {
        Command::Ls(args) => list::run(&args, &api).await,
        Command::New(args) => new::run(args, &api).await,
        Command::Exec(args) => exec::run(args, &api, config).await,
        Command::Shell(args) => shell::run(&args, &api, config).await,
        Command::Open(args) => open::run(&args, &api).await,
        Command::Cp(args) => copy::run(&args, &api).await,
        Command::Logs(args) => logs::run(&args, &api).await,
        Command::Kill(args) => kill::run(&args, &api).await,
    }
}
