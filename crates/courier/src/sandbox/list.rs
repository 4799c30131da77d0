//! `courier sandbox ls`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use courier_protocol::v1::{Sandbox, SandboxList, SandboxState};
use courier_types::Timestamp;

use crate::api::{Api, ApiError};
use crate::{duration, output};

/// Pages that are read before the list is cut: 100 sandboxes each.
const MAX_PAGES: usize = 1_000;

/// Flags of `courier sandbox ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print ids only
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

/// Prints the sandboxes, newest first.
pub(crate) async fn run(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    let mut sandboxes = fetch(api).await?;
    sandboxes.retain(|sandbox| args.all || is_alive(sandbox.state));
    if args.json {
        output::line(&serde_json::to_string_pretty(&sandboxes)?)?;
    } else if args.quiet {
        for sandbox in &sandboxes {
            output::line(&sandbox.id)?;
        }
    } else {
        output::print(&table(&sandboxes, SystemTime::now().into()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every sandbox of the project that the server lists.
pub(crate) async fn fetch(api: &Api) -> Result<Vec<Sandbox>, ApiError> {
    let mut sandboxes = Vec::new();
    let mut path = "/v1/sandboxes".to_owned();
    for _page in 0..MAX_PAGES {
        let page: SandboxList = api.get(&path).await?;
        sandboxes.extend(page.sandboxes);
        let Some(next) = page.next_token else { break };
        path = format!("/v1/sandboxes?next_token={next}");
    }
    Ok(sandboxes)
}

/// True while there is something to kill.
pub(crate) const fn is_alive(state: SandboxState) -> bool {
    match state {
        SandboxState::Creating | SandboxState::Running | SandboxState::Killing => true,
        SandboxState::Killed | SandboxState::Error => false,
    }
}

fn table(sandboxes: &[Sandbox], now: Timestamp) -> String {
    let mut rows =
        vec![["ID", "TEMPLATE", "STATE", "AGE", "LEFT", "MEMORY", "CPUS"].map(str::to_owned)];
    for sandbox in sandboxes {
        let state = match (state_name(sandbox.state), sandbox.reason) {
            (state, Some(reason)) => format!("{state} ({reason})"),
            (state, None) => state.to_owned(),
        };
        rows.push([
            sandbox.id.clone(),
            sandbox.template.clone(),
            state,
            since(&sandbox.created_at, |created| now.since(created)),
            match is_alive(sandbox.state) {
                true => since(&sandbox.end_at, |end| end.since(now)),
                false => String::new(),
            },
            sandbox.limits.memory_mib.map_or_else(String::new, |mib| format!("{mib} MiB")),
            sandbox.limits.cpu_millis.map_or_else(String::new, cores),
        ]);
    }
    crate::table::text(&rows)
}

fn since(time: &str, span: impl Fn(Timestamp) -> Duration) -> String {
    Timestamp::from_rfc3339(time)
        .map(|time| duration::show(Duration::from_secs(span(time).as_secs())))
        .unwrap_or_default()
}

fn cores(millis: u64) -> String {
    match (millis / 1000, millis % 1000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
    }
}

const fn state_name(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Creating => "creating",
        SandboxState::Running => "running",
        SandboxState::Killing => "killing",
        SandboxState::Killed => "killed",
        SandboxState::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courier_types::{EndReason, Limits};

    fn sandbox(id: &str, state: SandboxState, reason: Option<EndReason>) -> Sandbox {
        Sandbox {
            id: id.into(),
            template_id: "t".into(),
            template: "base".into(),
            state,
            reason,
            detail: None,
            isolation: "fake".into(),
            limits: Limits::default().into(),
            metadata: std::collections::BTreeMap::new(),
            created_at: "2026-01-01T00:00:00Z".into(),
            started_at: None,
            end_at: "2026-01-01T00:05:00Z".into(),
            ended_at: None,
            usage: None,
            access_token: None,
            domain: None,
        }
    }

    #[test]
    fn the_table_shows_state_reason_age_and_time_left() {
        let sandboxes = [
            sandbox("i0000000000000000000a", SandboxState::Running, None),
            sandbox("i0000000000000000000b", SandboxState::Error, Some(EndReason::Memory)),
        ];
        let now = Timestamp::from_rfc3339("2026-01-01T00:01:30Z").unwrap();
        insta::assert_snapshot!(table(&sandboxes, now));
    }
}
