//! A body that streams in, read by blocking code.

use std::io::{self, Read};

use bytes::Bytes;
use courier_client::ClientError;
use courier_protocol::node::Body;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

/// Pieces that wait for the reader: with the largest frame of a guest's connection, 8 MiB.
const PIECES: usize = 8;

/// Longest wait for the next piece. The guest looks through its whole disk between two of them.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// What goes through a pipe.
enum Piece {
    Data(Bytes),
    /// The body came whole: without this, the end of the pieces is a broken one.
    End,
}

/// The reader's side.
pub(super) struct Pipe {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    is_whole: bool,
}

/// The body's side.
pub(super) struct Pump(mpsc::Sender<Piece>);

/// A new pipe.
pub(super) fn pipe() -> (Pump, Pipe) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (Pump(sender), Pipe { pieces, piece: Bytes::new(), is_whole: false })
}

impl Pump {
    /// Sends a body to its end, or until nobody reads any more, which the reader explains.
    ///
    /// # Errors
    /// The body broke off; the reader has an error, too.
    pub(super) async fn run(self, mut body: Body) -> Result<(), ClientError> {
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let frame =
                frame.map_err(|_elapsed| ClientError::Late { what: "a layer", after: SILENCE })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(ClientError::BrokenOff)?;
            let Ok(data) = frame.into_data() else { continue };
            if self.0.send(Piece::Data(data)).await.is_err() {
                return Ok(());
            }
        }
        // Without a reader, nobody needs to know.
        let _gone = self.0.send(Piece::End).await;
        Ok(())
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_whole {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) => self.piece = data,
                Some(Piece::End) => self.is_whole = true,
                None => {
                    let broken = io::ErrorKind::UnexpectedEof;
                    return Err(io::Error::new(broken, "the guest's answer broke off"));
                }
            }
        }
        let length = self.piece.len().min(buffer.len());
        let taken = self.piece.split_to(length);
        if let Some(place) = buffer.get_mut(..length) {
            place.copy_from_slice(&taken);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use courier_protocol::node::BoxError;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    fn body(pieces: Vec<Result<&'static str, &'static str>>) -> Body {
        let frames = pieces.into_iter().map(|piece| match piece {
            Ok(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
            Err(text) => Err(BoxError::from(text)),
        });
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    async fn read(pump: Pump, mut pipe: Pipe, body: Body) -> io::Result<String> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).map(|_length| text)
        });
        // Its error is the reader's as well.
        let _pumped = pump.run(body).await;
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn a_whole_body_is_read_and_a_broken_one_never_looks_whole() {
        let (pump, reader) = pipe();
        let text = read(pump, reader, body(vec![Ok("one"), Ok(""), Ok("two")])).await.unwrap();
        assert_eq!(text, "onetwo");
        let (pump, reader) = pipe();
        let error = read(pump, reader, body(vec![Ok("one"), Err("lost")])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_pump_that_is_dropped_breaks_the_reader() {
        let (pump, mut reader) = pipe();
        drop(pump);
        let read = tokio::task::spawn_blocking(move || reader.read(&mut [0; 8])).await.unwrap();
        assert!(read.is_err());
    }

    #[tokio::test]
    async fn a_reader_that_has_enough_ends_the_pump() {
        let (pump, reader) = pipe();
        drop(reader);
        let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"x"))));
        pump.run(StreamBody::new(endless).boxed_unsync()).await.unwrap();
    }
}
