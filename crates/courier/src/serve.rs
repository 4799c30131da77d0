//! `courier serve`.

use std::process::ExitCode;

use crate::config::Config;

use crate::config::serve::Args;

/// Runs `courier serve`.
pub(crate) async fn run(_args: Args, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`courier serve` is not in this build")
}
