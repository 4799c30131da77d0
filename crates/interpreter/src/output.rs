//! The way of an execution's events to its client: one JSON object per line, bounded, never waiting.
//!
//! Whoever runs the execution must go on reading from the kernel even when the client reads slowly,
//! because a kernel throws away what nobody reads. So sending never waits; instead a client that
//! falls too far behind, or an execution that writes too much, ends the execution with an error that
//! says so. The last lines are added when the sending side is gone, whatever was its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// What a silent execution says, and how often: a gone client is noticed by it, on every way.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Lines that wait for the client. With it the memory of many tiny lines is bounded.
const MOST_LINES_WAITING: usize = 64 * 1024;
/// Bytes that wait for the client before the execution is given up: more than 100 MB of text, in
/// case it comes as one message.
const MOST_BYTES_WAITING: usize = 128 * 1024 * 1024;
/// Bytes that one execution may write in all.
const MOST_BYTES: usize = 1024 * 1024 * 1024;
/// Text of one line, in bytes: clients put lines together piece by piece.
const LONGEST_TEXT: usize = 1024 * 1024;

/// One event, as the wire has it.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    NumberOfExecutions {
        execution_count: u64,
    },
    Stdout {
        text: &'a str,
        timestamp: i64,
    },
    Stderr {
        text: &'a str,
        timestamp: i64,
    },
    Result {
        is_main_result: bool,
        #[serde(flatten)]
        fields: Map<String, Value>,
    },
    Error {
        name: &'a str,
        value: &'a str,
        traceback: &'a str,
    },
    Keepalive,
    EndOfExecution,
}

/// How an execution ended, besides what its kernel said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The kernel is done with it.
    Finished,
    /// Its context was restarted, by a client or because the kernel died.
    Restarted,
    /// The connection to the kernel broke.
    Disconnected,
    /// It wrote more than is kept for a client.
    TooMuchOutput,
    /// There is no kernel to run it.
    NoKernel,
    /// Nobody said how.
    Unknown,
}

impl End {
    /// The error that tells the client.
    const fn error(self) -> Option<Event<'static>> {
        let (name, value) = match self {
            Self::Finished => return None,
            Self::Restarted => ("ContextRestarting", "Context was restarted"),
            Self::Disconnected => ("WebSocketError", "The connection to the kernel was lost"),
            Self::TooMuchOutput => {
                ("OutputLimitExceeded", "The execution wrote more than its client can be sent")
            }
            Self::NoKernel => ("KernelError", "The kernel of this context does not start"),
            Self::Unknown => (
                "UnexpectedEndOfExecution",
                "Connection to the execution was closed before the execution was finished",
            ),
        };
        Some(Event::Error { name, value, traceback: "" })
    }
}

#[derive(Debug)]
struct Shared {
    waiting: AtomicUsize,
    end: Mutex<End>,
}

/// The sending side. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct Output {
    lines: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    written: usize,
}

/// Whether there is a use in running on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// The client is gone, or can be sent no more.
    No,
}

/// Makes both sides.
pub(crate) fn output() -> (Output, Lines) {
    let (sender, receiver) = mpsc::channel(MOST_LINES_WAITING);
    let shared = Arc::new(Shared { waiting: AtomicUsize::new(0), end: Mutex::new(End::Unknown) });
    let mut keepalive = interval_at(tokio::time::Instant::now() + KEEPALIVE, KEEPALIVE);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lines = Lines { lines: receiver, shared: Arc::clone(&shared), keepalive, last: None };
    (Output { lines: sender, shared, written: 0 }, lines)
}

impl Output {
    /// Sends one event; text in pieces.
    pub(crate) fn send(&mut self, event: &Event<'_>) -> Sent {
        match *event {
            Event::Stdout { text, timestamp } => {
                self.pieces(text, |text| Event::Stdout { text, timestamp })
            }
            Event::Stderr { text, timestamp } => {
                self.pieces(text, |text| Event::Stderr { text, timestamp })
            }
            Event::NumberOfExecutions { .. }
            | Event::Result { .. }
            | Event::Error { .. }
            | Event::Keepalive
            | Event::EndOfExecution => {
                let room = self.room();
                self.line(event, room)
            }
        }
    }

    /// Says how the execution ended. What was said first counts.
    pub(crate) fn end(&self, end: End) {
        let mut said = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        if *said == End::Unknown {
            *said = end;
        }
    }

    /// Waits until the client is gone.
    pub(crate) async fn closed(&self) {
        self.lines.closed().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lines.is_closed()
    }

