//! Servers of the user's own inside, reached by the node: one stream of the channel is one connection
//! to a port on the loopback interface. Bounded by the number of streams of an epoch.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::buffers::Pool;
use crate::http::{self as answers, Body, BoxError, Response};

/// Pauses before another look at a port on which nothing listens: a server that was just started may
/// need them. E2B's proxy waits as long.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// Longest time for one look: on a loopback interface only a server that accepts nothing takes any.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of one read: as much as servers hand over at once, usually.
const READ_BYTES: usize = 256 * 1024;

/// Buffers kept for reuse by one connection: more wait in the channel rarely.
const PIECES_KEPT: usize = 4;

/// Connects to the port and lets the bytes through, both ways.
pub(crate) async fn connect(port: u16, upload: Body) -> Response {
    match dial_patiently(port).await {
        Ok(stream) => {
            let (download, server) = stream.into_split();
            tokio::spawn(send(upload, server));
            Response::new(
                Download {
                    server: download,
                    pool: Pool::new(READ_BYTES, PIECES_KEPT),
                    ended: false,
                }
                .boxed_unsync(),
            )
        }
        Err(error) => answers::error(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn dial_patiently(port: u16) -> io::Result<TcpStream> {
    for pause in PAUSES {
        match dial(port).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tokio::time::sleep(pause).await;
            }
            done => return done,
        }
    }
    dial(port).await
}

/// One look: IPv4 first, and IPv6 where nothing listens there.
async fn dial(port: u16) -> io::Result<TcpStream> {
    let first = connect_to((Ipv4Addr::LOCALHOST, port).into()).await;
    let Err(error) = first else { return first };
    // Whatever is wrong with IPv6 (there may be none), the first answer says more.
    connect_to((Ipv6Addr::LOCALHOST, port).into()).await.map_err(|_second| error)
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Passes on what goes to the server, and its end. Where it breaks off, the connection is closed.
async fn send(mut upload: Body, mut server: OwnedWriteHalf) {
    while let Some(frame) = upload.frame().await {
        let Ok(frame) = frame else { return break_off(server) };
        let Ok(bytes) = frame.into_data() else { continue };
        if server.write_all(&bytes).await.is_err() {
            // The server reads no more; what it still has to say goes on.
            return;
        }
    }
    // A server that is gone needs to be told nothing.
    let _gone = server.shutdown().await;
}

/// Nobody is there for the server any more, as it would find with a client of its own that crashed.
fn break_off(server: OwnedWriteHalf) {
    // Only the kind of end depends on it.
    let _as_usual = server.as_ref().set_zero_linger();
    drop(server);
}

/// What comes from the server.
struct Download {
    server: OwnedReadHalf,
    pool: Pool,
    ended: bool,
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let read = ready!(self.poll_read(context));
        self.ended = !matches!(&read, Ok(bytes) if !bytes.is_empty());
        Poll::Ready(match read {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => Some(Ok(Frame::data(bytes))),
            Err(error) => Some(Err(error.into())),
        })
    }
}

impl Download {
    /// The next bytes; none at the end. Room for them is made only when there are some.
    fn poll_read(&self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            ready!(self.server.as_ref().poll_read_ready(context))?;
            let mut buffer = self.pool.take();
            match self.server.try_read(buffer.room(READ_BYTES)) {
                Ok(count) => return Poll::Ready(Ok(buffer.into_bytes(count))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
