//! Bodies: made from bytes, and read to their end within a bound.

use std::time::Duration;

use bytes::Bytes;
use courier_protocol::node::Body;
use http_body_util::{BodyExt as _, Empty, Full};

use crate::ClientError;

/// A body without content.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of which nothing comes for this long is dead: the guest has stopped in the middle.
const SILENCE_DEADLINE: Duration = Duration::from_secs(120);

/// Reads a body to its end.
///
/// # Errors
/// It is longer than `limit_bytes`, it broke off, or nothing comes any more.
pub async fn drain(mut body: Body, limit_bytes: usize) -> Result<Vec<u8>, ClientError> {
    let mut whole = Vec::new();
    loop {
        let frame =
            tokio::time::timeout(SILENCE_DEADLINE, body.frame()).await.map_err(|_elapsed| {
                ClientError::Late { what: "the rest of an answer", after: SILENCE_DEADLINE }
            })?;
        let Some(frame) = frame else { return Ok(whole) };
        let frame = frame.map_err(ClientError::BrokenOff)?;
        if let Ok(data) = frame.into_data() {
            if whole.len().saturating_add(data.len()) > limit_bytes {
                return Err(ClientError::TooLarge { what: "an answer", limit_bytes });
            }
            whole.extend_from_slice(&data);
        }
    }
}