    /// One message of the kernel is taken whole when there is room before it, so that what fits a
    /// message is not cut by how it is sent.
    fn pieces<'t>(&mut self, text: &'t str, event: impl Fn(&'t str) -> Event<'t>) -> Sent {
        let room = self.room();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rest.floor_char_boundary(LONGEST_TEXT));
            if self.line(&event(piece), room) == Sent::No {
                return Sent::No;
            }
            rest = others;
        }
        Sent::Yes
    }

    fn room(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) < MOST_BYTES_WAITING
            && self.written < MOST_BYTES
    }

    fn line(&mut self, event: &Event<'_>, room: bool) -> Sent {
        let line = encode(event);
        if self.lines.is_closed() {
            return Sent::No;
        }
        self.written = self.written.saturating_add(line.len());
        let size = line.len();
        self.shared.waiting.fetch_add(size, Ordering::Relaxed);
        if !room || self.lines.try_send(line).is_err() {
            self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
            self.end(End::TooMuchOutput);
            return Sent::No;
        }
        Sent::Yes
    }
}

fn encode(event: &Event<'_>) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("events have string keys and finite numbers");
    line.push(b'\n');
    line.into()
}

/// The receiving side: the body of the answer. Dropping it means that the client is gone.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
    keepalive: Interval,
    /// The lines after the sender's last, once it is gone.
    last: Option<std::vec::IntoIter<Bytes>>,
}

impl Lines {
    fn epilogue(&self) -> std::vec::IntoIter<Bytes> {
        let end = *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Vec<Bytes> = end.error().iter().map(encode).collect();
        last.push(encode(&Event::EndOfExecution));
        last.into_iter()
    }
}

impl Stream for Lines {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(last) = &mut self.last {
            return Poll::Ready(last.next().map(Ok));
        }
        match self.lines.poll_recv(context) {
            Poll::Ready(Some(line)) => {
                self.shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                self.keepalive.reset();
                Poll::Ready(Some(Ok(line)))
            }
            Poll::Ready(None) => {
                let mut last = self.epilogue();
                let first = last.next();
                self.last = Some(last);
                Poll::Ready(first.map(Ok))
            }
            Poll::Pending => {
                self.keepalive.poll_tick(context).map(|_| Some(Ok(encode(&Event::Keepalive))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn rest(lines: Lines) -> Vec<Value> {
        lines.map(|line| serde_json::from_slice(&line.unwrap()).unwrap()).collect().await
    }

    #[tokio::test]
    async fn a_finished_execution_ends_with_its_end() {
        let (mut output, lines) = output();
        assert_eq!(output.send(&Event::NumberOfExecutions { execution_count: 3 }), Sent::Yes);
        output.end(End::Finished);
        drop(output);
        let lines = rest(lines).await;
        assert_eq!(
            lines[0],
            serde_json::json!({"type": "number_of_executions", "execution_count": 3})
        );
        assert_eq!(lines[1], serde_json::json!({"type": "end_of_execution"}));
    }

    #[tokio::test]
    async fn an_execution_that_nobody_ended_says_so() {
        let (output, lines) = output();
        drop(output);
        let lines = rest(lines).await;
        assert_eq!(lines[0]["name"], "UnexpectedEndOfExecution");
        assert_eq!(lines[1]["type"], "end_of_execution");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_keepalives() {
        let (_output, mut lines) = output();
        let before = tokio::time::Instant::now();
        assert_eq!(lines.next().await.unwrap().unwrap(), "{\"type\":\"keepalive\"}\n");
        assert_eq!(before.elapsed().as_secs(), KEEPALIVE.as_secs());
    }

    #[tokio::test]
    async fn long_text_comes_whole_in_pieces() {
        let (mut output, lines) = output();
        let text = "ä".repeat(LONGEST_TEXT);
        assert_eq!(output.send(&Event::Stdout { text: &text, timestamp: 1 }), Sent::Yes);
        drop(output);
        let lines = rest(lines).await;
        let whole: String = lines.iter().filter_map(|line| line["text"].as_str()).collect();
        assert!(whole == text && lines.len() == 4, "{} lines", lines.len());
    }

    #[tokio::test]
    async fn a_client_that_falls_behind_ends_the_execution() {
        let (mut output, lines) = output();
        let text = "x".repeat(LONGEST_TEXT * 16);
        let event = Event::Stdout { text: &text, timestamp: 1 };
        let sent = (0..).take_while(|_| output.send(&event) == Sent::Yes).count();
        assert_eq!(sent, MOST_BYTES_WAITING / text.len());
        drop(output);
        let lines = rest(lines).await;
        assert_eq!(lines[lines.len() - 2]["name"], "OutputLimitExceeded");
    }
}
