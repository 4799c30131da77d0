//! What is spoken on a connection, by its first bytes.
//!
//! Whoever decides here must not be talked out of looking: what an indulgent server might still take
//! for HTTP or TLS is HTTP or TLS here, and then has to be good.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::tls::hello::{self, BYTES_MAX, HANDSHAKE, Hello, HelloError};

/// From the connection's acceptance to its judgement. A client that speaks first does it at once; one
/// that drips holds a connection for this long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest method; the longest registered one has 17 characters.
const METHOD_MAX: usize = 32;
/// Most empty lines and spaces before a request that some servers skip.
const BLANK_MAX: usize = 64;

/// What is spoken.
#[derive(Debug)]
pub(crate) enum Opening {
    /// TLS, with this hello.
    Tls(Hello),
    /// Something that begins like an HTTP request.
    Http,
    /// Neither.
    Opaque,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SniffError {
    /// Nothing, or too little, in time.
    #[error("the client did not say in time what it speaks; here it has to speak first")]
    Silent,
    /// The client has gone.
    #[error("the client ended the connection before it was clear what it speaks")]
    Ended,
    /// TLS that is none.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The connection broke.
    #[error("the connection to the client broke")]
    Broken(#[from] io::Error),
}

/// Reads until it is known what is spoken: that, and all the bytes that were read.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<(Opening, Vec<u8>), SniffError> {
    let mut bytes = Vec::with_capacity(2_048);
    let reading = async {
        loop {
            if let Some(opening) = classify(&bytes)? {
                return Ok(opening);
            }
            // What has more than a hello may have is no hello that is waited for.
            let room = BYTES_MAX.saturating_sub(bytes.len()).max(1);
            let read =
                (&mut *stream).take(u64::try_from(room).unwrap_or(1)).read_buf(&mut bytes).await?;
            if read == 0 {
                return Err(SniffError::Ended);
            }
        }
    };
    let opening = timeout(DEADLINE, reading).await.unwrap_or(Err(SniffError::Silent))?;
    Ok((opening, bytes))
}

/// What the bytes are the beginning of; `None` when that cannot be said yet.
fn classify(bytes: &[u8]) -> Result<Option<Opening>, HelloError> {
    if bytes.first() == Some(&HANDSHAKE) {
        return Ok(hello::parse(bytes)?.map(Opening::Tls));
    }
    let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | b'\t');
    let blank = bytes.iter().take_while(|byte| is_blank(byte)).count();
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let method = bytes.iter().skip(blank).take_while(|byte| is_token(byte)).count();
    let behind = bytes.get(blank + method);
    Ok(match behind {
        _ if blank > BLANK_MAX || method > METHOD_MAX => Some(Opening::Opaque),
        None => None,
        Some(b' ' | b'\t') if method > 0 => Some(Opening::Http),
        Some(_) => Some(Opening::Opaque),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8]) -> &'static str {
        match classify(bytes) {
            Ok(Some(Opening::Tls(_))) => "tls",
            Ok(Some(Opening::Http)) => "http",
            Ok(Some(Opening::Opaque)) => "opaque",
            Ok(None) => "unknown",
            Err(_) => "refused",
        }
    }

    #[test]
    fn what_some_server_could_take_for_http_or_tls_is_never_opaque() {
        for (bytes, what) in [
            (&b"GET / HTTP/1.1\r\n"[..], "http"),
            (b"get\t/", "http"),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", "http"),
            (b"PRI * HTTP/2.0\r\n", "http"),
            (b"CONNECT evil.test:443 HTTP/1.1", "http"),
            (b"VERSION-CONTROL /", "http"),
            (b"G", "unknown"),
            (b"", "unknown"),
            (b"\r\n", "unknown"),
            (&[22, 3, 1], "unknown"),
            (&[22, 0], "refused"),
            (&[22, 3, 1, 0, 1, 2], "refused"),
            (b"SSH-2.0-x\r\n", "opaque"),
            (b"*1\r\n$4\r\nPING\r\n", "opaque"),
            (&[0, 0, 0, 8, 4, 0xd2, 22, 0x2f], "opaque"),
            (&[b'\n'; 65], "opaque"),
            (&[b'A'; 33], "opaque"),
        ] {
            assert_eq!(seen(bytes), what, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_or_drips_is_refused_in_time() {
        let (mut guest, mut ours) = tokio::io::duplex(64);
        let dripping = tokio::spawn(async move {
            loop {
                tokio::time::advance(Duration::from_secs(1)).await;
                if tokio::io::AsyncWriteExt::write_all(&mut guest, b"A").await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        });
        let error = sniff(&mut ours).await.unwrap_err();
        assert!(matches!(error, SniffError::Silent), "{error:?}");
        drop(ours);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_ends_before_it_can_be_judged_is_refused() {
        for begun in [&b""[..], b"GET", b"\r\n", &[22, 3, 1, 0, 200, 1]] {
            let (mut guest, mut ours) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut guest, begun).await.unwrap();
            drop(guest);
            let error = sniff(&mut ours).await.unwrap_err();
            assert!(matches!(error, SniffError::Ended), "{begun:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn every_byte_that_was_read_is_given_back() {
        let (mut guest, mut ours) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut guest, b"SSH-2.0-test\r\nmore").await.unwrap();
        drop(guest);
        let (opening, bytes) = sniff(&mut ours).await.unwrap();
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        assert!(matches!(opening, Opening::Opaque));
        assert_eq!([bytes, rest].concat(), b"SSH-2.0-test\r\nmore");
    }
}
