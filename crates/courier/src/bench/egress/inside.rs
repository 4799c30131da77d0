//! The program inside a sandbox that measures: what it is told to do, and what it tells.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use courier_client::{Event, Events};
use serde::Serialize;

use crate::bench::service::Measured;

/// What runs the program; in the template `base`.
pub(super) const PYTHON: &str = "/usr/bin/python3";
/// The program.
const PROGRAM: &str = include_str!("inside.py");
/// Longest run of one order: minutes where a debug build moves all the bytes.
pub(super) const DEADLINE: Duration = Duration::from_secs(300);
/// More text than a program prints for any number of runs that can be asked for.
const OUTPUT_MAX: usize = 4 << 20;
/// What [`Order::go`] names.
pub(super) const GO: &str = "/tmp/bench-go";

/// One thing to measure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Job {
    /// The server's name.
    pub(super) host: &'static str,
    /// Its port.
    pub(super) port: u16,
    /// Whether TLS is spoken there.
    pub(super) tls: bool,
    /// Bytes of each answer's body.
    pub(super) bytes: u64,
    /// How often, each time over a connection of its own.
    pub(super) runs: u32,
    /// Not 0: as many connections are held open at once instead.
    pub(super) hold: u32,
}

/// Everything that one run of the program does.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Order {
    /// The authority to trust beside the system's, in PEM.
    pub(super) ca: String,
    /// The DNS server to use; `None` for the one that the sandbox has.
    pub(super) resolver: Option<Ipv4Addr>,
    /// What to measure.
    pub(super) jobs: Vec<Job>,
    /// The file whose making lets a program that holds connections go on.
    pub(super) go: &'static str,
}

/// How long the steps of one request took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phases {
    /// The name's address.
    pub(super) resolve: Duration,
    /// The TCP connection.
    pub(super) connect: Duration,
    /// The TLS handshake.
    pub(super) secure: Duration,
    /// From the request to the first bytes of the answer.
    pub(super) answer: Duration,
    /// The rest of the answer.
    pub(super) rest: Duration,
}

impl Phases {
    /// From the first packet of the connection to the first byte of the answer.
    pub(super) fn first_byte(self) -> Duration {
        self.connect + self.secure + self.answer
    }

    /// From the first packet of the connection to the last byte of the answer.
    pub(super) fn whole(self) -> Duration {
        self.first_byte() + self.rest
    }

    fn read(micros: &[u64]) -> anyhow::Result<Self> {
        let [resolve, connect, secure, answer, rest] = *micros else {
            bail!("the program inside told {} times of a request", micros.len());
        };
        let [resolve, connect, secure, answer, rest] =
            [resolve, connect, secure, answer, rest].map(Duration::from_micros);
        Ok(Self { resolve, connect, secure, answer, rest })
    }
}

impl Order {
    /// The arguments of [`PYTHON`].
    ///
    /// # Errors
    /// Never, in truth: an order is plain data.
    pub(super) fn arguments(&self) -> anyhow::Result<Vec<String>> {
        Ok(vec!["-c".to_owned(), PROGRAM.to_owned(), serde_json::to_string(self)?])
    }

    /// Carries it out in a sandbox of ours.
    ///
    /// # Errors
    /// The program failed, or the sandbox did.
    pub(super) async fn run(&self, sandbox: &Measured) -> anyhow::Result<Vec<Vec<Phases>>> {
        let mut running = Running::start(self, sandbox).await?;
        read(&running.line().await?)
    }
}

/// What an order without [`Job::hold`] printed: the requests of each job.
///
/// # Errors
/// It is something else.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Vec<Phases>>> {
    let jobs: Vec<Vec<Vec<u64>>> = serde_json::from_str(text).with_context(|| {
        format!("the program inside printed {:?}", crate::output::printable(text))
    })?;
    jobs.iter().map(|runs| runs.iter().map(|run| Phases::read(run)).collect()).collect()
}

/// A program in a sandbox of ours.
pub(super) struct Running<'a> {
    sandbox: &'a Measured,
    events: Events,
    text: Vec<u8>,
}

impl<'a> Running<'a> {
    /// Starts it.
    ///
    /// # Errors
    /// The sandbox refuses.
    pub(super) async fn start(order: &Order, sandbox: &'a Measured) -> anyhow::Result<Self> {
        let events = sandbox.start(PYTHON, order.arguments()?).await?;
        Ok(Self { sandbox, events, text: Vec::new() })
    }

    /// Its next line of output.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub(super) async fn line(&mut self) -> anyhow::Result<String> {
        let line = tokio::time::timeout(DEADLINE, self.next_line()).await;
        line.context("the program inside takes too long")?
    }

    async fn next_line(&mut self) -> anyhow::Result<String> {
        let mut errors = Vec::new();
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line = self.text.drain(..=end).collect();
                return Ok(String::from_utf8(line)?);
            }
            match self.events.next().await? {
                Some(Event::Stdout(more)) => self.text.extend_from_slice(&more),
                Some(Event::Stderr(more)) => errors.extend_from_slice(&more),
                Some(Event::Started { .. } | Event::Pty(_)) => {}
                Some(Event::Ended(_)) | None => {
                    let errors = crate::output::printable(&String::from_utf8_lossy(&errors));
                    bail!("the program inside failed: {}", errors.trim_end());
                }
            }
            if self.text.len() + errors.len() > OUTPUT_MAX {
                bail!("the program inside printed too much");
            }
        }
    }

    /// Lets a program that holds connections go on, and tells how long it then took.
    ///
    /// # Errors
    /// Some connection did not answer.
    pub(super) async fn go_on(mut self) -> anyhow::Result<Duration> {
        self.sandbox.write(GO, bytes::Bytes::new()).await?;
        let line = self.line().await?;
        let jobs: [[[u64; 1]; 1]; 1] = serde_json::from_str(&line)
            .with_context(|| format!("it printed {:?}", crate::output::printable(&line)))?;
        let [[[micros]]] = jobs;
        Ok(Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_of_every_request_are_read() {
        let jobs = read("[[[1,2,3,4,50]],[]]\n").unwrap();
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[0][0].first_byte(), Duration::from_micros(9));
        assert_eq!(jobs[0][0].whole(), Duration::from_micros(59));
        assert!(read("[[[1,2,3]]]").is_err());
        assert!(read("Traceback").is_err());
    }
}
