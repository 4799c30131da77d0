//! The start and ready commands of a build, in a sandbox of it that was made just now.
//!
//! The one is started and may go on for as long as the sandbox lives, the other is repeated until it
//! succeeds. Both are the user's code: what they write is kept in a bounded tail, for the message of
//! a failure.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use courier_client::{
    ClientError, Ended, Event, Events, GuestClient, Refusal, Transport, TransportError,
};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_protocol::node::Body;
use courier_types::BuildConfig;
use tokio::time::Instant;

use crate::failure::GuestError;
use crate::guest::Guest;

/// The start command's tag, by which clients may find it.
const START_TAG: &str = "start";

/// First and longest pause between two attempts of the ready command. A server that is up after a
/// blink should not be waited for, and one that takes minutes should not be held up by the asking:
/// E2B asks every 2 s.
const READY_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How much of the end of a command's output is kept for a message, in bytes: about thirty lines.
const TAIL_BYTES: usize = 2_048;

/// Why what a build wants to be started did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The start command ended with an error.
    #[error("the start command failed: {status}{}", told(output))]
    Failed {
        /// How it ended, in words.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The ready command did not succeed in time.
    #[error(
        "the ready command did not succeed within {} s; {last}{}",
        after.as_secs(), told(output)
    )]
    NotReady {
        /// How long was waited.
        after: Duration,
        /// How its last attempt ended, in words.
        last: String,
        /// The end of what the last attempt and the start command wrote.
        output: String,
    },
    /// One of them could not be run at all.
    #[error("the {which} command could not be run")]
    NotRun {
        /// `start` or `ready`.
        which: &'static str,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Output as the end of a message.
fn told(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it wrote:\n{output}") }
}

/// A transport to a guest that is not shown to others yet.
struct Direct(Arc<Guest>);

#[async_trait]
impl Transport for Direct {
    async fn send(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, TransportError> {
        self.0.request(request).await.map_err(|error| match error {
            GuestError::Ended => TransportError::Gone(error.into()),
            GuestError::Busy { .. } | GuestError::Request(_) => {
                TransportError::Unreachable(error.into())
            }
            GuestError::Socket(_)
            | GuestError::Channel(_)
            | GuestError::Connection(_)
            | GuestError::BodyBroken
            | GuestError::Stalled
            | GuestError::PortClosed
            | GuestError::Late { .. }
            | GuestError::Answer { .. }
            | GuestError::Network(_)
            | GuestError::Start(_) => TransportError::Guest(error.into()),
        })
    }
}

/// Starts what the build says, and waits until it is ready.
///
/// # Errors
/// See [`StartError`]. What runs goes on running.
pub(crate) async fn start(
    guest: &Arc<Guest>,
    config: &BuildConfig,
    after: Duration,
) -> Result<(), StartError> {
    if config.start.is_none() && config.ready.is_none() {
        return Ok(());
    }
    let client = GuestClient::new(Arc::new(Direct(Arc::clone(guest))));
    let (mut started, mut asked) = (Tail::default(), Tail::default());
    let mut last = "it was never asked".to_owned();
    let work = async {
        let failing = match &config.start {
            Some(command) => Some(begin(&client, command).await?),
            None => None,
        };
        let Some(ready) = &config.ready else { return Ok(()) };
        tokio::select! {
            biased;
            failure = failure(failing, &mut started) => Err(failure),
            ready = until_ready((&client, ready), (&mut asked, &mut last), after) => ready,
        }
    };
    match tokio::time::timeout(after, work).await {
        Ok(Err(StartError::Failed { status, .. })) => {
            Err(StartError::Failed { status, output: started.text() })
        }
        Ok(answer) => answer,
        Err(_elapsed) => {
            let output = format!("{}\n{}", asked.text(), started.text()).trim().to_owned();
            Err(StartError::NotReady { after, last, output })
        }
    }
}

/// A command line as the guest daemon is asked for it: by the sandbox's own user, in its directory.
fn request(command: &str, tag: Option<&str>) -> StartRequest {
    StartRequest {
        process: Some(ProcessConfig {
            cmd: "/bin/bash".to_owned(),
            args: vec!["-l".to_owned(), "-c".to_owned(), command.to_owned()],
            ..ProcessConfig::default()
        }),
        pty: None,
        tag: tag.map(str::to_owned),
        stdin: Some(false),
    }
}

async fn begin(client: &GuestClient, command: &str) -> Result<Events, StartError> {
    let failed = |source| StartError::NotRun { which: "start", source };
    let mut events =
        client.start(&request(command, Some(START_TAG)), None).await.map_err(failed)?;
    // The first event is the proof that it runs.
    events.next().await.map_err(failed)?;
    Ok(events)
}

/// Waits until the start command ends with an error; one that ends well has left its service behind.
async fn failure(events: Option<Events>, tail: &mut Tail) -> StartError {
    let Some(events) = events else { return std::future::pending().await };
    match follow(events, tail).await {
        Ok(ended) if ended.exit_code == Some(0) => std::future::pending().await,
        Ok(ended) => StartError::Failed { status: ended.status, output: String::new() },
        Err(source) => StartError::NotRun { which: "start", source },
    }
}

/// Repeats the ready command until it succeeds.
async fn until_ready(
    (client, command): (&GuestClient, &str),
    (tail, last): (&mut Tail, &mut String),
    after: Duration,
) -> Result<(), StartError> {
    let failed = |source| StartError::NotRun { which: "ready", source };
    let until = Instant::now() + after;
    let (mut pause, longest) = READY_PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        "it did not end".clone_into(last);
        tail.clear();
        let attempt = client.start(&request(command, None), Some(left)).await;
        let ended = match attempt {
            Ok(events) => follow(events, tail).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(ended) if ended.exit_code == Some(0) => return Ok(()),
            Ok(ended) => *last = format!("it last ended with {}", ended.status),
            // A sandbox that is short of something for a moment may well start in the next one.
            Err(error) if error.refusal() == Some(Refusal::Exhausted) => *last = error.to_string(),
            Err(error) if error.refusal() == Some(Refusal::TimedOut) => {}
            Err(error) => return Err(failed(error)),
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
}

/// Follows a command to its end.
async fn follow(mut events: Events, tail: &mut Tail) -> Result<Ended, ClientError> {
    let mut ended = None;
    while let Some(event) = events.next().await? {
        match event {
            Event::Started { .. } => {}
            Event::Stdout(bytes) | Event::Stderr(bytes) | Event::Pty(bytes) => tail.push(&bytes),
            Event::Ended(end) => ended = Some(end),
        }
    }
    // `Events` gives no end without this event; a status nobody knows is a failure.
    Ok(ended.unwrap_or(Ended { exit_code: None, signal: None, status: "unknown".to_owned() }))
}

/// The end of an output.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let beyond = self.bytes.len().saturating_sub(TAIL_BYTES);
        if beyond > 0 {
            self.is_cut = true;
            self.bytes.drain(..beyond);
        }
    }

    /// Safe to print; from the start of a line where its start was cut.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let whole = match text.split_once('\n') {
            Some((_cut, rest)) if self.is_cut => rest,
            Some(_) | None => &text,
        };
        whole.trim().replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_kept_from_the_start_of_a_line() {
        let mut tail = Tail::default();
        tail.push(b"one\ntwo\x1b[2J\n");
        assert_eq!(tail.text(), "one\ntwo\u{fffd}[2J");
        tail.push(&b"0123456789\n".repeat(1_000));
        tail.push(b"last");
        let text = tail.text();
        assert!(text.len() <= TAIL_BYTES && text.starts_with("0123456789\n"), "{text}");
        assert!(text.ends_with("0123456789\nlast"), "{text}");
    }

    #[test]
    fn a_failure_says_how_it_ended_and_what_it_wrote() {
        let failed = |output: &str| StartError::Failed {
            status: "exit status 3".to_owned(),
            output: output.to_owned(),
        };
        assert_eq!(failed("").to_string(), "the start command failed: exit status 3");
        let text = failed("no such port").to_string();
        assert_eq!(text, "the start command failed: exit status 3; it wrote:\nno such port");
    }
}
