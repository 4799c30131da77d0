//! A terminal in a sandbox, on ours.

use std::convert::Infallible;

use courier_client::{ClientError, Ended, Event, Events, GuestClient, Selector};
use courier_protocol::envd::process::{ProcessConfig, Pty, PtySize, StartRequest};
use rustix::termios::{OptionalActions, Termios};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Keys travel in pieces of this size.
const PIECE_BYTES: usize = 4 * 1024;
/// What a terminal of unknown size is taken for.
const DEFAULT_SIZE: PtySize = PtySize { cols: 80, rows: 24 };

/// How a terminal session ended.
#[derive(Debug)]
pub(crate) enum Session {
    /// The command ended.
    Ended(Ended),
    /// A signal told us to go.
    Signalled(i32),
}

/// Our terminal, raw until this is dropped: on every way out, a panic included.
struct Raw {
    saved: Option<Termios>,
}

impl Raw {
    /// Makes our terminal raw; where standard input is none, there is nothing to do.
    fn enter() -> std::io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        if !rustix::termios::isatty(stdin) {
            return Ok(Self { saved: None });
        }
        let saved = rustix::termios::tcgetattr(stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Self { saved: Some(saved) })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let Some(saved) = &self.saved else { return };
        let stdin = rustix::stdio::stdin();
        if let Err(error) = rustix::termios::tcsetattr(stdin, OptionalActions::Drain, saved) {
            eprintln!("courier: the terminal is still raw ({error}); type `reset`\r");
        }
    }
}

/// The size of our terminal.
fn size() -> PtySize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            PtySize { cols: size.ws_col.into(), rows: size.ws_row.into() }
        }
        Ok(_) | Err(_) => DEFAULT_SIZE,
    }
}

/// Runs a command in a terminal of the sandbox and couples it to ours.
pub(crate) async fn session(
    guest: &GuestClient,
    process: ProcessConfig,
) -> anyhow::Result<Session> {
    let request = StartRequest {
        process: Some(process),
        pty: Some(Pty { size: Some(size()) }),
        tag: None,
        stdin: None,
    };
    let mut events = guest.start(&request, None).await?;
    let Some(Event::Started { pid }) = events.next().await? else {
        return Err(ClientError::Protocol { what: "a terminal without a start".into() }.into());
    };
    let mut signals = Signals::listen()?;
    let raw = Raw::enter()?;
    let session = couple(guest, &Selector::Pid(pid), &mut events, &mut signals).await;
    drop(raw);
    session
}

/// The signals that concern a terminal.
struct Signals {
    resized: Signal,
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            resized: signal(SignalKind::window_change())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one that ends the session.
    async fn end(
        terminate: &mut Signal,
        hang_up: &mut Signal,
        interrupt: &mut Signal,
    ) -> SignalKind {
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hang_up.recv() => SignalKind::hangup(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Passes keys, output and sizes until the command or the session ends.
async fn couple(
    guest: &GuestClient,
    command: &Selector,
    events: &mut Events,
    signals: &mut Signals,
) -> anyhow::Result<Session> {
    let Signals { resized, terminate, hang_up, interrupt } = signals;
    let output = async {
        let mut stdout = tokio::io::stdout();
        loop {
            match events.next().await? {
                Some(Event::Pty(piece) | Event::Stdout(piece) | Event::Stderr(piece)) => {
                    stdout.write_all(&piece).await?;
                    stdout.flush().await?;
                }
                Some(Event::Ended(ended)) => return Ok(Session::Ended(ended)),
                Some(Event::Started { .. }) => {}
                None => anyhow::bail!("the terminal ended without saying how"),
            }
        }
    };
    let input = async {
        let mut stdin = tokio::io::stdin();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = stdin.read(&mut piece).await?;
            match piece.get(..read) {
                None | Some([]) => return anyhow::Ok(()),
                Some(keys) => guest.send_pty(command, keys).await?,
            }
        }
    };
    let resizing = async {
        while resized.recv().await.is_some() {
            guest.resize(command, size()).await?;
        }
        anyhow::Ok(())
    };
    // Input that ends (or is refused because the command has ended) leaves the output to finish.
    let besides = async {
        if let Err(error) = tokio::try_join!(input, resizing) {
            tracing::debug!(%error, "the terminal takes no more input");
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        ended = output => ended,
        never = besides => match never {},
        kind = Signals::end(terminate, hang_up, interrupt) => {
            Ok(Session::Signalled(kind.as_raw_value()))
        }
    }
}
