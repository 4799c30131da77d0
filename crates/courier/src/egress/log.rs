//! `courier egress log`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use courier_protocol::v1::{FlowLine, FlowNotice};
use courier_types::SandboxId;
use futures_util::TryStreamExt as _;
use http_body_util::BodyDataStream;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use super::flows::Seen;
use super::line::{HEAD, line};
use crate::api::Api;
use crate::output::{self, Reader};
use crate::sandbox;

/// Longest line of the stream: a record's texts are bounded, all together far below this.
const MAX_LINE_BYTES: u64 = 256 * 1024;

/// Flags of `courier egress log`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_name = "SANDBOX")]
    id: SandboxId,
    /// Go on as more happens, until the sandbox ends
    #[arg(long, short)]
    follow: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Prints the flow log, oldest first.
pub(crate) async fn run(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    if args.follow {
        return follow(args, api).await;
    }
    let seen = Seen::of_server(api, &args.id).await;
    let seen = seen.map_err(|error| sandbox::explain(error, &args.id))?;
    let mut lines = Vec::new();
    if !args.json {
        lines.push(HEAD.to_owned());
    }
    if seen.missed > 0 {
        lines.push(told(&FlowLine::Notice(FlowNotice::Missed { count: seen.missed }), args.json)?);
    }
    for flow in seen.flows {
        lines.push(told(&FlowLine::Flow(flow), args.json)?);
    }
    output::print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

async fn follow(args: &Args, api: &Api) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/sandboxes/{}/egress/flows?follow=true", args.id);
    let body = api.stream(&path).await.map_err(|error| sandbox::explain(error, &args.id))?;
    let bytes = BodyDataStream::new(body).map_err(std::io::Error::other);
    let mut lines = StreamReader::new(bytes);
    if !args.json && output::offer(&format!("{HEAD}\n"))? == Reader::Gone {
        return Ok(ExitCode::from(crate::exit::NO_READER));
    }
    loop {
        let read = next(&mut lines).await?;
        match &read {
            FlowLine::Notice(FlowNotice::Alive) => continue,
            FlowLine::Notice(FlowNotice::Ended) => return Ok(ExitCode::SUCCESS),
            FlowLine::Notice(FlowNotice::Missed { .. }) | FlowLine::Flow(_) => {}
        }
        if output::offer(&format!("{}\n", told(&read, args.json)?))? == Reader::Gone {
            return Ok(ExitCode::from(crate::exit::NO_READER));
        }
    }
}

/// The next line of the stream.
async fn next(lines: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<FlowLine> {
    let mut text = Vec::new();
    let mut bounded = lines.take(MAX_LINE_BYTES);
    bounded.read_until(b'\n', &mut text).await.context("the flow log broke off")?;
    if text.is_empty() {
        bail!("the flow log broke off: the server has stopped");
    }
    serde_json::from_slice(&text).context("the server sent something that is no record")
}

fn told(line_of: &FlowLine, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(serde_json::to_string(line_of)?);
    }
    Ok(match line_of {
        FlowLine::Flow(flow) => line(flow),
        FlowLine::Notice(FlowNotice::Missed { count }) => {
            format!("({count} records fell out of the log)")
        }
        FlowLine::Notice(FlowNotice::Alive | FlowNotice::Ended) => String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_one_by_one_and_a_stream_that_breaks_off_says_so() {
        let text = "{\"event\":\"alive\"}\n{\"seq\":1,\"at\":7,\"event\":\"policy\",\"closed\":2}\n{\"seq\"";
        let mut lines = tokio::io::BufReader::new(text.as_bytes());
        let first = next(&mut lines).await.unwrap();
        assert_eq!(first, FlowLine::Notice(FlowNotice::Alive));
        assert!(matches!(next(&mut lines).await.unwrap(), FlowLine::Flow(_)));
        assert!(next(&mut lines).await.unwrap_err().to_string().contains("no record"));
        assert!(next(&mut lines).await.unwrap_err().to_string().contains("broke off"));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_kept() {
        let endless = tokio::io::repeat(b'x');
        let mut lines = tokio::io::BufReader::new(endless);
        assert!(next(&mut lines).await.is_err());
    }
}
