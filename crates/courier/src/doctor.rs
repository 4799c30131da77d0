//! `courier doctor`.

use std::process::ExitCode;

use crate::config::Config;

/// Flags of `courier doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `courier doctor`.
pub(crate) async fn run(_args: Args, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`courier doctor` is not in this build")
}
