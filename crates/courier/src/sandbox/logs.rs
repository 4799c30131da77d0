//! `courier sandbox logs`.

use std::process::ExitCode;

use courier_protocol::e2b::{LogEntry, LogLevel, SandboxLogsV2};
use courier_types::SandboxId;

use super::remote;
use crate::api::Api;
use crate::output;

/// Most lines of one call.
const MAX_LINES: u16 = 1_000;

/// Flags of `courier sandbox logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Prints what the server noted of a sandbox, oldest first.
pub(crate) async fn run(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    let path = format!("/v2/sandboxes/{}/logs?limit={MAX_LINES}&direction=forward", args.id);
    let logs: SandboxLogsV2 =
        api.get(&path).await.map_err(|error| remote::explain(error, &args.id))?;
    for entry in &logs.logs {
        if args.json {
            output::line(&serde_json::to_string(entry)?)?;
        } else {
            output::line(&line(entry))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Time, level, message and details on one line. What a guest wrote cannot steer the terminal.
fn line(entry: &LogEntry) -> String {
    let level = match entry.level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let mut line = format!("{} {level:5} {}", entry.timestamp, entry.message);
    for (name, value) in &entry.fields {
        line.push_str(&format!(" {name}={value}"));
    }
    output::printable(&line).replace('\n', " ")
}
