//! Decoys without a protocol.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Call;
use crate::rig::journal::Event;

/// Bytes read at once.
const PIECE: usize = 64 << 10;
/// Bytes of a piece that the journal keeps.
const KEPT: usize = 4 << 10;

/// Returns what it gets.
pub(super) async fn echo<S>(mut stream: S, call: &Call) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut piece = vec![0; PIECE];
    loop {
        let count = stream.read(&mut piece).await?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        note(call, bytes);
        stream.write_all(bytes).await?;
    }
}

/// Speaks first, as SSH, mail and database servers do, then returns what it gets.
pub(super) async fn banner<S>(mut stream: S, call: &Call) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(b"SSH-2.0-decoy\r\n").await?;
    echo(stream, call).await
}

/// Takes everything and says nothing.
pub(super) async fn swallow<S: AsyncRead + Unpin>(
    mut stream: S,
    call: &Call,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            count => note(call, piece.get(..count).unwrap_or_default()),
        }
    }
}

fn note(call: &Call, bytes: &[u8]) {
    let kept = bytes.get(..KEPT).unwrap_or(bytes);
    let text = String::from_utf8_lossy(kept).into_owned();
    call.world.journal.add(Event::Bytes { local: call.local, text });
}
