//! Paths of requests in the one form in which rules see them.
//!
//! What two parsers could read in two ways is refused, not repaired: dot segments (encoded ones and
//! those with parameters as well), empty segments, encoded slashes, backslashes and NULs, encoded
//! twice or not.

use std::fmt::Write as _;

/// Why a path has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not in origin form (RFC 9112, section 3.2.1).
    #[error("the path does not begin with '/'")]
    NoSlash,
    /// A byte that no path has.
    #[error("the path has a character that must be percent-encoded")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path has a '%' that begins no encoded byte")]
    Percent,
    /// An encoded byte that some servers take for the structure of the path.
    #[error("the path has an encoded slash, backslash, control character or '%' before such a one")]
    Encoded,
    /// Encoded bytes that are no text; some decoders read ASCII out of such.
    #[error("the path's encoded bytes are not UTF-8")]
    NotText,
    /// `.` or `..`, in whatever form.
    #[error("the path has a dot segment")]
    Dots,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
}

/// The canonical form of a request's path: the query is cut off, whatever can stand for itself is
/// decoded, the rest is encoded with capital digits.
///
/// # Errors
/// Two parsers could disagree about the path.
pub fn canonical(raw: &str) -> Result<String, PathError> {
    let raw = raw.split_once('?').map_or(raw, |(path, _)| path);
    if !raw.starts_with('/') {
        return Err(PathError::NoSlash);
    }
    let decoded = decode(raw)?;
    let whole: Vec<u8> = decoded.iter().map(|piece| piece.byte()).collect();
    if is_dangerous_twice(&whole) {
        return Err(PathError::Encoded);
    }
    // What is left of the encoding must be text, or a lenient decoder reads other bytes than we.
    if String::from_utf8(whole).is_err() {
        return Err(PathError::NotText);
    }
    let path = encode(&decoded);
    check_segments(&path)?;
    Ok(path)
}

/// One byte of a path.
#[derive(Clone, Copy)]
enum Piece {
    /// Stands for itself.
    Plain(u8),
    /// Stays encoded.
    Encoded(u8),
}

impl Piece {
    const fn byte(self) -> u8 {
        match self {
            Self::Plain(byte) | Self::Encoded(byte) => byte,
        }
    }
}

fn decode(raw: &str) -> Result<Vec<Piece>, PathError> {
    let mut pieces = Vec::with_capacity(raw.len());
    let mut bytes = raw.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        bytes = rest;
        if byte != b'%' {
            if !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'#') {
                return Err(PathError::Character);
            }
            pieces.push(Piece::Plain(byte));
            continue;
        }
        let (byte, rest) = encoded_byte(bytes).ok_or(PathError::Percent)?;
        bytes = rest;
        if is_structure(byte) {
            return Err(PathError::Encoded);
        }
        pieces.push(if stands_for_itself(byte) {
            Piece::Plain(byte)
        } else {
            Piece::Encoded(byte)
        });
    }
    Ok(pieces)
}

/// The byte of two hexadecimal digits, and what comes behind them.
fn encoded_byte(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = digits.iter().try_fold(0, |sum, byte| Some(sum * 16 + digit(*byte)?))?;
    Some((u8::try_from(byte).ok()?, rest))
}

/// The bytes with every encoded one decoded; what encodes nothing stays as it is. For looking into
/// a target, never for deciding on one.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        let encoded = if byte == b'%' { encoded_byte(rest) } else { None };
        let (byte, rest) = encoded.unwrap_or((byte, rest));
        out.push(byte);
        bytes = rest;
    }
    out
}

/// Bytes that servers take for the structure of a path, or for its end.
const fn is_structure(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f)
}

/// True when decoding the decoded path once more would make structure or dots, or a third encoding.
/// It is asked of the whole path, since the digits of the second encoding may be encoded themselves.
fn is_dangerous_twice(decoded: &[u8]) -> bool {
    let mut behind = decoded.split(|byte| *byte == b'%').skip(1);
    behind.any(|rest| {
        encoded_byte(rest)
            .is_some_and(|(byte, _)| is_structure(byte) || matches!(byte, b'.' | b'%'))
    })
}

/// The characters that a path pattern can have, without the slash: a rule about one of them must
/// hold for its encoded form too.
const fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'*'
        )
}

fn encode(pieces: &[Piece]) -> String {
    let mut path = String::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Plain(byte) => path.push(char::from(*byte)),
            Piece::Encoded(byte) => {
                // Writing to a string does not fail.
                let _infallible = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

fn check_segments(path: &str) -> Result<(), PathError> {
    if path.contains("//") {
        return Err(PathError::EmptySegment);
    }
    // Some servers cut parameters off a segment before they look at its dots.
    let name = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if path.split('/').any(name) { Err(PathError::Dots) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_stand_for_itself_does_and_the_query_is_no_part() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/b?x=/../y", "/a/b"),
            ("/%61/%7eb", "/a/~b"),
            ("/a%20b/%c3%a9", "/a%20b/%C3%A9"),
            ("/100%25/%2541", "/100%25/%2541"),
            ("/a%3Bb%24", "/a;b$"),
            ("/.well-known/...", "/.well-known/..."),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        for (raw, error) in [
            ("", PathError::NoSlash),
            ("*", PathError::NoSlash),
            ("http://a.test/", PathError::NoSlash),
            ("?/a", PathError::NoSlash),
            ("/a\\b", PathError::Character),
            ("/a b", PathError::Character),
            ("/é", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a%", PathError::Percent),
            ("/a%2", PathError::Percent),
            ("/a%g0", PathError::Percent),
            ("/a%+1", PathError::Percent),
            ("/a%2fb", PathError::Encoded),
            ("/a%5Cb", PathError::Encoded),
            ("/a%00", PathError::Encoded),
            ("/a%0d%0a", PathError::Encoded),
            ("/a%252e%252e/b", PathError::Encoded),
            ("/a%252fb", PathError::Encoded),
            ("/a%25252fb", PathError::Encoded),
            ("/a/%252%65%25%32e/b", PathError::Encoded),
            ("/a%25%32%66b", PathError::Encoded),
            ("/%c0%ae%c0%ae/", PathError::NotText),
            ("/%ff", PathError::NotText),
            ("/a/../b", PathError::Dots),
            ("/a/%2e%2E/b", PathError::Dots),
            ("/a/.", PathError::Dots),
            ("/a/..;x=1/b", PathError::Dots),
            ("/a/..%3b/b", PathError::Dots),
            ("//a", PathError::EmptySegment),
            ("/a//b", PathError::EmptySegment),
        ] {
            assert_eq!(canonical(raw), Err(error), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(raw in "/([a-c/.%25eEfF;]|%25|%3[0-9]|%[0-9a-fA-F]{2}){0,20}") {
            if let Ok(path) = canonical(&raw) {
                prop_assert_eq!(canonical(&path), Ok(path.clone()));
                prop_assert!(path.len() <= raw.len());
            }
        }
    }
}
