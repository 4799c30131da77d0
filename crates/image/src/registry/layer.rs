//! One layer on its way from a registry into the store.
//!
//! ```text
//! registry ─▶ pipe ─▶ size, digest ─▶ unpacked ─▶ size, diff id ─▶ Layers::add
//!  (async)   bounded   (blocking, from here on)
//! ```
//!
//! The end of the stream is only an end when everything has been found to be as it was said: else the
//! last read fails, and nothing that reads to the end has anything to keep.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use courier_archive::{Decompressed, decompress};
use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::digest::BlobDigest;
use super::error::Lie;

/// Pieces that wait between network and disk: of at most 64 KiB each.
const PIECES: usize = 16;
/// Most bytes that are read only to learn whether a layer that could not be unpacked is the one that
/// was asked for: whose fault it was is worth that much.
const SETTLING_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one read there.
const SETTLING_READ: usize = 64 * 1024;

/// What a layer was said to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    /// Of the bytes that are sent.
    pub(super) digest: BlobDigest,
    /// How many they are.
    pub(super) size: u64,
    /// Of what they unpack to.
    pub(super) diff_id: BlobDigest,
}

/// What was found out about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not what was said.
    Lie(Lie),
    /// It unpacks to more than the image may have.
    TooLarge,
}

/// What comes through the pipe.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The end of the pipe that takes what the registry sends. Dropped without [`Self::end`], it breaks
/// the stream off.
#[derive(Debug)]
pub(super) struct Feed(mpsc::Sender<Piece>);

impl Feed {
    /// Passes on a piece; false when nobody reads any more.
    pub(super) async fn send(&self, bytes: Bytes) -> bool {
        self.0.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// That was all of it.
    pub(super) async fn end(self) {
        // Who reads no more has a reason, and tells it.
        drop(self.0.send(Piece::End).await);
    }
}

/// What was found out, for whoever fed the stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Fault>>>);

impl Verdict {
    pub(super) fn take(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fault(&self, fault: Fault) -> io::Error {
        // What was found first is why.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        not_as_said()
    }
}

fn not_as_said() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the layer is not what was said")
}

/// How many bytes the image's layers may still unpack to.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A pipe for a layer: what feeds it, and what reads it in a thread that may block.
pub(super) fn pipe(said: Said, budget: Budget) -> (Feed, Sent, Verdict) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let verdict = Verdict::default();
    let arrival = Arrival {
        receiver,
        piece: Bytes::new(),
        state: State::Coming,
        hash: Sha256::new(),
        length: 0,
        said,
        verdict: verdict.clone(),
    };
    let arrival = Shared(Arc::new(Mutex::new(arrival)));
    (Feed(sender), Sent { arrival, said, budget, verdict: verdict.clone() }, verdict)
}

/// A layer as it was sent, not yet read.
#[derive(Debug)]
pub(super) struct Sent {
    arrival: Shared,
    said: Said,
    budget: Budget,
    verdict: Verdict,
}

impl Sent {
    /// Gives the unpacked layer to whoever reads it to its end. Blocks.
    pub(super) fn read<T, E: From<io::Error>>(
        self,
        read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
    ) -> Result<T, E> {
        let unpacked = decompress(self.arrival.clone()).map_err(|error| {
            self.arrival.settle();
            E::from(io::Error::other(error))
        })?;
        let Self { arrival, said, budget, verdict } = self;
        let mut verified = Verified {
            unpacked,
            arrival: arrival.clone(),
            hash: Some(Sha256::new()),
            taken: 0,
            said,
            budget,
            verdict,
        };
        let outcome = read(&mut verified);
        let whole = outcome.is_err() || verified.hash.is_none();
        if outcome.is_err() {
            verified.budget.give_back(verified.taken);
            arrival.settle();
        }
        if whole {
            outcome
        } else {
            Err(io::Error::other("the layer was not read to its end").into())
        }
    }
}

