//! The table of SDK versions, as a command.

use std::process::Command;

use anyhow::{Context, bail};

/// Builds what is tested, runs every version against it and writes `docs/sdk-versions.md`.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    if let [first, ..] = arguments {
        bail!("sdks takes no arguments, not {first:?}");
    }
    cargo(&["build", "--workspace", "--bins"])?;
    cargo(&["run", "--package", "courier-tests", "--example", "sdk_versions"])
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new(env!("CARGO")).args(arguments).status().context("cargo did not start")?;
    if !status.success() {
        bail!("cargo {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}
