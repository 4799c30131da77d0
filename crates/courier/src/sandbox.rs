//! `courier sandbox`.

use std::process::ExitCode;

use crate::config::Config;

/// Flags of `courier sandbox`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `courier sandbox`.
pub(crate) async fn run(_args: Args, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`courier sandbox` is not in this build")
}
