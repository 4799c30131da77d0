//! `courier template`.

use std::process::ExitCode;

use crate::config::Config;

/// Flags of `courier template`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `courier template`.
pub(crate) async fn run(_args: Args, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`courier template` is not in this build")
}

/// Makes sure that template `base` is there; builds it, with a progress bar, when it is not.
pub(crate) async fn ensure_base(_config: &Config) -> anyhow::Result<()> {
    anyhow::bail!("template `base` cannot be built by this build of `courier`")
}
