//! `courier tunnel`: the private tunnels that policies may name.

use std::process::ExitCode;
use std::time::Duration;

use courier_protocol::v1::{Tunnel, TunnelBy, TunnelList};
use courier_types::Timestamp;

use crate::api::Api;
use crate::config::Config;
use crate::{duration, output, table};

/// Flags of `courier tunnel`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the private tunnels that a policy may name
    Ls(ListArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `courier tunnel`.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    crate::log::start(config, crate::config::LOG_COMMAND)?;
    let Command::Ls(args) = args.command;
    let list: TunnelList = Api::find(config)?.get("/v1/tunnels").await?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&list.tunnels)?)?;
    } else {
        output::print(&text(&list.tunnels, std::time::SystemTime::now().into()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(tunnels: &[Tunnel], now: Timestamp) -> String {
    let mut rows = vec![["NAME", "INSIDE", "BY", "STATE", "SINCE"].map(str::to_owned)];
    for tunnel in tunnels {
        let since = tunnel.since.as_deref().and_then(Timestamp::from_rfc3339);
        rows.push([
            output::printable_name(&tunnel.name),
            output::printable_name(&format!("{}:{}", tunnel.host, tunnel.port)),
            match tunnel.kind {
                TunnelBy::Node => "server",
                TunnelBy::Connector => "connector",
            }
            .to_owned(),
            if tunnel.connected { "connected" } else { "away" }.to_owned(),
            since.map_or_else(String::new, |since| {
                duration::show(Duration::from_secs(now.since(since).as_secs()))
            }),
        ]);
    }
    table::text(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_who_leads_there_and_whether_anybody_does() {
        let tunnel = |name: &str, kind, connected, since: Option<&str>| Tunnel {
            name: name.into(),
            host: format!("{name}.tunnel.internal"),
            port: 5_432,
            kind,
            connected,
            since: since.map(Into::into),
        };
        let tunnels = [
            tunnel("db", TunnelBy::Node, true, None),
            tunnel("mine", TunnelBy::Connector, false, Some("2026-01-01T00:00:00Z")),
        ];
        let now = Timestamp::from_rfc3339("2026-01-01T00:05:00Z").unwrap();
        insta::assert_snapshot!(text(&tunnels, now), @r"
        NAME  INSIDE                     BY         STATE      SINCE
        db    db.tunnel.internal:5432    server     connected
        mine  mine.tunnel.internal:5432  connector  away       5m
        ");
    }
}
