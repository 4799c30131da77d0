//! Content codings are undone where values are looked for in an answer.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderMap};

/// A decoder, fed piece by piece.
pub(super) enum Decoder {
    /// `gzip`.
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// `deflate`, which is zlib's format (RFC 9110, section 8.4.1.2).
    Deflate(ZlibDecoder<Vec<u8>>),
}

/// A coding that cannot be undone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server encoded its answer in a way that cannot be searched for secrets")]
pub(super) struct UnknownCoding;

impl Decoder {
    /// The decoder for an answer; `None` where nothing is encoded.
    ///
    /// # Errors
    /// Another coding, or several.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, UnknownCoding> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) {
                Err(UnknownCoding)
            } else {
                Ok(None)
            };
        };
        match value.as_bytes().to_ascii_lowercase().trim_ascii() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Self::Gzip(MultiGzDecoder::new(Vec::new())))),
            b"deflate" => Ok(Some(Self::Deflate(ZlibDecoder::new(Vec::new())))),
            _ => Err(UnknownCoding),
        }
    }

    /// Decodes a piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(piece)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// Checks that nothing is missing, and gives the rest.
    pub(super) fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}
