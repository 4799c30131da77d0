//! WebSockets: an upgrade that the upstream granted, and the bytes after it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;

use super::exchange::Exchange;
use super::refusal::Refusal;
use crate::broker::Redactor;

/// How much is passed on at once.
const PIECE: usize = 16 * 1024;

/// Writes that an upgrade is asked for, or granted.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Checks what the upstream granted.
///
/// # Errors
/// Another protocol, or one in which nothing can be found.
pub(super) fn check(headers: &HeaderMap, is_searched: bool) -> Result<(), Refusal> {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    if !protocols.next().is_some_and(is_websocket) || protocols.next().is_some() {
        return Err(Refusal::answer("the server switched to another protocol than WebSocket"));
    }
    if is_searched && headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Refusal::answer(
            "the server uses WebSocket extensions that were not asked for",
        ));
    }
    Ok(())
}

/// An upgraded request: both ends, before they are bytes.
pub(super) struct Tunnel {
    /// The guest's end.
    pub(super) guest: OnUpgrade,
    /// The upstream's.
    pub(super) upstream: OnUpgrade,
    /// Takes values out of what comes in.
    pub(super) redactor: Option<Redactor>,
    /// The request.
    pub(super) exchange: Arc<Exchange>,
    /// Keeps the upstream's connection open.
    pub(super) _connection: Box<dyn Send>,
}

/// The tunnel that a connection became; there is at most one, as it is no HTTP any more then.
#[derive(Default)]
pub(super) struct Tunnels {
    tunnel: Mutex<Option<Tunnel>>,
    there: Notify,
}

impl Tunnels {
    /// Leaves a tunnel to whoever serves the connection.
    pub(super) fn put(&self, tunnel: Tunnel) {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).replace(tunnel);
        self.there.notify_one();
    }

    /// The tunnel, once the connection's HTTP has ended.
    pub(super) fn take(&self) -> Option<Tunnel> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Tunnel {
    /// Passes bytes on until both sides have ended, one broke, or the policy denies it.
    pub(super) async fn run(self) {
        let exchange = Arc::clone(&self.exchange);
        tokio::select! {
            passed = self.pass() => if let Err(error) = passed {
                exchange.failed(format!("the WebSocket broke: {}", error.kind()));
            },
            () = exchange.ended().cancelled() => {
                exchange.failed("the policy does not allow the request any more");
            }
        }
    }

    async fn pass(self) -> io::Result<()> {
        let open = |upgrade: OnUpgrade| async {
            upgrade.await.map(TokioIo::new).map_err(io::Error::other)
        };
        let (guest, upstream) = tokio::try_join!(open(self.guest), open(self.upstream))?;
        let (from_guest, to_guest) = split(guest);
        let (from_upstream, to_upstream) = split(upstream);
        let exchange = &self.exchange;
        tokio::try_join!(
            Box::pin(pump(from_guest, to_upstream, None, |count| exchange.sent(count))),
            Box::pin(pump(from_upstream, to_guest, self.redactor, |count| {
                exchange.received(count);
            })),
        )?;
        Ok(())
    }
}

/// Passes bytes on, through the redactor where there is one, to the end.
async fn pump(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
    mut redactor: Option<Redactor>,
    count: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        let piece = buffer.get(..length).unwrap_or_default();
        match &mut redactor {
            None => to.write_all(piece).await?,
            Some(redactor) => to.write_all(&redactor.push(piece)).await?,
        }
        to.flush().await?;
        count(length);
    }
    if let Some(redactor) = &mut redactor {
        to.write_all(&redactor.finish()).await?;
    }
    to.shutdown().await
}
