//! Envelopes: the framing of streams, written whole and read piece by piece.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::code::ErrorBody;
use super::{Codec, ConnectError, MAX_MESSAGE_BYTES, Message, encode_into};

/// Bytes before each message: flags, then its length.
pub const ENVELOPE_HEADER_BYTES: usize = 5;

/// Flag of a compressed message. We never announce a compression, so nobody may set it.
pub const FLAG_COMPRESSED: u8 = 0b01;

/// Flag of the last envelope of a server's stream, whose message is JSON in every codec.
pub const FLAG_END: u8 = 0b10;

/// One envelope, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// An encoded message.
    Message(Bytes),
    /// The end of a server's stream, and how it ended.
    End(Result<(), ConnectError>),
}

/// What is wrong with a sequence of envelopes. Nothing after it can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// A flag that does not exist, or that this sender must not use.
    #[error("an envelope has unknown flags {flags:#04x}")]
    Flags {
        /// The byte.
        flags: u8,
    },
    /// A compressed message, though no compression was agreed on.
    #[error("an envelope is compressed, but no compression is supported here")]
    Compressed,
    /// Its length is beyond [`MAX_MESSAGE_BYTES`].
    #[error("an envelope of {bytes} bytes is too long: at most {MAX_MESSAGE_BYTES} are allowed")]
    TooLong {
        /// The length that it claims.
        bytes: u32,
    },
    /// The bytes ended inside an envelope.
    #[error("the stream ended inside an envelope")]
    Truncated,
    /// A server's stream ended without its last envelope.
    #[error("the stream ended without saying how")]
    NoEnd,
    /// Bytes after the last envelope.
    #[error("there are bytes after the end of the stream")]
    AfterEnd,
    /// The last envelope's message is not the JSON that it should be.
    #[error("the end of the stream is not valid JSON")]
    End,
}

