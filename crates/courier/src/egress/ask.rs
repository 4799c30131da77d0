//! `courier egress show`, `set` and `explain`.

use std::path::PathBuf;
use std::process::ExitCode;

use courier_protocol::v1::Egress;
use courier_types::SandboxId;
use courier_types::egress::{ExplainRequest, Explanation, Protocol};

use super::policy_text::PolicyFile;
use super::text;
use crate::api::{Api, ApiError};
use crate::output;
use crate::sandbox;

/// Exit code of `explain` where something is refused.
const REFUSED: u8 = 1;

/// Flags of `courier egress show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Which
    #[arg(value_name = "SANDBOX")]
    id: SandboxId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `courier egress set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// Which
    #[arg(value_name = "SANDBOX")]
    id: SandboxId,
    /// The policy, a JSON file, or - for standard input. It takes the place of the sandbox's own;
    /// the template's stays. Connections that it does not allow end within a second
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print what is in force then as JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `courier egress explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 when it is allowed, 1 when it is refused, 125 when that is \
                        not known.")]
pub(crate) struct ExplainArgs {
    /// Which
    #[arg(value_name = "SANDBOX")]
    id: SandboxId,
    /// What it would reach: a name or an IPv4 address [default port: 80 for http, else 443]
    #[arg(value_name = "HOST[:PORT]", value_parser = place)]
    place: (String, Option<u16>),
    /// What would be spoken: http, https or tcp [default: https]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Option<Protocol>,
    /// Method of the request [default: GET]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Path of the request [default: /]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is in force for a sandbox.
pub(crate) async fn in_force(api: &Api, id: &SandboxId) -> anyhow::Result<Egress> {
    let answer = api.get(&format!("/v1/sandboxes/{id}/egress")).await;
    answer.map_err(|error| sandbox::explain(error, id))
}

/// Prints the layers in force.
pub(crate) async fn show(args: &ShowArgs, api: &Api) -> anyhow::Result<ExitCode> {
    print(&in_force(api, &args.id).await?, args.json)
}

/// Replaces the sandbox's own policy and prints what is in force then.
pub(crate) async fn set(args: &SetArgs, api: &Api) -> anyhow::Result<ExitCode> {
    let file = PolicyFile::read(&args.file)?;
    let path = format!("/v1/sandboxes/{}/egress", args.id);
    let answer: Result<Egress, ApiError> = api.put(&path, &file.policy).await;
    print(&answer.map_err(|error| sandbox::explain(error, &args.id))?, args.json)
}

fn print(egress: &Egress, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::line(&serde_json::to_string_pretty(egress)?)?;
    } else {
        output::print(&text::shown(egress))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints which rule decides, and why.
pub(crate) async fn explain(args: ExplainArgs, api: &Api) -> anyhow::Result<ExitCode> {
    let ExplainArgs { id, place: (host, port), protocol, method, path, json } = args;
    let request = ExplainRequest { host, port, protocol, method, path };
    let answer = api.post(&format!("/v1/sandboxes/{id}/egress/explain"), &request).await;
    let explanation: Explanation = answer.map_err(|error| sandbox::explain(error, &id))?;
    if json {
        output::line(&serde_json::to_string_pretty(&explanation)?)?;
    } else {
        output::print(&text::explained(&explanation))?;
    }
    Ok(if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// Reads `HOST[:PORT]`.
fn place(text: &str) -> Result<(String, Option<u16>), String> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((host, port)) => match port.parse() {
            Ok(port) => Ok((host.to_owned(), Some(port))),
            Err(_no_port) => Err("write HOST or HOST:PORT".to_owned()),
        },
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "http" => Ok(Protocol::Http),
        "https" => Ok(Protocol::Https),
        "tcp" => Ok(Protocol::Tcp),
        _ => Err("it is one of http, https and tcp".to_owned()),
    }
}
