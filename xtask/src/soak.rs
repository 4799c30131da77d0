//! The long soak, as a command: the same test as in the normal run, with more sandboxes.

use std::process::Command;

use anyhow::{Context, bail};

/// How many sandboxes the soak makes when nobody says.
const DEFAULT_COUNT: &str = "1000";

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let count = match arguments {
        [] => DEFAULT_COUNT,
        ["--count", count] => count,
        other => bail!("soak takes only --count N, not {other:?}"),
    };
    let count: u32 = count.parse().with_context(|| format!("{count:?} is no number"))?;
    let status = Command::new(env!("CARGO"))
        .args(["test", "--package", "courier-tests", "--test", "soak", "--", "--nocapture"])
        .env("COURIER_SOAK_COUNT", count.to_string())
        .status()
        .context("cargo test did not start")?;
    if !status.success() {
        bail!("the soak failed: {status}");
    }
    Ok(())
}
