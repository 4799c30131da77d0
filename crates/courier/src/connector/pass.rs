//! Passes bytes both ways between a sandbox and a service.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Bytes that are passed at once.
const PIECE_BYTES: usize = 16 * 1_024;

/// Once one side has said its last word, the other may be silent for so long. A side that vanished
/// looks like one that has said its last word, and what it left open would stay open otherwise.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(60);

/// Passes bytes until both sides have said all, or one of them breaks.
pub(super) async fn pass<A, B>(near: A, far: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Send + Unpin,
    B: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    let (out, back) = (CancellationToken::new(), CancellationToken::new());
    tokio::try_join!(
        one_way(near_read, far_write, (&out, &back)),
        one_way(far_read, near_write, (&back, &out)),
    )?;
    Ok(())
}

/// Passes bytes one way to their end; says so, and hears of the end of the other way.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (ended, other_ended): (&CancellationToken, &CancellationToken),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let silence = async {
            other_ended.cancelled().await;
            tokio::time::sleep(LAST_WORD_TIMEOUT).await;
        };
        let length = tokio::select! {
            biased;
            length = from.read(&mut piece) => length?,
            () = silence => return Err(io::ErrorKind::TimedOut.into()),
        };
        let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        to.write_all(bytes).await?;
        to.flush().await?;
    }
    to.shutdown().await?;
    ended.cancel();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_side_says_after_the_others_last_word_still_comes() {
        let (mut sandbox, near) = tokio::io::duplex(64);
        let (far, mut service) = tokio::io::duplex(64);
        let passing = tokio::spawn(pass(near, far));
        sandbox.write_all(b"question").await.unwrap();
        sandbox.shutdown().await.unwrap();
        let mut heard = String::new();
        service.read_to_string(&mut heard).await.unwrap();
        service.write_all(b"answer").await.unwrap();
        drop(service);
        let mut told = String::new();
        sandbox.read_to_string(&mut told).await.unwrap();
        assert_eq!((heard.as_str(), told.as_str()), ("question", "answer"));
        passing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_vanished_is_not_waited_for_for_ever() {
        let (sandbox, near) = tokio::io::duplex(64);
        let (far, _service_that_says_nothing) = tokio::io::duplex(64);
        let begun = tokio::time::Instant::now();
        drop(sandbox);
        let error = pass(near, far).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= LAST_WORD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn two_sides_that_are_both_there_may_be_silent() {
        let (mut sandbox, near) = tokio::io::duplex(64);
        let (far, mut service) = tokio::io::duplex(64);
        let passing = tokio::spawn(pass(near, far));
        tokio::time::sleep(10 * LAST_WORD_TIMEOUT).await;
        sandbox.write_all(b"x").await.unwrap();
        assert_eq!(service.read_u8().await.unwrap(), b'x');
        drop((sandbox, service));
        passing.await.unwrap().unwrap();
    }
}
