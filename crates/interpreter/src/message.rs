//! What a kernel says, reduced to what an execution needs. A kernel runs its users' code, so any of
//! it may be a lie: it is checked for size before it is parsed, and what cannot be parsed is dropped.

use jupyter_protocol::{ExecutionState, JupyterMessageContent, Stdio};
use jupyter_zmq_client::RawMessage;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest message that is parsed, in bytes. Parsed, it needs several times that much memory.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;

/// One message, and to which request of ours it belongs.
#[derive(Debug)]
pub(crate) struct Message {
    /// The request's id, where it is an answer to one.
    pub(crate) parent: Option<String>,
    pub(crate) said: Said,
}

/// What a message says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The kernel has done everything that the request asked for.
    Idle,
    /// The request's own answer, which comes on another socket than its output.
    Replied,
    /// A cell is about to run, as the kernel's execution of this number.
    Started { execution_count: u64 },
    /// Text that the cell wrote.
    Wrote { stream: Stream, text: String, at_ns: i64 },
    /// The cell's value, or something that it displays, by MIME type.
    Showed { is_main_result: bool, bundle: Map<String, Value> },
    /// The cell ended with an exception.
    Failed { name: String, value: String, traceback: Vec<String> },
    /// Something larger than we take.
    TooLarge,
    /// The connection broke: nothing comes any more.
    Lost,
}

/// An output stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Deserialize)]
struct Head {
    msg_type: String,
    /// Kernels that leave it out are tolerated: then it counts as received now.
    #[serde(default)]
    date: Option<String>,
}

#[derive(Deserialize)]
struct Parent {
    msg_id: String,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    data: Map<String, Value>,
}

/// Reads a message. `None` is what concerns no execution, or is no message at all.
pub(crate) fn read(raw: &RawMessage) -> Option<Message> {
    let [head, parent, _metadata, content, ..] = raw.jparts.as_slice() else { return None };
    let parent = serde_json::from_slice(parent).ok().map(|Parent { msg_id }| msg_id);
    let size: usize = raw.jparts.iter().map(bytes::Bytes::len).sum();
    if size > LARGEST_MESSAGE {
        return Some(Message { parent, said: Said::TooLarge });
    }
    let head: Head = serde_json::from_slice(head).ok()?;
    let said = match head.msg_type.as_str() {
        // Read by hand, for the library's types for some MIME types refuse what others accept.
        kind @ ("execute_result" | "display_data") => {
            let Bundle { data } = serde_json::from_slice(content).ok()?;
            Said::Showed { is_main_result: kind == "execute_result", bundle: data }
        }
        kind => {
            let content = serde_json::from_slice(content).ok()?;
            say(JupyterMessageContent::from_type_and_content(kind, content).ok()?, &head)?
        }
    };
    Some(Message { parent, said })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the protocol's many messages, these concern an execution"
)]
fn say(content: JupyterMessageContent, head: &Head) -> Option<Said> {
    let said = match content {
        JupyterMessageContent::Status(status) if status.execution_state == ExecutionState::Idle => {
            Said::Idle
        }
        JupyterMessageContent::ExecuteReply(_) => Said::Replied,
        JupyterMessageContent::ExecuteInput(input) => {
            Said::Started { execution_count: input.execution_count.value() as u64 }
        }
        JupyterMessageContent::StreamContent(content) => Said::Wrote {
            stream: match content.name {
                Stdio::Stdout => Stream::Stdout,
                Stdio::Stderr => Stream::Stderr,
            },
            text: content.text,
            at_ns: at_ns(head),
        },
        JupyterMessageContent::ErrorOutput(error) => {
            Said::Failed { name: error.ename, value: error.evalue, traceback: error.traceback }
        }
        _ => return None,
    };
    Some(said)
}

/// When a message was sent, in nanoseconds since the Unix epoch.
fn at_ns(head: &Head) -> i64 {
    let sent = head.date.as_ref().and_then(|date| date.parse::<jiff::Timestamp>().ok());
    i64::try_from(sent.unwrap_or_else(jiff::Timestamp::now).as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn raw(kind: &str, content: &Value) -> RawMessage {
        let part = |value: Value| Bytes::from(value.to_string());
        RawMessage {
            zmq_identities: Vec::new(),
            jparts: vec![
                part(json!({"msg_type": kind, "date": "2026-01-02T03:04:05.5Z"})),
                part(json!({"msg_id": "p"})),
                part(json!({})),
                part(content.clone()),
            ],
        }
    }

    #[test]
    fn output_carries_its_time_and_its_request() {
        let message = read(&raw("stream", &json!({"name": "stderr", "text": "x"}))).unwrap();
        assert_eq!(message.parent.as_deref(), Some("p"));
        let Said::Wrote { stream: Stream::Stderr, text, at_ns } = message.said else {
            panic!("{message:?}")
        };
        assert_eq!((text.as_str(), at_ns), ("x", 1_767_323_045_500_000_000));
    }

    #[test]
    fn what_is_no_message_is_dropped() {
        for (kind, content) in [
            ("stream", json!({"name": "nowhere", "text": "x"})),
            ("stream", json!(7)),
            ("status", json!({"execution_state": "busy"})),
            ("no_such_type", json!({})),
            ("execute_result", json!({"data": 7})),
        ] {
            assert!(read(&raw(kind, &content)).is_none(), "{kind} {content}");
        }
        let mut short = raw("stream", &json!({}));
        short.jparts.truncate(2);
        assert!(read(&short).is_none());
    }
}
