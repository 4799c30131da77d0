//! `courier sandbox new`.

use std::process::ExitCode;
use std::time::Duration;

use courier_protocol::e2b::VolumeMount;
use courier_protocol::v1::{EnvValue, NewSandbox, Sandbox};
use courier_types::DurationMs;
use courier_types::egress::SecretName;

use crate::api::Api;
use crate::egress::{EgressArgs, secret, secret_env};
use crate::limits::LimitArgs;
use crate::{config, duration, output, pairs, volume};

/// Flags of `courier sandbox new`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Template to start from
    #[arg(long, value_name = "NAME[:TAG]", default_value = config::TEMPLATE)]
    template: String,
    /// How long it lives, whoever still uses it: 30s, 5m, 1h30m
    #[arg(long, value_name = "TIME", default_value = config::SANDBOX_TIMEOUT, value_parser = duration::parse)]
    timeout: Duration,
    /// Environment of every command inside
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    env: Vec<(String, String)>,
    /// What to find it by
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    metadata: Vec<(String, String)>,
    /// Print all there is to know of it, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    egress: EgressArgs,
    /// Put a token for secret NAME into variable ENV of every command. It is exchanged for the value
    /// where a credential of the policy says so, and ends with the sandbox
    #[arg(long, value_name = "ENV=NAME", value_parser = secret, help_heading = "What it may reach")]
    secret: Vec<(String, SecretName)>,
    /// Mount a volume of the server; may be repeated
    #[arg(long, value_name = "NAME:PATH", value_parser = volume::mount)]
    volume: Vec<VolumeMount>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Makes a sandbox and prints its id.
pub(crate) async fn run(args: Args, api: &Api) -> anyhow::Result<ExitCode> {
    let texts = args.env.into_iter().map(|(name, text)| (name, EnvValue::from(text)));
    let request = NewSandbox {
        template: Some(args.template),
        limits: args.limits.body()?,
        timeout_ms: Some(DurationMs::from(args.timeout).0),
        env: texts.chain(secret_env(&args.secret, args.timeout)).collect(),
        egress: args.egress.read()?.policy,
        metadata: pairs::map(args.metadata),
        volumes: args.volume,
        isolation: None,
    };
    let sandbox: Sandbox = api.post("/v1/sandboxes", &request).await?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&sandbox)?)?;
    } else {
        output::line(&sandbox.id)?;
    }
    Ok(ExitCode::SUCCESS)
}
