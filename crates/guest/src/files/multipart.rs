//! `multipart/form-data`, piece by piece and without copying what is inside: bytes are pushed as
//! they come, events are taken as they are whole.
//!
//! ```text
//! Preamble ──delimiter──▶ Delimited ──CRLF──▶ Head ──▶ Content ──delimiter──▶ Delimited
//!                             └────── "--" ──▶ Epilogue
//! ```
//!
//! What is held is bounded: a head, or as much as may be the beginning of a delimiter, and the one
//! piece that was pushed last.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use thiserror::Error;

use super::disposition::{self, Disposition};

/// Longest boundary; RFC 2046 allows 70, some clients send more.
const BOUNDARY_MAX: usize = 256;

/// Longest head of a part: a path takes up to 12 KiB when every byte of it is escaped.
const HEAD_MAX: usize = 16_384;

/// Most blanks between a delimiter and the end of its line.
const PADDING_MAX: usize = 64;

/// Why bytes are no `multipart/form-data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum MultipartError {
    /// `Content-Type` has no usable boundary.
    #[error("the content type has no boundary of 1 to {BOUNDARY_MAX} characters")]
    Boundary,
    /// A part's head is too long.
    #[error("the head of a part is longer than {HEAD_MAX} bytes")]
    LongHead,
    /// A part's head is not one.
    #[error("the head of a part is malformed: it needs a Content-Disposition with a name")]
    Head,
    /// Something else than a line's end or `--` follows a delimiter.
    #[error("a delimiter of the multipart body is malformed")]
    Delimiter,
    /// The bytes end before the last delimiter.
    #[error("the multipart body ended before its last delimiter")]
    CutOff,
}

/// What comes out, in order: for each part a `Part`, its `Data`, and `PartEnd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Part(Disposition),
    /// More of its content; never empty.
    Data(Bytes),
    /// It is whole.
    PartEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    Delimited,
    Head,
    Content,
    Epilogue,
}

/// The parser.
#[derive(Debug)]
pub(crate) struct Multipart {
    delimiter: Finder<'static>,
    state: State,
    held: Bytes,
}

