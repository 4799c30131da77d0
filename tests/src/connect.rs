//! Connect frames, as bytes.

use std::io::Read;

use serde_json::Value;

/// Flag of the frame that ends a stream.
pub const END: u8 = 0x02;

/// One frame: flags, length, payload.
#[must_use]
pub fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's payload is small");
    lying_frame(flags, length, payload)
}

/// A frame whose length says what it likes.
#[must_use]
pub fn lying_frame(flags: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    [&[flags], &length.to_be_bytes()[..], payload].concat()
}

/// Reads the next frame; `None` when the body ends where a frame may begin.
///
/// # Errors
/// The body was cut off inside a frame, or the payload is not JSON.
pub fn read_frame(from: &mut impl Read) -> std::io::Result<Option<(u8, Value)>> {
    let mut head = [0; 5];
    let mut have = 0;
    while let Some(rest) = head.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match from.read(rest)? {
            0 if have == 0 => return Ok(None),
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => have += count,
        }
    }
    let [flags, length @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut payload)?;
    Ok(Some((flags, serde_json::from_slice(&payload)?)))
}
