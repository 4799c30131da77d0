//! What sandboxes may reach: `courier egress`, and the flags of the commands that make sandboxes.

mod ask;
mod flows;
mod learn;
mod line;
mod local;
mod log;
mod policy_text;
mod text;
mod wish;

use std::process::ExitCode;

pub(crate) use self::flows::Seen;
pub(crate) use self::local::Granted;
pub(crate) use self::text::brief;
pub(crate) use self::wish::{EgressArgs, Wish, secret, secret_env};
use crate::api::Api;
use crate::config::Config;

/// What `courier egress --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier egress show ID
  courier egress explain ID api.example.com --method POST --path /v1/models
  courier egress log ID -f
  courier egress learn ID | patch egress.json && courier egress set ID egress.json";

/// Flags of `courier egress`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what a sandbox may reach
    Show(ask::ShowArgs),
    /// Replace what a sandbox may reach, while it runs
    Set(ask::SetArgs),
    /// Say whether a sandbox may reach something, and which rule decides
    Explain(ask::ExplainArgs),
    /// Show what a sandbox reached, and what it was refused
    Log(log::Args),
    /// Propose the smallest policy that would have allowed what was refused, as a diff
    Learn(learn::Args),
}

/// Runs `courier egress`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    crate::log::start(config, crate::config::LOG_COMMAND)?;
    let api = Api::find(config)?;
    match args.command {
        Command::Show(args) => ask::show(&args, &api).await,
        Command::Set(args) => ask::set(&args, &api).await,
        Command::Explain(args) => ask::explain(args, &api).await,
        Command::Log(args) => log::run(&args, &api).await,
        Command::Learn(args) => learn::run(&args, &api, config).await,
    }
}
