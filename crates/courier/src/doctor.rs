//! `courier doctor`: what this machine has, which isolation follows, and what mends what is missing.

mod check;
mod host;
mod kernel;
mod leaks;
mod ours;
mod outside;
mod software;

use std::process::{Command, ExitCode};

use anyhow::bail;

use self::check::{Check, Report};
use self::host::Host;
use crate::config::Config;
use crate::config::outside::OutsideArgs;

/// Exit code when something that is needed is missing, or when something has leaked.
const NOT_WELL: u8 = 1;

/// Flags of `courier doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the commands that mend what is missing (needs root)
    #[arg(long)]
    fix: bool,
    /// List what is left of sandboxes that nobody owns (needs root)
    #[arg(long, conflicts_with = "fix")]
    leaks: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Json,
}

/// Runs `courier doctor`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let form = if args.json { Form::Json } else { Form::Text };
    if args.leaks {
        return leaks::report(config, form).await;
    }
    let outside = OutsideArgs::of_environment()?;
    let mut report = examine(config, &outside).await;
    if args.fix {
        report = fix(report, config, &outside).await?;
    }
    match form {
        Form::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Form::Text => print!("{}", report.text()),
    }
    Ok(match report.isolation {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(NOT_WELL),
    })
}

async fn examine(config: &Config, outside: &OutsideArgs) -> Report {
    let host = Host::this();
    let mut checks = kernel::checks(&host);
    checks.push(kernel::making_namespaces());
    checks.extend(software::checks(&host));
    checks.extend(ours::checks(config));
    checks.extend(outside::checks(&host, outside).await);
    Report::of(checks)
}

/// Runs every command that mends something, then looks again. What fails is told and does not keep
/// the others from being mended.
async fn fix(report: Report, config: &Config, outside: &OutsideArgs) -> anyhow::Result<Report> {
    let to_mend: Vec<&Check> = report.to_mend().collect();
    if to_mend.is_empty() {
        return Ok(report);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("mending needs root: run `sudo courier doctor --fix`");
    }
    let mut done: Vec<&String> = Vec::new();
    for check in to_mend {
        for command in &check.mend {
            // Package lists, for one, are fetched for the first package that is missing only.
            if done.contains(&command) {
                continue;
            }
            done.push(command);
            eprintln!("courier: {}: $ {command}", check.name);
            if let Err(error) = mend(command) {
                eprintln!("courier: {}: {error:#}", check.name);
                break;
            }
        }
    }
    Ok(examine(config, outside).await)
}

/// Runs one command as a person would have typed it, without questions.
fn mend(command: &str) -> anyhow::Result<()> {
    // The report is on standard output; what the commands say is beside it.
    let output = std::io::stderr();
    let output = rustix::io::fcntl_dupfd_cloexec(&output, 0)?;
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .stdout(output)
        .status()?;
    if !status.success() {
        bail!("that failed ({status})");
    }
    Ok(())
}

/// Where a program is on this machine, if it is installed.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    Host::this().program(name)
}
