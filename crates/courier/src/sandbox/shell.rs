//! `courier sandbox shell`.

use std::process::ExitCode;

use courier_protocol::envd::process::ProcessConfig;
use courier_types::SandboxId;

use super::{exec, remote};
use crate::api::Api;
use crate::config::Config;

/// Flags of `courier sandbox shell`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "ID")]
    id: SandboxId,
    /// User inside
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
    /// Folder to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
}

/// Opens a login shell in a terminal.
pub(crate) async fn run(args: &Args, api: &Api, config: &Config) -> anyhow::Result<ExitCode> {
    let guest = remote::open(api, &args.id).await?.as_user(args.user.as_deref());
    let process = ProcessConfig {
        cmd: "/bin/bash".to_owned(),
        args: vec!["-i".to_owned(), "-l".to_owned()],
        envs: [exec::terminal_env(config)].into(),
        cwd: args.cwd.clone(),
    };
    exec::in_terminal(api, &args.id, &guest, process).await
}