impl Multipart {
    /// A parser for a body with that `Content-Type`.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub(crate) fn new(content_type: &str) -> Result<Self, MultipartError> {
        let (_, parameters) = disposition::parse(content_type).ok_or(MultipartError::Boundary)?;
        let boundary = parameters.into_iter().find(|(name, _)| name == "boundary");
        let (_, boundary) = boundary.ok_or(MultipartError::Boundary)?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_MAX {
            return Err(MultipartError::Boundary);
        }
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first delimiter may stand at the very beginning, without a line before it.
        let held = Bytes::from_static(b"\r\n");
        Ok(Self { delimiter, state: State::Preamble, held })
    }

    /// Takes in the next bytes.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if self.state == State::Epilogue || bytes.is_empty() {
            return;
        }
        if self.held.is_empty() {
            self.held = bytes;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.held.len() + bytes.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(&bytes);
        self.held = joined.freeze();
    }

    /// The next event; none when more bytes are needed.
    ///
    /// # Errors
    /// [`MultipartError`]; nothing can be parsed after it.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Preamble => match self.delimiter.find(&self.held) {
                    Some(at) => self.pass_delimiter(at),
                    None => {
                        let keep = self.begun_delimiter();
                        let _skipped = self.held.split_to(self.held.len() - keep);
                        return Ok(None);
                    }
                },
                State::Delimited => {
                    if !self.pass_line_end()? {
                        return Ok(None);
                    }
                }
                State::Head => return self.take_head(),
                State::Content => match self.delimiter.find(&self.held) {
                    Some(0) => {
                        self.pass_delimiter(0);
                        return Ok(Some(Event::PartEnd));
                    }
                    Some(at) => return Ok(Some(Event::Data(self.held.split_to(at)))),
                    None => {
                        let whole = self.held.len() - self.begun_delimiter();
                        let data = self.held.split_to(whole);
                        return Ok((!data.is_empty()).then_some(Event::Data(data)));
                    }
                },
                State::Epilogue => {
                    self.held.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Says whether the bytes pushed were all.
    ///
    /// # Errors
    /// [`MultipartError::CutOff`].
    pub(crate) fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Epilogue => Ok(()),
            State::Preamble | State::Delimited | State::Head | State::Content => {
                Err(MultipartError::CutOff)
            }
        }
    }

    fn pass_delimiter(&mut self, at: usize) {
        let _passed = self.held.split_to(at + self.delimiter.needle().len());
        self.state = State::Delimited;
    }

    /// How many bytes at the end may be the beginning of a delimiter.
    fn begun_delimiter(&self) -> usize {
        let needle = self.delimiter.needle();
        let longest = self.held.len().min(needle.len() - 1);
        let tail = self.held.get(self.held.len() - longest..).unwrap_or_default();
        memchr::memchr_iter(b'\r', tail)
            .filter_map(|at| tail.get(at..))
            .find(|begun| needle.starts_with(begun))
            .map_or(0, <[u8]>::len)
    }

    fn pass_line_end(&mut self) -> Result<bool, MultipartError> {
        if self.held.starts_with(b"--") {
            self.state = State::Epilogue;
            return Ok(true);
        }
        let padding = self.held.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match self.held.get(padding..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                // The line's end stays: a head without any line is an empty line right away.
                let _padding = self.held.split_to(padding);
                self.state = State::Head;
                Ok(true)
            }
            [] | [b'\r'] if padding <= PADDING_MAX => Ok(false),
            [b'-'] if padding == 0 => Ok(false),
            _ => Err(MultipartError::Delimiter),
        }
    }

    fn take_head(&mut self) -> Result<Option<Event>, MultipartError> {
        let Some(end) = memchr::memmem::find(&self.held, b"\r\n\r\n") else {
            let is_too_long = self.held.len() > HEAD_MAX;
            return if is_too_long { Err(MultipartError::LongHead) } else { Ok(None) };
        };
        if end > HEAD_MAX {
            return Err(MultipartError::LongHead);
        }
        let head = self.held.split_to(end);
        let _empty_line = self.held.split_to(b"\r\n\r\n".len());
        self.state = State::Content;
        let head = std::str::from_utf8(&head).map_err(|_not_utf8| MultipartError::Head)?;
        let disposition = head
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
            .and_then(|(_, value)| disposition::parse_disposition(value))
            .ok_or(MultipartError::Head)?;
        Ok(Some(Event::Part(disposition)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"preamble\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; \
        filename=\"/a/b.txt\"\r\nContent-Type: text/plain\r\n\r\nhe\r\n--Xllo\r\n\r\n--XX  \r\n\
        content-disposition: form-data; name=\"file\"; filename=\"empty\"\r\n\r\n\r\n--XX--\r\nend";

    /// The filename of a part and its content.
    type Parsed = (Option<String>, Vec<u8>);

    /// Parses a body pushed in pieces of `step` bytes.
    fn parse(body: &[u8], step: usize) -> Result<Vec<Parsed>, MultipartError> {
        let mut parser = Multipart::new("multipart/form-data; boundary=\"XX\"")?;
        let mut parts: Vec<Parsed> = Vec::new();
        let mut ended = 0;
        for piece in body.chunks(step.max(1)) {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(event) = parser.next_event()? {
                match event {
                    Event::Part(disposition) => parts.push((disposition.filename, Vec::new())),
                    Event::Data(bytes) => {
                        assert!(!bytes.is_empty());
                        parts.last_mut().unwrap().1.extend_from_slice(&bytes);
                    }
                    Event::PartEnd => ended += 1,
                }
            }
        }
        parser.finish()?;
        assert_eq!(ended, parts.len());
        Ok(parts)
    }

    #[test]
    fn a_body_parses_alike_however_it_is_cut_into_pieces() {
        for step in 1..=BODY.len() {
            let parts = parse(BODY, step).unwrap();
            assert_eq!(parts.len(), 2, "in pieces of {step}");
            assert_eq!(parts[0], (Some("/a/b.txt".to_owned()), b"he\r\n--Xllo\r\n".to_vec()));
            assert_eq!(parts[1], (Some("empty".to_owned()), Vec::new()));
        }
    }

    #[test]
    fn a_body_that_ends_early_is_cut_off_wherever_it_ends() {
        let end = BODY.len() - b"--\r\nend".len();
        for length in 0..end {
            assert_eq!(parse(&BODY[..length], 7), Err(MultipartError::CutOff), "at {length}");
        }
        assert_eq!(parse(b"", 1), Err(MultipartError::CutOff));
    }

    #[test]
    fn malformed_bodies_are_refused() {
        assert_eq!(parse(b"--XXY\r\n", 9), Err(MultipartError::Delimiter));
        assert_eq!(parse(b"--XX\r\n\r\ndata\r\n--XX--", 9), Err(MultipartError::Head));
        assert_eq!(parse(b"--XX\r\nX: y\r\n\r\ndata\r\n--XX--", 9), Err(MultipartError::Head));
        let long = [b"--XX\r\n".as_slice(), &b"x".repeat(HEAD_MAX + 1)].concat();
        assert_eq!(parse(&long, 100), Err(MultipartError::LongHead));
        assert!(Multipart::new("multipart/form-data").is_err());
        assert!(Multipart::new("multipart/form-data; boundary=").is_err());
    }

    #[test]
    fn a_large_piece_goes_through_uncopied() {
        let mut parser = Multipart::new("multipart/form-data; boundary=XX").unwrap();
        parser.push(Bytes::from_static(b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n"));
        assert!(matches!(parser.next_event(), Ok(Some(Event::Part(_)))));
        let piece = Bytes::from(vec![7; 100_000]);
        parser.push(piece.clone());
        let Ok(Some(Event::Data(data))) = parser.next_event() else { panic!("no data") };
        assert_eq!(data.as_ptr(), piece.as_ptr());
        assert_eq!(data.len(), piece.len());
    }
}
