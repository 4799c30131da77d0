//! `courier bench interpreter`: `runCode("1+1")`, in a fresh sandbox and in a running context, beside
//! the same through a bare kernel.
//!
//! The bare kernel is one more of the same sandbox, which Jupyter's own client starts and speaks to
//! inside: the difference is what the interpreter, the port proxy and the way between them cost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use courier_client::{Event, Events};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::samples::{Results, Samples};
use super::service::{Measured, Service};
use super::{Args, TURN, WARM_UP, unless_interrupted};
use crate::config::Config;
use crate::template;

/// The template.
const TEMPLATE: &str = "code-interpreter-v1";
/// Where the interpreter listens inside.
const PORT: u16 = 49_999;
/// What is run.
const CODE: &str = "1+1";
/// What runs the bare kernel's client.
const PYTHON: &str = "/usr/bin/python3";
/// The client.
const PROGRAM: &str = include_str!("interpreter.py");
/// Longest answer to [`CODE`].
const MAX_ANSWER_BYTES: usize = 64 * 1_024;
/// Longest turn of the bare kernel's client.
const DEADLINE: Duration = Duration::from_secs(120);

/// Measures it.
pub(super) async fn measure(args: &Args, config: &Config) -> anyhow::Result<Results> {
    template::ensure(config, TEMPLATE).await?;
    let service = Service::start(config, &[]).await?;
    let measured = unless_interrupted(executions(&service, args.runs)).await;
    let stopped = service.stop().await;
    let results = measured?;
    stopped.context("the measured server was not ended cleanly")?;
    Ok(results)
}

/// Figures of both sides.
#[derive(Default)]
struct Figures {
    first: Samples,
    running: Samples,
    bare_first: Samples,
    bare_running: Samples,
}

/// Each run has a sandbox of its own, in which both sides take their turns.
async fn executions(service: &Service, runs: u32) -> anyhow::Result<Results> {
    let mut results = Results::new(service.technology().await?)?;
    let mut figures = Figures::default();
    let bar = ProgressBar::new(u64::from(runs + 1));
    // The first warms up.
    for run in 0..=runs {
        let mut turn = Figures::default();
        let started = Instant::now();
        let sandbox = service.create_of(TEMPLATE).await?;
        let mut context = Context::connect(service, &sandbox).await?;
        context.run().await?;
        turn.first.add(started.elapsed());
        for execution in 0..WARM_UP + TURN {
            let started = Instant::now();
            context.run().await?;
            turn.running.add_warm(execution, started.elapsed());
        }
        let bare = tokio::time::timeout(DEADLINE, bare_kernel(&sandbox, &mut turn));
        bare.await.context("the bare kernel takes too long")??;
        service.kill(&sandbox).await?;
        if run > 0 {
            figures.first.append(turn.first);
            figures.running.append(turn.running);
            figures.bare_first.append(turn.bare_first);
            figures.bare_running.append(turn.bare_running);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    tell(&figures, &mut results);
    Ok(results)
}

fn tell(figures: &Figures, results: &mut Results) {
    let floors = ["start a bare kernel, to the first 1+1", "1+1 in a bare kernel"];
    let [start, running] = floors;
    results.add(start, &figures.bare_first, &[]);
    results.add("create a sandbox, to the first runCode(1+1)", &figures.first, &[start]);
    results.add(running, &figures.bare_running, &[]);
    results.add("runCode(1+1) in a running context", &figures.running, &[running]);
    if let (Some(ours), Some(bare)) = (figures.running.summary(), figures.bare_running.summary()) {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        results.remarks.push(format!(
            "a running context takes {:.2} ms more at the median than a bare kernel",
            millis(ours.p50_us) - millis(bare.p50_us)
        ));
    }
}

/// The default context of a sandbox, over one connection that stays, as the SDKs' does.
struct Context {
    sender: http1::SendRequest<Full<Bytes>>,
    sandbox: String,
    _connection: AbortOnDropHandle<hyper::Result<()>>,
}

impl Context {
    async fn connect(service: &Service, sandbox: &Measured) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(service.address()).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Self { sender, sandbox: sandbox.id.clone(), _connection: connection })
    }

    /// Runs the code to the answer's last byte.
    async fn run(&mut self) -> anyhow::Result<()> {
        let request = Request::post("/execute")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("e2b-sandbox-id", &self.sandbox)
            .header("e2b-sandbox-port", PORT)
            .body(Full::from(json!({ "code": CODE }).to_string()))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        if status == StatusCode::OK && body.split(|byte| *byte == b'\n').any(is_result) {
            return Ok(());
        }
        bail!("the answer is {:?}", crate::output::printable(&String::from_utf8_lossy(&body)))
    }
}

fn is_result(line: &[u8]) -> bool {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    event.get("text").and_then(Value::as_str) == Some("2")
}

/// The same executions through a kernel of their own inside.
async fn bare_kernel(sandbox: &Measured, figures: &mut Figures) -> anyhow::Result<()> {
    let (warm_up, runs) = (WARM_UP.to_string(), TURN.to_string());
    let arguments = vec!["-c".to_owned(), PROGRAM.to_owned(), warm_up, runs];
    let printed = output(sandbox.start(PYTHON, arguments).await?).await?;
    let mut times = Vec::new();
    for line in printed.lines() {
        times.push(Duration::from_micros(line.parse()?));
    }
    match times.as_slice() {
        [first, others @ ..] if others.len() == usize::try_from(TURN)? => {
            figures.bare_first.add(*first);
            others.iter().for_each(|time| figures.bare_running.add(*time));
            Ok(())
        }
        _ => bail!("the bare kernel's client printed {} times", times.len()),
    }
}

/// All that a program prints, to its end.
async fn output(mut events: Events) -> anyhow::Result<String> {
    let (mut text, mut errors) = (Vec::new(), Vec::new());
    while let Some(event) = events.next().await? {
        match event {
            Event::Stdout(more) => text.extend_from_slice(&more),
            Event::Stderr(more) => errors.extend_from_slice(&more),
            Event::Started { .. } | Event::Pty(_) => {}
            Event::Ended(end) if end.exit_code == Some(0) => break,
            Event::Ended(end) => bail!(
                "the bare kernel's client failed ({}): {}",
                end.status,
                crate::output::printable(&String::from_utf8_lossy(&errors))
            ),
        }
    }
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_result_of_the_code_counts_as_one() {
        assert!(is_result(br#"{"type":"result","is_main_result":true,"text":"2"}"#));
        assert!(!is_result(br#"{"type":"stdout","text":"3","timestamp":1}"#));
        assert!(!is_result(br#"{"type":"end_of_execution"}"#) && !is_result(b""));
    }

    #[test]
    fn what_is_more_than_a_bare_kernel_takes_is_told() {
        let mut figures = Figures::default();
        for (samples, millis) in [(&mut figures.running, 7), (&mut figures.bare_running, 4)] {
            samples.add(Duration::from_millis(millis));
        }
        let mut results = Results::new("fake".to_owned()).unwrap();
        tell(&figures, &mut results);
        assert!(results.remarks[0].contains("3.00 ms more"), "{:?}", results.remarks);
    }
}
