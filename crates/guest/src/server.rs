//! The daemon: HTTP/2 over one epoch of the channel after the other.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use courier_channel::{ChannelError, EpochStream, guest::Channel};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::http::{BoxError, Response, tell};
use crate::router::route;

/// Bytes that one request may send before the daemon has read them.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The same for all requests together.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Most payload of one frame; a multiple of a record's.
const FRAME_BYTES: u32 = 256 * 1024;

/// Most bytes of one answer that wait for the channel.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Most requests at a time.
const STREAMS_MAX: u32 = 1_024;

/// Most requests that the node has cancelled before they were begun. The protection against a peer
/// that cancels on purpose would end the connection: here the peer is the node, which passes on what
/// its clients do, and has bounds of its own.
const CANCELLED_MAX: usize = 64 * 1024;

/// Most bytes of one request's headers; file metadata travels in them.
const HEADERS_BYTES: u32 = 64 * 1024;

/// Why the daemon ended.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// Standard input is not the channel.
    #[error("standard input is not a channel: start the daemon with a SOCK_SEQPACKET socket there")]
    Stdin(#[source] io::Error),
    /// Children cannot be waited for.
    #[error("cannot learn of the end of processes")]
    Reaper(#[source] io::Error),
    /// The node broke the protocol of the channel.
    #[error("the channel failed")]
    Channel(#[source] ChannelError),
}

/// Serves until the node closes the channel; everything that runs is killed then.
pub(crate) async fn serve(context: Arc<Context>, stdin: OwnedFd) -> Result<(), ServeError> {
    let mut channel = Channel::new(stdin).map_err(ServeError::Stdin)?;
    let mut reaper = {
        let context = Arc::clone(&context);
        tokio::spawn(async move { context.commands().reaper.run().await })
    };
    let mut epoch: Option<JoinHandle<()>> = None;
    let ended = loop {
        let stream = tokio::select! {
            stream = channel.accept() => stream,
            ended = &mut reaper => {
                let source = match ended {
                    Ok(Err(source)) => source,
                    Ok(Ok(())) => io::Error::other("the reaper ended"),
                    Err(panicked) => panicked.into(),
                };
                break Err(ServeError::Reaper(source));
            }
        };
        match stream {
            Ok(stream) => {
                if let Some(former) =
                    epoch.replace(tokio::spawn(serve_epoch(Arc::clone(&context), stream)))
                {
                    former.abort();
                }
            }
            Err(ChannelError::Closed) => break Ok(()),
            Err(error) => break Err(ServeError::Channel(error)),
        }
    };
    context.commands().kill_all();
    ended
}

/// Serves one epoch. Requests are tasks of their own: one that panics fails alone.
async fn serve_epoch(context: Arc<Context>, stream: EpochStream) {
    let epoch = stream.epoch();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let context = Arc::clone(&context);
        let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
        async move { Ok::<Response, std::convert::Infallible>(route(context, request).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES)
        .max_pending_accept_reset_streams(CANCELLED_MAX)
        // Counted over the whole life of a connection, so any number would be reached one day.
        .max_local_error_reset_streams(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tell(&format_args!("epoch {epoch} ended: {error}"));
    }
}