/// Whether there is more to come. An error stays one, however often it is asked for.
#[derive(Clone, Copy)]
enum State {
    Coming,
    Whole,
    Broken,
}

/// What came so far.
struct Arrival {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
    state: State,
    hash: Sha256,
    length: u64,
    said: Said,
    verdict: Verdict,
}

impl Arrival {
    /// The next bytes, or an error where the connection broke off or the bytes are not those that
    /// were said.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.state {
                State::Coming => {}
                State::Whole => return Ok(0),
                State::Broken => return Err(not_as_said()),
            }
            self.state = State::Broken;
            self.state = match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.take(bytes)?,
                Some(Piece::End) => self.end()?,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let piece = self.piece.split_to(buffer.len().min(self.piece.len()));
        for (to, from) in buffer.iter_mut().zip(&piece) {
            *to = *from;
        }
        Ok(piece.len())
    }

    fn take(&mut self, bytes: Bytes) -> io::Result<State> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.said.size {
            let sent = format!("at least {}", self.length);
            return Err(self.verdict.fault(Fault::Lie(Lie::Size { said: self.said.size, sent })));
        }
        self.hash.update(&bytes);
        self.piece = bytes;
        Ok(State::Coming)
    }

    fn end(&mut self) -> io::Result<State> {
        let sent = BlobDigest::of_hash(std::mem::take(&mut self.hash));
        let Said { digest: asked, size: said, diff_id: _ } = self.said;
        let lie = if self.length != said {
            Lie::Size { said, sent: self.length.to_string() }
        } else if sent != asked {
            Lie::Digest { asked, sent }
        } else {
            return Ok(State::Whole);
        };
        Err(self.verdict.fault(Fault::Lie(lie)))
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Arrival>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Reads what is left, so that it is known whether these were the right bytes.
    fn settle(&self) {
        let mut arrival = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if arrival.said.size.saturating_sub(arrival.length) > SETTLING_MAX {
            return;
        }
        let mut buffer = [0; SETTLING_READ];
        // What is met here is in the verdict, or is what the feeding side met.
        while matches!(arrival.read(&mut buffer), Ok(1..)) {}
    }
}

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

