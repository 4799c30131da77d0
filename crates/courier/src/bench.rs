//! `courier bench`.

use std::process::ExitCode;

use crate::config::Config;

/// Flags of `courier bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `courier bench`.
pub(crate) async fn run(_args: Args, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`courier bench` is not in this build")
}
