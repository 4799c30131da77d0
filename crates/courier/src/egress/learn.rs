//! `courier egress learn`.

use std::process::ExitCode;

use anyhow::Context as _;
use courier_egress::policy::propose;
use courier_protocol::v1::Proposal;
use courier_types::SandboxId;
use courier_types::egress::{LayerSource, Layers, Policy};

use super::ask::in_force;
use super::flows::Seen;
use super::policy_text::{PolicyFile, pretty};
use crate::api::Api;
use crate::config::Config;
use crate::output;
use crate::sandbox;
use crate::template;

/// Flags of `courier egress learn`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "SANDBOX")]
    id: SandboxId,
    /// Compare with the policy of this template instead of the sandbox's own
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Print the whole proposed policy instead of a diff
    #[arg(long)]
    whole: bool,
}

/// Prints a proposal.
pub(crate) async fn run(args: &Args, api: &Api, config: &Config) -> anyhow::Result<ExitCode> {
    let layers = in_force(api, &args.id).await?.layers;
    if !layers.0.iter().any(|layer| layer.policy.learn) {
        eprintln!(
            "courier: learning is off (\"learn\": true in the policy): of names that were refused \
             it is not known what was wanted there"
        );
    }
    let (file, proposal) = match &args.template {
        Some(name) => of_template(name, api, (config, &args.id)).await?,
        None => {
            let path = format!("/v1/sandboxes/{}/egress/proposal", args.id);
            let proposal = api.get(&path).await;
            let proposal = proposal.map_err(|error| sandbox::explain(error, &args.id))?;
            (PolicyFile::named(&format!("egress of {}", args.id), innermost(layers)), proposal)
        }
    };
    let Proposal { policy, missed } = proposal;
    if missed > 0 {
        eprintln!("courier: {missed} records fell out of the log before they were looked at");
    }
    match file.diff(&policy) {
        _ if args.whole => output::print(&output::printable(&pretty(&policy)))?,
        Some(diff) => output::print(&output::printable(&diff))?,
        None => eprintln!("courier: nothing was refused that a rule could allow"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A template's policy, and what it would have to be.
async fn of_template(
    name: &str,
    api: &Api,
    (config, id): (&Config, &SandboxId),
) -> anyhow::Result<(PolicyFile, Proposal)> {
    let template = template::list(config)?.into_iter().find(|template| template.name == name);
    let template = template
        .with_context(|| format!("there is no template {name:?}: see `courier template ls`"))?;
    let file_name = format!("templates/{name}/egress.json");
    let file = match template.egress {
        Some(policy) => PolicyFile::named(&file_name, policy),
        None => PolicyFile::none_yet(&file_name),
    };
    let seen = Seen::of_server(api, id).await.map_err(|error| sandbox::explain(error, id))?;
    let policy = propose(&seen.flows, &file.policy);
    Ok((file, Proposal { policy, missed: seen.missed }))
}

/// The policy that the server's proposal adds to: the sandbox's own, or else the template's.
fn innermost(layers: Layers) -> Policy {
    let mut layers = layers.0;
    let own = layers.iter().position(|layer| layer.source == LayerSource::Sandbox);
    let at = own.or_else(|| layers.len().checked_sub(1));
    at.map(|at| layers.swap_remove(at).policy).unwrap_or_default()
}