/// The unpacked layer, whose last read tells whether all of it was as it was said.
struct Verified {
    unpacked: Decompressed<Shared>,
    arrival: Shared,
    /// `None` when the end was reached and all is well.
    hash: Option<Sha256>,
    taken: u64,
    said: Said,
    budget: Budget,
    verdict: Verdict,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.unpacked.read(buffer)?;
        let Some(hash) = &mut self.hash else { return Ok(0) };
        if count == 0 {
            return self.end();
        }
        if !self.budget.take(count as u64) {
            return Err(self.verdict.fault(Fault::TooLarge));
        }
        self.taken = self.taken.saturating_add(count as u64);
        hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Verified {
    fn end(&mut self) -> io::Result<usize> {
        // What stands behind a compressed stream is of the bytes that the registry sends, too.
        io::copy(&mut self.arrival, &mut io::sink())?;
        let said = self.said.diff_id;
        let unpacked = self.hash.take().map(BlobDigest::of_hash);
        match unpacked.filter(|unpacked| *unpacked != said) {
            None => Ok(0),
            Some(unpacked) => {
                self.hash = Some(Sha256::new());
                Err(self.verdict.fault(Fault::Lie(Lie::DiffId { said, unpacked })))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const BUDGET: u64 = 1024;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn said(sent: &[u8], unpacked: &[u8]) -> Said {
        let size = sent.len() as u64;
        Said { digest: BlobDigest::of(sent), size, diff_id: BlobDigest::of(unpacked) }
    }

    /// What a reader gets of these bytes, in pieces of 7, and what was found out.
    async fn through(
        said: Said,
        sent: &[u8],
        budget: &Budget,
    ) -> (io::Result<Vec<u8>>, Option<Fault>) {
        let (feed, stream, verdict) = pipe(said, budget.clone());
        let read = |from: &mut dyn Read| {
            let mut all = Vec::new();
            from.read_to_end(&mut all).map(|_count| all)
        };
        let reading = tokio::task::spawn_blocking(move || stream.read::<_, io::Error>(read));
        let mut all_taken = true;
        for piece in sent.chunks(7) {
            all_taken = all_taken && feed.send(Bytes::copy_from_slice(piece)).await;
        }
        feed.end().await;
        (reading.await.unwrap(), verdict.take())
    }

    #[tokio::test]
    async fn a_layer_that_is_what_was_said_comes_out_whole() {
        let budget = Budget::new(BUDGET);
        for sent in [gzip(b"layer"), b"layer".to_vec()] {
            let (read, fault) = through(said(&sent, b"layer"), &sent, &budget).await;
            assert_eq!((read.unwrap().as_slice(), fault), (&b"layer"[..], None));
        }
        assert_eq!(budget.0.load(Ordering::Relaxed), BUDGET - 10);
    }

    #[tokio::test]
    async fn a_lie_is_told_as_such_and_never_comes_out_as_a_whole_layer() {
        let good = gzip(b"layer");
        let told = said(&good, b"layer");
        let budget = Budget::new(BUDGET);
        let mut other = good.clone();
        *other.last_mut().unwrap() ^= 1;
        let lies = [
            (told, other.clone(), Lie::Digest { asked: told.digest, sent: BlobDigest::of(&other) }),
            (
                told,
                good[..good.len() - 1].to_vec(),
                Lie::Size { said: told.size, sent: (told.size - 1).to_string() },
            ),
            (
                Said { size: told.size - 1, ..told },
                good.clone(),
                Lie::Size { said: told.size - 1, sent: format!("at least {}", told.size) },
            ),
            (
                Said { diff_id: BlobDigest::of(b"other"), ..told },
                good.clone(),
                Lie::DiffId { said: BlobDigest::of(b"other"), unpacked: told.diff_id },
            ),
        ];
        for (told, sent, lie) in lies {
            let (read, fault) = through(told, &sent, &budget).await;
            assert!(read.is_err(), "{lie}");
            assert_eq!(fault, Some(Fault::Lie(lie)));
        }
        assert_eq!(budget.0.load(Ordering::Relaxed), BUDGET);
    }

    #[tokio::test]
    async fn a_layer_that_unpacks_to_too_much_is_cut_off() {
        let zeros = vec![0; 1024 * 1024];
        let sent = gzip(&zeros);
        let (read, fault) = through(said(&sent, &zeros), &sent, &Budget::new(BUDGET)).await;
        assert!(read.is_err());
        assert_eq!(fault, Some(Fault::TooLarge));
    }

    #[tokio::test]
    async fn a_connection_that_ends_early_is_no_end_of_the_layer() {
        let sent = b"layer";
        let (feed, stream, verdict) = pipe(said(sent, sent), Budget::new(BUDGET));
        let read = |from: &mut dyn Read| io::copy(from, &mut io::sink());
        let reading = tokio::task::spawn_blocking(move || stream.read::<_, io::Error>(read));
        // All bytes came, but nobody said so.
        assert!(feed.send(Bytes::from_static(sent)).await);
        drop(feed);
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(verdict.take(), None);
    }

    #[tokio::test]
    async fn who_does_not_read_to_the_end_gets_nothing() {
        let sent = b"layer";
        let (feed, stream, _verdict) = pipe(said(sent, sent), Budget::new(BUDGET));
        let read = |from: &mut dyn Read| from.read_exact(&mut [0; 5]);
        let reading = tokio::task::spawn_blocking(move || stream.read::<_, io::Error>(read));
        feed.send(Bytes::from_static(sent)).await;
        feed.end().await;
        assert!(reading.await.unwrap().is_err());
    }
}
