//! Attends a command in a sandbox: our standard input goes in, its output comes out as it comes.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use courier_client::{ClientError, Ended, Event, Events, GuestClient, Selector};
use courier_protocol::envd::process::StartRequest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Input travels in pieces of this size: one request each, one record of the channel.
const INPUT_PIECE_BYTES: usize = 32 * 1024;

/// Why a command was not attended to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttendError {
    /// The sandbox failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Whoever read our output has stopped.
    #[error("nobody reads the output any more")]
    NoReader,
    /// Our output cannot be written.
    #[error("the output cannot be written")]
    Output(#[source] std::io::Error),
}

/// Where output goes.
pub(crate) trait Sink: Send {
    /// Takes a piece of standard output.
    fn stdout(&mut self, piece: Bytes) -> impl Future<Output = Result<(), AttendError>> + Send;
    /// Takes a piece of standard error.
    fn stderr(&mut self, piece: Bytes) -> impl Future<Output = Result<(), AttendError>> + Send;
}

/// Passes output through, each piece at once.
#[derive(Debug)]
pub(crate) struct PassThrough {
    stdout: tokio::io::Stdout,
    stderr: tokio::io::Stderr,
}

impl PassThrough {
    /// To our own standard output and error.
    pub(crate) fn new() -> Self {
        Self { stdout: tokio::io::stdout(), stderr: tokio::io::stderr() }
    }
}

impl Sink for PassThrough {
    async fn stdout(&mut self, piece: Bytes) -> Result<(), AttendError> {
        write(&mut self.stdout, &piece).await
    }

    async fn stderr(&mut self, piece: Bytes) -> Result<(), AttendError> {
        write(&mut self.stderr, &piece).await
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> Result<(), AttendError> {
    let written = async {
        to.write_all(piece).await?;
        to.flush().await
    };
    written.await.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => AttendError::NoReader,
        _other => AttendError::Output(error),
    })
}

/// Starts a command, feeds it, passes its output on, and returns how it ended.
pub(crate) async fn attend(
    guest: &GuestClient,
    request: &StartRequest,
    timeout: Option<Duration>,
    input: Option<impl AsyncRead + Unpin>,
    sink: &mut impl Sink,
) -> Result<Ended, AttendError> {
    let mut events = guest.start(request, timeout).await?;
    let Some(Event::Started { pid }) = events.next().await? else {
        return Err(ClientError::Protocol { what: "a command without a start".into() }.into());
    };
    let follow = follow(&mut events, sink);
    let feed = async {
        match input {
            Some(input) => feed(guest, &Selector::Pid(pid), input).await,
            None => Ok(()),
        }
    };
    tokio::pin!(follow, feed);
    tokio::select! {
        ended = follow.as_mut() => ended,
        fed = feed => {
            if let Err(error) = fed {
                tracing::debug!(%error, "the command takes no more input");
            }
            follow.await
        }
    }
}

async fn follow(events: &mut Events, sink: &mut impl Sink) -> Result<Ended, AttendError> {
    loop {
        match events.next().await? {
            Some(Event::Stdout(piece) | Event::Pty(piece)) => sink.stdout(piece).await?,
            Some(Event::Stderr(piece)) => sink.stderr(piece).await?,
            Some(Event::Ended(ended)) => return Ok(ended),
            Some(Event::Started { .. }) => {}
            None => {
                let what = "a command without an end".into();
                return Err(ClientError::Protocol { what }.into());
            }
        }
    }
}

/// Copies input to a command until either ends.
async fn feed(
    guest: &GuestClient,
    command: &Selector,
    mut input: impl AsyncRead + Unpin,
) -> Result<(), ClientError> {
    let mut piece = vec![0; INPUT_PIECE_BYTES];
    loop {
        let read = match input.read(&mut piece).await {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "standard input cannot be read");
                0
            }
        };
        match piece.get(..read) {
            None | Some([]) => return guest.close_stdin(command).await,
            Some(bytes) => guest.send_stdin(command, bytes).await?,
        }
    }
}