impl From<EnvelopeError> for ConnectError {
    fn from(error: EnvelopeError) -> Self {
        let code = match error {
            EnvelopeError::TooLong { .. } => super::Code::ResourceExhausted,
            EnvelopeError::Compressed => super::Code::Unimplemented,
            EnvelopeError::Flags { .. }
            | EnvelopeError::Truncated
            | EnvelopeError::NoEnd
            | EnvelopeError::AfterEnd
            | EnvelopeError::End => super::Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct EndBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// Encodes a message with its envelope, in one buffer.
#[must_use]
pub fn encode_envelope<M: Message>(codec: Codec, message: &M) -> Bytes {
    let mut buffer = BytesMut::zeroed(ENVELOPE_HEADER_BYTES);
    encode_into(codec, message, &mut buffer);
    finish(buffer, 0)
}

/// Encodes the last envelope of a server's stream.
#[must_use]
pub fn encode_end(result: Result<(), &ConnectError>) -> Bytes {
    let body = EndBody { error: result.err().map(ErrorBody::from) };
    let mut buffer = BytesMut::zeroed(ENVELOPE_HEADER_BYTES);
    buffer.extend_from_slice(&serde_json::to_vec(&body).expect("texts are always JSON"));
    finish(buffer, FLAG_END)
}

fn finish(mut buffer: BytesMut, flags: u8) -> Bytes {
    let bytes = buffer.len() - ENVELOPE_HEADER_BYTES;
    let length = u32::try_from(bytes).expect("a message in memory is far below 4 GiB");
    if let Some((header, _message)) = buffer.split_first_chunk_mut::<ENVELOPE_HEADER_BYTES>() {
        let [a, b, c, d] = length.to_be_bytes();
        *header = [flags, a, b, c, d];
    }
    buffer.freeze()
}

/// Whose envelopes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}

/// Reads envelopes from pieces of any size. Its buffer holds at most one message and the last piece.
#[derive(Debug)]
pub struct EnvelopeParser {
    sender: Sender,
    buffer: BytesMut,
    ended: bool,
}

impl EnvelopeParser {
    /// For what a client sends: messages until the body ends.
    #[must_use]
    pub fn of_request() -> Self {
        Self { sender: Sender::Client, buffer: BytesMut::new(), ended: false }
    }

    /// For what a server answers: messages, then one end.
    #[must_use]
    pub fn of_response() -> Self {
        Self { sender: Sender::Server, buffer: BytesMut::new(), ended: false }
    }

    /// Takes the next piece of the body. Call [`Self::next_envelope`] until it has none before the
    /// next piece, or the buffer grows.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole envelope, if there is one.
    ///
    /// # Errors
    /// The bytes break the protocol; a length is refused as soon as it is seen.
    pub fn next_envelope(&mut self) -> Result<Option<Envelope>, EnvelopeError> {
        if self.ended {
            return if self.buffer.is_empty() { Ok(None) } else { Err(EnvelopeError::AfterEnd) };
        }
        let Some([flags, length @ ..]) = self.buffer.first_chunk::<ENVELOPE_HEADER_BYTES>() else {
            return Ok(None);
        };
        let (flags, length) = (*flags, u32::from_be_bytes(*length));
        self.check_flags(flags)?;
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > MAX_MESSAGE_BYTES {
            return Err(EnvelopeError::TooLong { bytes: length });
        }
        if self.buffer.len() - ENVELOPE_HEADER_BYTES < bytes {
            return Ok(None);
        }
        self.buffer.advance(ENVELOPE_HEADER_BYTES);
        let message = self.buffer.split_to(bytes).freeze();
        if flags != FLAG_END {
            return Ok(Some(Envelope::Message(message)));
        }
        self.ended = true;
        let body: EndBody =
            serde_json::from_slice(&message).map_err(|_not_json| EnvelopeError::End)?;
        Ok(Some(Envelope::End(body.error.map_or(Ok(()), |error| Err(error.into())))))
    }

    /// Checks that the body may end here.
    ///
    /// # Errors
    /// It ended inside an envelope, or a server did not say how its stream ended.
    pub fn finish(&self) -> Result<(), EnvelopeError> {
        match self.sender {
            _ if !self.buffer.is_empty() => Err(EnvelopeError::Truncated),
            Sender::Server if !self.ended => Err(EnvelopeError::NoEnd),
            Sender::Server | Sender::Client => Ok(()),
        }
    }

    fn check_flags(&self, flags: u8) -> Result<(), EnvelopeError> {
        match (flags, self.sender) {
            (0, _) | (FLAG_END, Sender::Server) => Ok(()),
            (flags, _) if flags & FLAG_COMPRESSED != 0 => Err(EnvelopeError::Compressed),
            (flags, _) => Err(EnvelopeError::Flags { flags }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::process::{DataEvent, ProcessEvent, StartResponse};
    use super::*;

    fn output(bytes: &[u8]) -> StartResponse {
        let data = DataEvent { stdout: Some(bytes.to_vec()), ..DataEvent::default() };
        StartResponse { event: Some(ProcessEvent { data: Some(data), ..ProcessEvent::default() }) }
    }

    fn read(parser: &mut EnvelopeParser, bytes: &[u8], piece: usize) -> Vec<Envelope> {
        let mut seen = Vec::new();
        for piece in bytes.chunks(piece) {
            parser.push(piece);
            while let Some(envelope) = parser.next_envelope().unwrap() {
                seen.push(envelope);
            }
        }
        parser.finish().unwrap();
        seen
    }

    #[test]
    fn envelopes_read_back_whatever_the_pieces() {
        let mut bytes = encode_envelope(Codec::Json, &output(b"hello")).to_vec();
        bytes.extend_from_slice(&encode_envelope(Codec::Json, &output(b"")));
        let error = ConnectError::not_found("no");
        bytes.extend_from_slice(&encode_end(Err(&error)));
        let whole = read(&mut EnvelopeParser::of_response(), &bytes, bytes.len());
        assert_eq!(whole.len(), 3);
        assert_eq!(whole.last(), Some(&Envelope::End(Err(error))));
        for piece in 1..12 {
            assert_eq!(read(&mut EnvelopeParser::of_response(), &bytes, piece), whole);
        }
    }

    #[test]
    fn a_plain_end_is_an_empty_object() {
        assert_eq!(&encode_end(Ok(()))[..], b"\x02\0\0\0\x02{}");
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_kept_for_it() {
        let mut parser = EnvelopeParser::of_request();
        parser.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(parser.next_envelope(), Err(EnvelopeError::TooLong { bytes: u32::MAX }));
    }

    #[test]
    fn flags_that_nobody_agreed_on_are_refused() {
        for (flags, expected) in [
            (1, EnvelopeError::Compressed),
            (3, EnvelopeError::Compressed),
            (4, EnvelopeError::Flags { flags: 4 }),
            (2, EnvelopeError::Flags { flags: 2 }),
        ] {
            let mut parser = EnvelopeParser::of_request();
            parser.push(&[flags, 0, 0, 0, 0]);
            assert_eq!(parser.next_envelope(), Err(expected));
        }
    }

    #[test]
    fn a_stream_cut_short_says_so() {
        let mut parser = EnvelopeParser::of_response();
        assert_eq!(parser.finish(), Err(EnvelopeError::NoEnd));
        parser.push(&[0, 0, 0]);
        assert_eq!(parser.next_envelope(), Ok(None));
        assert_eq!(parser.finish(), Err(EnvelopeError::Truncated));
        let mut parser = EnvelopeParser::of_response();
        parser.push(b"\x02\0\0\0\x02{}x");
        assert_eq!(parser.next_envelope(), Ok(Some(Envelope::End(Ok(())))));
        assert_eq!(parser.next_envelope(), Err(EnvelopeError::AfterEnd));
    }
}
