//! Where a program's output goes: kept for the answer, and to whoever follows the stream.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use courier_client::execution::{OutputStream, Sink};
use courier_protocol::v1::{ExecutionEvent, Output, StreamName};
use tokio::sync::mpsc;

/// Who follows.
#[derive(Debug, Clone)]
pub(super) enum Events {
    /// Nobody: the answer is enough.
    Nobody,
    /// A streaming client. A full queue holds the program back.
    Client(mpsc::Sender<ExecutionEvent>),
}

impl Events {
    /// Tells whoever follows. One who has gone is noticed by the guard of its connection.
    pub(super) async fn send(&self, event: ExecutionEvent) {
        if let Self::Client(queue) = self {
            let _gone = queue.send(event).await;
        }
    }
}

/// One stream's bytes, and the start of a character whose end has not come yet.
#[derive(Debug, Default)]
struct Stream {
    kept: Vec<u8>,
    unsent: Vec<u8>,
}

/// The sink of an execution. Its size is bounded by the execution's own output bound.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) events: Events,
    stdout: Stream,
    stderr: Stream,
}

impl Kept {
    pub(super) fn new(events: Events) -> Self {
        Self { events, stdout: Stream::default(), stderr: Stream::default() }
    }

    /// Sends the starts of characters whose ends never came.
    pub(super) async fn flush(&mut self) {
        for (name, stream) in
            [(StreamName::Stdout, &mut self.stdout), (StreamName::Stderr, &mut self.stderr)]
        {
            let rest = std::mem::take(&mut stream.unsent);
            if !rest.is_empty() {
                self.events.send(event(name, &rest)).await;
            }
        }
    }

    /// Standard output and standard error.
    pub(super) fn into_outputs(self, stdout_cut: bool, stderr_cut: bool) -> (Output, Output) {
        (output(&self.stdout.kept, stdout_cut), output(&self.stderr.kept, stderr_cut))
    }
}

#[async_trait]
impl Sink for Kept {
    async fn output(&mut self, stream: OutputStream, chunk: Bytes) {
        let (name, stream) = match stream {
            OutputStream::Stdout => (StreamName::Stdout, &mut self.stdout),
            OutputStream::Stderr => (StreamName::Stderr, &mut self.stderr),
        };
        stream.kept.extend_from_slice(&chunk);
        if matches!(self.events, Events::Client(_)) {
            stream.unsent.extend_from_slice(&chunk);
            let whole = whole_characters(&stream.unsent);
            let rest = stream.unsent.split_off(whole);
            let ready = std::mem::replace(&mut stream.unsent, rest);
            if !ready.is_empty() {
                self.events.send(event(name, &ready)).await;
            }
        }
    }
}

/// How many bytes go before a character that may still become whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => bytes.len(),
    }
}

fn event(stream: StreamName, bytes: &[u8]) -> ExecutionEvent {
    let (text, base64) = text_and_base64(bytes);
    ExecutionEvent::Output { stream, text, base64 }
}

fn output(bytes: &[u8], truncated: bool) -> Output {
    let (text, base64) = text_and_base64(bytes);
    Output { text, base64, truncated }
}

/// The text, and the exact bytes where the text is not exact.
fn text_and_base64(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_not_text) => {
            (String::from_utf8_lossy(bytes).into_owned(), Some(STANDARD.encode(bytes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_character_that_two_chunks_share_is_sent_whole() {
        let (queue, mut events) = mpsc::channel(8);
        let mut kept = Kept::new(Events::Client(queue));
        for chunk in [&b"a\xc3"[..], b"\xa9b", b"\xff"] {
            kept.output(OutputStream::Stdout, Bytes::from_static(chunk)).await;
        }
        kept.flush().await;
        let (stdout, _stderr) = kept.into_outputs(false, false);
        assert_eq!(stdout.text, "aéb\u{fffd}");
        assert_eq!(stdout.base64.as_deref(), Some("YcOpYv8="));
        let mut texts = Vec::new();
        while let Some(ExecutionEvent::Output { text, .. }) = events.recv().await {
            texts.push(text);
        }
        assert_eq!(texts, ["a", "éb", "\u{fffd}"]);
    }
}
