//! Connections to names that learn mode refused: seen, written down, never dialled.

use std::time::Duration;

use courier_types::egress::{FlowEvent, FlowRefusal, HostName, Protocol, Transport};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::Place;
use super::judge::why;
use super::sniff::{Opening, sniff};
use crate::policy::{Question, Scheme, path};

/// Longest request line that is waited for.
const LINE_MAX: usize = 8 * 1024;
/// For how long it is waited for.
const LINE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a name that was refused.
#[derive(Debug)]
pub(super) struct Learning {
    pub(super) place: Place,
}

/// What would have been asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    host: Option<HostName>,
    protocol: Option<Protocol>,
    method: Option<String>,
    path: Option<String>,
}

impl Learning {
    /// Writes down what the guest says first, and resets the connection.
    pub(super) async fn serve<S: AsyncRead + Send + Unpin>(self, mut stream: S) {
        let seen = match sniff(&mut stream).await {
            Ok((Opening::Tls(hello), _)) => {
                Seen { host: hello.server_name, protocol: Some(Protocol::Https), ..Seen::default() }
            }
            Ok((Opening::Http, first)) => {
                let line = line(first, &mut stream).await;
                Seen { protocol: Some(Protocol::Http), ..request(&line) }
            }
            // What says nothing waits for the server to speak first, as many protocols do.
            Ok((Opening::Opaque, _)) | Err(_) => {
                Seen { protocol: Some(Protocol::Tcp), ..Seen::default() }
            }
        };
        self.write(seen);
    }

    fn write(&self, seen: Seen) {
        let Place { context, address, names } = &self.place;
        let host = seen.host.or_else(|| names.first().cloned());
        let (address, policy) = (*address, context.policy());
        let (method, path) = (seen.method.as_deref(), seen.path.as_deref());
        let question = match (seen.protocol, method, path) {
            (Some(Protocol::Https), ..) => Question::Tls { address, host: host.as_ref() },
            (Some(Protocol::Http), Some(method), Some(path)) => {
                let host = host.as_ref();
                Question::Request { scheme: Scheme::Http, address, host, method, path }
            }
            (Some(Protocol::Http | Protocol::Tcp) | None, ..) => {
                Question::Opaque { address, names }
            }
        };
        // The address is made up, so whatever the policy says now, nobody is reached.
        let why = format!("refused when it was resolved; {}", why(&policy.decide(&question)));
        context.flows.write(FlowEvent::Refused {
            transport: Transport::Tcp,
            host: host.clone(),
            address: Some(address),
            protocol: seen.protocol,
            method: seen.method.clone(),
            path: seen.path.clone(),
            refusal: FlowRefusal::new("policy", why),
            count: 1,
        });
    }
}

/// Reads to the end of the first line, or as far as it comes.
async fn line<S: AsyncRead + Unpin>(mut bytes: Vec<u8>, stream: &mut S) -> Vec<u8> {
    let reading = async {
        while !bytes.contains(&b'\n') && bytes.len() < LINE_MAX {
            let room = u64::try_from(LINE_MAX - bytes.len()).unwrap_or(1);
            if (&mut *stream).take(room).read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    // What did not come in time is judged by what did.
    let _complete = timeout(LINE_TIMEOUT, reading).await;
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Method and canonical path of a request line, as far as it is one.
fn request(line: &[u8]) -> Seen {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let mut words = text.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(_version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Seen::default();
    };
    let target = target.split('?').next().unwrap_or_default();
    let path = path::canonical(target).ok();
    let method = Some(method).filter(|method| method.bytes().all(|b| b.is_ascii_uppercase()));
    Seen { method: method.map(str::to_owned), path, ..Seen::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_gives_its_method_and_path_without_the_query() {
        let seen = request(b"POST /a/%7Eb?key=secret HTTP/1.1\r");
        assert_eq!(seen.method.as_deref(), Some("POST"));
        assert_eq!(seen.path.as_deref(), Some("/a/~b"));
        for line in [&b"GET"[..], b"GET /", b"GET / HTTP/1.1 x", b"\xff / HTTP/1.1", b""] {
            assert_eq!(request(line), Seen::default(), "{line:?}");
        }
        assert_eq!(request(b"get /../x HTTP/1.1"), Seen::default());
    }
}
