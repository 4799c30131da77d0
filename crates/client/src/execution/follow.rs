//! Follows the program of an execution to its end: output into the sink, bounds kept.

use std::time::Duration;

use bytes::Bytes;
use courier_protocol::envd::process::Signal;
use tokio::time::Instant;

use super::{Conclusion, ExecutionOutcome, OutputBound, OutputPolicy, OutputStream, Sink, Stdin};
use crate::tree::Matches;
use crate::{ClientError, Event, Events, GuestClient, Refusal, Selector};

/// Longest wait for the guest to take a SIGKILL: the caller destroys the sandbox anyway.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// One program that was started.
pub(super) struct Run<'a> {
    client: &'a GuestClient,
    events: Events,
    pid: u32,
    bound: OutputBound,
    started: Instant,
    deadline: Instant,
    stdout: Counter,
    stderr: Counter,
}

/// What one output stream has delivered.
#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    bytes: u64,
    cut: bool,
}

impl Counter {
    /// The part of a chunk that is within the bound.
    fn admit(&mut self, mut chunk: Bytes, limit_bytes: u64) -> Bytes {
        let room = usize::try_from(limit_bytes.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        if chunk.len() > room {
            self.cut = true;
            chunk.truncate(room);
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        chunk
    }
}

/// How following ended.
enum Stop {
    Ended(crate::Ended),
    Timeout,
    OutputLimit,
    Lost,
}

impl<'a> Run<'a> {
    /// Waits until the program runs.
    pub(super) async fn begin(
        client: &'a GuestClient,
        mut events: Events,
        bound: OutputBound,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        match events.next().await? {
            Some(Event::Started { pid }) => {
                let started = Instant::now();
                Ok(Self {
                    client,
                    events,
                    pid,
                    bound,
                    started,
                    // Centuries where the sum would overflow.
                    deadline: started
                        .checked_add(timeout)
                        .unwrap_or_else(|| started + Duration::from_secs(u64::from(u32::MAX))),
                    stdout: Counter::default(),
                    stderr: Counter::default(),
                })
            }
            other => Err(ClientError::protocol(format!("{other:?} before the start"))),
        }
    }

    /// Feeds and follows the program until it ends, or is ended.
    pub(super) async fn finish(mut self, stdin: Stdin, sink: &mut dyn Sink) -> ExecutionOutcome {
        let selector = Selector::Pid(self.pid);
        let client = self.client;
        let feed = async {
            if let Stdin::Body(body) = stdin {
                // A program may end or close its input without reading all of it: no failure.
                let _unread = client.feed_stdin(&selector, body).await;
            }
            std::future::pending().await
        };
        let deadline = self.deadline;
        let stop = tokio::select! {
            stop = self.follow(sink) => stop,
            () = tokio::time::sleep_until(deadline) => Stop::Timeout,
            never = feed => never,
        };
        self.conclude(stop).await
    }

    async fn follow(&mut self, sink: &mut dyn Sink) -> Stop {
        loop {
            let (stream, counter, chunk) = match self.events.next().await {
                Ok(Some(Event::Stdout(chunk))) => (OutputStream::Stdout, &mut self.stdout, chunk),
                Ok(Some(Event::Stderr(chunk))) => (OutputStream::Stderr, &mut self.stderr, chunk),
                Ok(Some(Event::Ended(ended))) => return Stop::Ended(ended),
                Err(error) if error.refusal() == Some(Refusal::TimedOut) => return Stop::Timeout,
                Ok(Some(Event::Pty(_) | Event::Started { .. }) | None) | Err(_) => {
                    return Stop::Lost;
                }
            };
            let chunk = counter.admit(chunk, self.bound.limit_bytes);
            let over = counter.cut && self.bound.policy == OutputPolicy::Kill;
            if !chunk.is_empty() {
                sink.output(stream, chunk).await;
            }
            if over {
                return Stop::OutputLimit;
            }
        }
    }

    async fn conclude(self, stop: Stop) -> ExecutionOutcome {
        let wall_time = self.started.elapsed();
        let (conclusion, exit_code, signal) = match stop {
            Stop::Ended(ended) => {
                let conclusion =
                    if ended.signal.is_some() { Conclusion::Signalled } else { Conclusion::Exited };
                (conclusion, ended.exit_code, ended.signal)
            }
            Stop::Timeout => (Conclusion::Timeout, None, None),
            Stop::OutputLimit => (Conclusion::OutputLimit, None, None),
            Stop::Lost => (Conclusion::SandboxLost { reason: None }, None, None),
        };
        if matches!(conclusion, Conclusion::Timeout | Conclusion::OutputLimit) {
            let selector = Selector::Pid(self.pid);
            let kill = self.client.signal(&selector, Signal::Sigkill);
            // Best effort: the caller destroys the sandbox, which is what enforces the end.
            let _unanswered = tokio::time::timeout(KILL_DEADLINE, kill).await;
        }
        ExecutionOutcome {
            conclusion,
            exit_code,
            signal,
            wall_time,
            stdout_cut: self.stdout.cut,
            stderr_cut: self.stderr.cut,
            files_out: Matches::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_the_byte_of_the_bound_and_says_so() {
        let mut counter = Counter::default();
        assert_eq!(counter.admit(Bytes::from_static(b"abc"), 5).as_ref(), b"abc");
        assert!(!counter.cut);
        assert_eq!(counter.admit(Bytes::from_static(b"def"), 5).as_ref(), b"de");
        assert!(counter.cut);
        assert!(counter.admit(Bytes::from_static(b"g"), 5).is_empty());
    }
}
