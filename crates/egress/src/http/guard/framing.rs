//! Where each HTTP/1 request of a stream begins and ends. Pure.
//!
//! ```text
//! Head ──▶ Body ─────────────────────▶ (next) Head
//!   ├────▶ Size ─▶ Data ─▶ Size … End ─▶ (next) Head
//!   └────▶ Upgrade (nothing more, or raw bytes once it was answered)
//! ```
//!
//! What goes out is what came in, byte for byte, as far as it is unambiguous; the first byte that is
//! not ends everything.

use bytes::{Buf, BytesMut};

use super::head::{self, Content, HEAD_MAX, Head, Origin};
use super::violation::Violation;

/// How far a call of [`Framer::advance`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It used all bytes and needs more.
    More,
    /// A message is whole; the next begins with the next call.
    MessageEnd,
    /// The message asks for an upgrade; what follows is not HTTP until [`Framer::refuse_upgrade`].
    Upgrade,
}

/// Follows the requests of one stream.
#[derive(Debug)]
pub(crate) struct Framer {
    origin: Origin,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a head, of which so many bytes were looked at.
    Head { seen: usize, line: usize },
    /// In a body of known length.
    Body { left: u64 },
    /// In the size of a chunk.
    Size { digits: u8, size: u64 },
    /// Behind the CR after a size.
    SizeEnd { size: u64 },
    /// In a chunk.
    Data { left: u64 },
    /// Behind a chunk, before its CR.
    DataCr,
    /// Behind a chunk's CR.
    DataLf,
    /// Behind the last chunk's size line, where trailers would begin.
    EndCr,
    /// Before the very last LF.
    EndLf,
    /// Behind an upgrade request.
    Upgrade,
}

const NEW_HEAD: State = State::Head { seen: 0, line: 0 };
const NEW_SIZE: State = State::Size { digits: 0, size: 0 };

/// Most digits of a chunk's size: a 64-bit number.
const SIZE_DIGITS: u8 = 16;

impl Framer {
    /// At the first byte of a connection.
    pub(crate) const fn new(origin: Origin) -> Self {
        Self { origin, state: NEW_HEAD }
    }

    /// True between two messages, with no byte of the next one seen.
    pub(crate) fn is_between(&self) -> bool {
        self.state == NEW_HEAD
    }

    /// The upgrade did not take place: the next message may begin.
    pub(crate) const fn refuse_upgrade(&mut self) {
        self.state = NEW_HEAD;
    }

    /// Moves what is unambiguous from `input` to `output`, to the end of the message at most.
    pub(crate) fn advance(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Progress, Violation> {
        while !input.is_empty() {
            match self.state {
                State::Head { seen, line } => match scan(input, seen, line)? {
                    Scan::More { seen, line } => {
                        self.state = State::Head { seen, line };
                        return Ok(Progress::More);
                    }
                    Scan::Whole { length } => {
                        let bytes = input.split_to(length);
                        let head = head::judge(&bytes, &self.origin)?;
                        output.extend_from_slice(&bytes);
                        if let Some(progress) = self.begin(&head) {
                            return Ok(progress);
                        }
                    }
                },
                State::Body { left } => {
                    let left = take(input, output, left);
                    self.state = State::Body { left };
                    if left == 0 {
                        return Ok(self.end());
                    }
                }
                State::Data { left } => {
                    let left = take(input, output, left);
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                }
                State::Upgrade => return Err(Violation::AfterUpgrade),
                State::EndLf => {
                    self.chunk_byte(input, output)?;
                    return Ok(self.end());
                }
                State::Size { .. }
                | State::SizeEnd { .. }
                | State::DataCr
                | State::DataLf
                | State::EndCr => self.chunk_byte(input, output)?,
            }
        }
        Ok(Progress::More)
    }

    /// Behind a head.
    const fn begin(&mut self, head: &Head) -> Option<Progress> {
        match head.content {
            Content::None => Some(self.end()),
            Content::Length(left) => {
                self.state = State::Body { left };
                None
            }
            Content::Chunked => {
                self.state = NEW_SIZE;
                None
            }
            Content::Upgrade => {
                self.state = State::Upgrade;
                Some(Progress::Upgrade)
            }
        }
    }

    const fn end(&mut self) -> Progress {
        self.state = NEW_HEAD;
        Progress::MessageEnd
    }

    /// One byte of what stands between chunks.
    fn chunk_byte(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<(), Violation> {
        let Some(&byte) = input.first() else { return Ok(()) };
        self.state = match (self.state, byte) {
            (State::Size { digits, size }, b'\r') if digits > 0 => State::SizeEnd { size },
            (State::Size { digits, size }, byte) if digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(Violation::ChunkSize)?;
                State::Size { digits: digits + 1, size: (size << 4) | u64::from(digit) }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::EndCr,
            (State::SizeEnd { size }, b'\n') if size <= head::LENGTH_MAX => {
                State::Data { left: size }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => NEW_SIZE,
            (State::EndCr, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => NEW_HEAD,
            (State::EndCr, _) => return Err(Violation::Trailers),
            (State::DataCr | State::DataLf | State::EndLf, _) => return Err(Violation::ChunkEnd),
            _ => return Err(Violation::ChunkSize),
        };
        output.extend_from_slice(&[byte]);
        input.advance(1);
        Ok(())
    }
}

/// Moves at most `left` bytes; says how many are left then.
fn take(input: &mut BytesMut, output: &mut BytesMut, left: u64) -> u64 {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    let bytes = input.split_to(count);
    if output.is_empty() {
        // Long bodies are not copied.
        *output = bytes;
    } else {
        output.extend_from_slice(&bytes);
    }
    left.saturating_sub(count as u64)
}

enum Scan {
    /// No end yet; so far was looked, and so many bytes of them are of the current line.
    More { seen: usize, line: usize },
    /// The head has that length.
    Whole { length: usize },
}

/// Looks for the empty line that ends a head, and for bytes that no head has.
fn scan(input: &[u8], seen: usize, line: usize) -> Result<Scan, Violation> {
    let mut line = line;
    let mut previous = seen.checked_sub(1).and_then(|at| input.get(at)).copied();
    for (at, &byte) in input.iter().enumerate().skip(seen) {
        if at >= HEAD_MAX {
            return Err(Violation::HeadTooLong);
        }
        match (previous, byte) {
            // An empty line; not the first, which would be neither a head nor the end of one.
            (Some(b'\r'), b'\n') if line == 0 && at > 1 => {
                return Ok(Scan::Whole { length: at + 1 });
            }
            (Some(b'\r'), b'\n') if line == 0 => return Err(Violation::RequestLine),
            (Some(b'\r'), b'\n') => line = 0,
            (Some(b'\r'), _) => return Err(Violation::BareCarriageReturn),
            (_, b'\n') => return Err(Violation::BareLineFeed),
            (_, b'\r') => {}
            (_, byte) if byte != b'\t' && byte.is_ascii_control() => {
                return Err(Violation::ControlCharacter);
            }
            (_, _) => line += 1,
        }
        previous = Some(byte);
    }
    Ok(Scan::More { seen: input.len(), line })
}
