//! The Connect protocol, as far as envd needs it: content types, the two codecs, envelopes of
//! streams, and errors. Source: connectrpc.com, "Protocol reference"; no compression is spoken.
//!
//! A unary call is a bare message both ways; an error is an HTTP status and a JSON object. A stream
//! is a sequence of envelopes: one flag byte, a length (u32, big endian), a message. Its last
//! envelope from the server has [`FLAG_END`] and says, as JSON, how it ended.

mod code;
mod envelope;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use code::{Code, ConnectError};
pub use envelope::{
    ENVELOPE_HEADER_BYTES, Envelope, EnvelopeError, EnvelopeParser, FLAG_COMPRESSED, FLAG_END,
    encode_end, encode_envelope,
};

/// Most bytes of one message, encoded. Output comes in chunks of at most 32 KiB; the largest honest
/// messages are a listing of a big directory and one piece of input.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Header of a call: milliseconds that it may take, in at most 10 digits.
pub const TIMEOUT_HEADER: &str = "connect-timeout-ms";

/// Header of a stream (E2B's own): seconds of silence after which the server sends a `keepalive`.
pub const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

/// Header of every call, with [`PROTOCOL_VERSION`].
pub const PROTOCOL_VERSION_HEADER: &str = "connect-protocol-version";

/// The only version of the protocol.
pub const PROTOCOL_VERSION: &str = "1";

/// How messages are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Proto-JSON. Unknown fields are ignored; depth is bounded by the library (128).
    Json,
    /// Protocol buffers. Unknown fields are ignored; depth is bounded by the library (100).
    Proto,
}

/// Whether a body is one bare message or a sequence of envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One bare message.
    Unary,
    /// Envelopes.
    Stream,
}

/// A content type that Connect has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentType {
    /// How messages are encoded.
    pub codec: Codec,
    /// How they are framed.
    pub shape: Shape,
}

impl ContentType {
    const ALL: [Self; 4] = [
        Self { codec: Codec::Json, shape: Shape::Unary },
        Self { codec: Codec::Proto, shape: Shape::Unary },
        Self { codec: Codec::Json, shape: Shape::Stream },
        Self { codec: Codec::Proto, shape: Shape::Stream },
    ];

    /// As it stands in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match (self.codec, self.shape) {
            (Codec::Json, Shape::Unary) => "application/json",
            (Codec::Proto, Shape::Unary) => "application/proto",
            (Codec::Json, Shape::Stream) => "application/connect+json",
            (Codec::Proto, Shape::Stream) => "application/connect+proto",
        }
    }

    /// From a header; parameters such as `charset` and the case of letters do not matter.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let essence = header.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(essence))
    }
}

/// What travels in either codec. Every message of [`super::process`] and [`super::filesystem`] does.
pub trait Message: prost::Message + Default + Serialize + DeserializeOwned + 'static {}

impl<M: prost::Message + Default + Serialize + DeserializeOwned + 'static> Message for M {}

/// Why bytes are not the message that they should be.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// More than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {bytes} bytes is too long: at most {MAX_MESSAGE_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON of the message.
    #[error("the message is not valid JSON for its type: {0}")]
    Json(serde_json::Error),
    /// Not the protocol buffer of the message.
    #[error("the message is not a valid protocol buffer of its type: {0}")]
    Proto(prost::DecodeError),
}

impl From<DecodeError> for ConnectError {
    fn from(error: DecodeError) -> Self {
        let code = match &error {
            DecodeError::TooLong { .. } => Code::ResourceExhausted,
            DecodeError::Json(_) | DecodeError::Proto(_) => Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

/// Encodes one bare message.
#[must_use]
pub fn encode<M: Message>(codec: Codec, message: &M) -> Bytes {
    let mut buffer = BytesMut::new();
    encode_into(codec, message, &mut buffer);
    buffer.freeze()
}

/// Decodes one bare message. Absent fields have their default, as in proto3; an empty JSON body is
/// the empty message.
///
/// # Errors
/// The bytes are too many or not such a message.
pub fn decode<M: Message>(codec: Codec, bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLong { bytes: bytes.len() });
    }
    match codec {
        Codec::Json if bytes.trim_ascii().is_empty() => Ok(M::default()),
        Codec::Json => serde_json::from_slice(bytes).map_err(DecodeError::Json),
        Codec::Proto => M::decode(bytes).map_err(DecodeError::Proto),
    }
}

fn encode_into<M: Message>(codec: Codec, message: &M, buffer: &mut BytesMut) {
    match codec {
        Codec::Json => {
            use bytes::BufMut as _;
            serde_json::to_writer((&mut *buffer).writer(), message)
                .expect("our messages have text keys only, and a buffer takes every write");
        }
        Codec::Proto => {
            buffer.reserve(message.encoded_len());
            message.encode(buffer).expect("a growing buffer has room for every message");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::{DataEvent, ProcessEvent, StartResponse};
    use super::*;

    fn output(bytes: &[u8]) -> StartResponse {
        let data = DataEvent { stdout: Some(bytes.to_vec()), ..DataEvent::default() };
        StartResponse { event: Some(ProcessEvent { data: Some(data), ..ProcessEvent::default() }) }
    }

    #[test]
    fn a_message_reads_back_in_both_codecs() {
        for codec in [Codec::Json, Codec::Proto] {
            let message = output(b"\xff\x00hello");
            let bytes = encode(codec, &message);
            assert_eq!(decode::<StartResponse>(codec, &bytes).unwrap(), message);
        }
    }

    #[test]
    fn content_types_are_read_with_parameters_and_in_any_case() {
        for known in ContentType::ALL {
            assert_eq!(ContentType::parse(known.as_str()), Some(known));
        }
        let json = ContentType::parse("Application/JSON; charset=utf-8");
        assert_eq!(json, Some(ContentType { codec: Codec::Json, shape: Shape::Unary }));
        assert_eq!(ContentType::parse("application/grpc"), None);
        assert_eq!(ContentType::parse(""), None);
    }

    #[test]
    fn unknown_fields_are_ignored_and_wrong_types_are_the_callers_fault() {
        let json = br#"{"event":{"future":{"deep":[1,2]}},"x":null}"#;
        assert!(decode::<StartResponse>(Codec::Json, json).is_ok());
        let error = decode::<StartResponse>(Codec::Json, br#"{"event":7}"#).unwrap_err();
        assert_eq!(ConnectError::from(error).code, Code::InvalidArgument);
    }

    #[test]
    fn json_that_is_too_deep_or_too_long_is_refused_without_a_crash() {
        let deep = format!("{{\"event\":{}", "{\"event\":".repeat(200_000));
        assert!(decode::<StartResponse>(Codec::Json, deep.as_bytes()).is_err());
        let long = vec![b' '; MAX_MESSAGE_BYTES + 1];
        let error = decode::<StartResponse>(Codec::Json, &long).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }));
    }
}
