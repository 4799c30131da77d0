//! One connection to a server, from the 101 on: HTTP/2 with us as its server, every request hostile.
//! One CONNECT is one connection to the service; where it asks to go is not looked at.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_protocol::v1::{
    TUNNEL_HEADER_BYTES, TUNNEL_STREAMS_MAX, TUNNEL_WINDOW_BYTES, TUNNEL_WINDOWS_BYTES,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::pass::pass;
use super::service::Service;

/// The server is asked for a sign of life this often: a connection that was lost without a word is
/// to be opened anew.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Without a sign of life for this long, the connection is lost.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes that wait to be sent in one stream.
const SEND_BUFFER_BYTES: usize = 64 * 1_024;

/// How long connections may go on after we were told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until the server closes or breaks the connection, or we are told to stop.
pub(super) async fn serve<S>(
    stream: S,
    service: Arc<Service>,
    stop: &CancellationToken,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let cut = CancellationToken::new();
    let _all_ends_with_this = cut.clone().drop_guard();
    let answering = service_fn(move |request| {
        let (service, cut) = (Arc::clone(&service), cut.clone());
        async move { Ok::<_, Infallible>(answer(request, &service, cut).await) }
    });
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(TUNNEL_WINDOW_BYTES)
        .initial_connection_window_size(TUNNEL_WINDOWS_BYTES)
        .max_concurrent_streams(u32::from(TUNNEL_STREAMS_MAX))
        .max_header_list_size(TUNNEL_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answering);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // Whoever still talks is cut off.
    tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
}

async fn answer(
    mut request: Request<Incoming>,
    service: &Service,
    cut: CancellationToken,
) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    if request.method() != Method::CONNECT {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    match service.dial().await {
        Ok((far, permit)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(cut.run_until_cancelled_owned(async move {
                // Without an upgrade the sandbox has gone meanwhile; what breaks off tells itself
                // to both sides.
                if let Ok(near) = upgrade.await {
                    let _broken_off = pass(TokioIo::new(near), far).await;
                }
                drop(permit);
            }));
        }
        Err(status) => *response.status_mut() = status,
    }
    response
}
