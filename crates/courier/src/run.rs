//! `courier run`.

use std::process::ExitCode;

use crate::config::Config;

/// Flags of `courier run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `courier run`.
pub(crate) async fn run(_args: Args, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`courier run` is not in this build")
}
