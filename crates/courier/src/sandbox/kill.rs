//! `courier sandbox kill`.

use std::process::ExitCode;

use courier_types::SandboxId;

use super::{list, remote};
use crate::api::Api;
use crate::{exit, output};

/// Flags of `courier sandbox kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<SandboxId>,
    /// Every one
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// Kills sandboxes; tells of each that could not be, and goes on with the others.
pub(crate) async fn run(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    let ids = if args.all {
        list::fetch(api)
            .await?
            .into_iter()
            .filter(|sandbox| list::is_alive(sandbox.state))
            .map(|sandbox| sandbox.id.parse())
            .collect::<Result<Vec<SandboxId>, _>>()?
    } else {
        args.ids.clone()
    };
    let mut code = ExitCode::SUCCESS;
    for id in &ids {
        match api.delete(&format!("/v1/sandboxes/{id}")).await {
            Ok(()) => output::line(id.as_str())?,
            // With --all, one that ended in the meantime is what was asked for.
            Err(error) if error.is_not_found() && args.all => {}
            Err(error) => {
                eprintln!("{}", exit::describe(&remote::explain(error, id)));
                code = ExitCode::from(exit::OURS);
            }
        }
    }
    Ok(code)
}
