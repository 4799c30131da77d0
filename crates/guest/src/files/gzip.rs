//! gzip both ways, in bounded pieces.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

/// Window of gzip: 32 KiB.
const WINDOW_BITS: u8 = 15;

/// Bytes that come out at once. However far a body expands, no more of it is held.
const PIECE: usize = 256 * 1_024;

/// Why a body is no gzip.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum GzipError {
    /// Its bytes are none.
    #[error("the body is not valid gzip")]
    Malformed,
    /// It ends within a member.
    #[error("the gzip body ended before its end mark")]
    CutOff,
}

/// Expands a gzip body of one or more members.
#[derive(Debug)]
pub(crate) struct Gunzip {
    inflate: Decompress,
    /// Compressed bytes not taken yet.
    input: Bytes,
    /// Whether the last member is whole and no other has begun.
    is_between: bool,
    is_first: bool,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            inflate: Decompress::new_gzip(WINDOW_BITS),
            input: Bytes::new(),
            is_between: true,
            is_first: true,
        }
    }
}

impl Gunzip {
    /// Takes in compressed bytes, once [`Self::next_piece`] has given everything of the last ones.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.input = bytes;
    }

    /// More expanded bytes; none when more compressed ones are needed.
    ///
    /// # Errors
    /// [`GzipError::Malformed`].
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, GzipError> {
        let mut piece = Vec::with_capacity(PIECE);
        while piece.len() < PIECE {
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            if !self.input.is_empty() && self.is_between {
                self.is_between = false;
                self.is_first = false;
            }
            let status = self
                .inflate
                .decompress_vec(&self.input, &mut piece, FlushDecompress::None)
                .map_err(|_malformed| GzipError::Malformed)?;
            let taken = self.inflate.total_in() - before_in;
            let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(self.input.len());
            let _taken = self.input.split_to(taken);
            if status == Status::StreamEnd {
                // Another member may follow.
                self.inflate.reset(true);
                self.inflate = Decompress::new_gzip(WINDOW_BITS);
                self.is_between = true;
                if self.input.is_empty() {
                    break;
                }
            } else if taken == 0 && self.inflate.total_out() == before_out {
                break;
            }
        }
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    /// Says whether the bytes pushed were whole members.
    ///
    /// # Errors
    /// [`GzipError::CutOff`].
    pub(crate) fn finish(&self) -> Result<(), GzipError> {
        if self.is_between && !self.is_first { Ok(()) } else { Err(GzipError::CutOff) }
    }
}

/// Compresses one stream. Fast rather than small: the way is short.
#[derive(Debug)]
pub(crate) struct Gzip {
    deflate: Compress,
}

impl Default for Gzip {
    fn default() -> Self {
        Self { deflate: Compress::new_gzip(Compression::fast(), WINDOW_BITS) }
    }
}

/// Whether more bytes follow the ones given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// More may follow.
    Middle,
    /// These are the last.
    End,
}

impl Gzip {
    /// Compresses `bytes` and appends what comes out to `output`.
    ///
    /// # Errors
    /// [`GzipError::Malformed`], should the compressor fail, which it does on no input.
    pub(crate) fn compress(
        &mut self,
        bytes: &[u8],
        position: Position,
        output: &mut Vec<u8>,
    ) -> Result<(), GzipError> {
        let flush = match position {
            Position::Middle => FlushCompress::None,
            Position::End => FlushCompress::Finish,
        };
        let mut rest = bytes;
        loop {
            // More than deflate ever makes of as many bytes, so that one turn is usually enough.
            output.reserve(rest.len() + rest.len() / 8 + 256);
            let before = self.deflate.total_in();
            let status = self
                .deflate
                .compress_vec(rest, output, flush)
                .map_err(|_failed| GzipError::Malformed)?;
            let taken = usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            let is_done = match position {
                Position::Middle => rest.is_empty(),
                Position::End => status == Status::StreamEnd,
            };
            if is_done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        let mut gzip = Gzip::default();
        for piece in bytes.chunks(70_000) {
            gzip.compress(piece, Position::Middle, &mut output).unwrap();
        }
        gzip.compress(&[], Position::End, &mut output).unwrap();
        output
    }

    fn gunzip(bytes: &[u8], step: usize) -> Result<Vec<u8>, GzipError> {
        let mut gunzip = Gunzip::default();
        let mut output = Vec::new();
        for piece in bytes.chunks(step) {
            gunzip.push(Bytes::copy_from_slice(piece));
            while let Some(piece) = gunzip.next_piece()? {
                assert!(piece.len() <= PIECE);
                output.extend_from_slice(&piece);
            }
        }
        gunzip.finish()?;
        Ok(output)
    }

    #[test]
    fn bytes_come_back_from_members_of_any_size_in_pieces_of_any_size() {
        let noise: Vec<u8> =
            (0_u32..300_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for bytes in [&b""[..], b"hello", &noise, &vec![0; 3 << 20]] {
            let packed = gzip(bytes);
            for step in [1_000, usize::MAX] {
                assert_eq!(gunzip(&packed, step).unwrap(), bytes);
            }
        }
        let members = [gzip(b"one,"), gzip(b""), gzip(b"two")].concat();
        for step in 1..members.len() {
            assert_eq!(gunzip(&members, step).unwrap(), b"one,two", "in pieces of {step}");
        }
    }

    #[test]
    fn what_is_no_gzip_and_what_ends_early_is_refused() {
        assert_eq!(gunzip(b"not gzip at all", 100), Err(GzipError::Malformed));
        let packed = gzip(b"hello hello hello");
        for length in 0..packed.len() {
            assert!(gunzip(&packed[..length], 100).is_err(), "at {length}");
        }
        let mut broken = packed.clone();
        let last = broken.len() - 6;
        broken[last] ^= 1;
        assert_eq!(gunzip(&broken, 100), Err(GzipError::Malformed), "the checksum counts");
    }
}
