//! Guests: an HTTP/2 server that shows what it was sent, and others that misbehave.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use courier_channel::guest::Channel;
use courier_protocol::envd::ports;
use futures_util::TryStreamExt as _;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::io::write;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_util::io::ReaderStream;

use crate::commands::Inside;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Requests whose body did not come whole, in all guests.
pub(crate) static BROKEN_BODIES: AtomicUsize = AtomicUsize::new(0);

/// How a guest behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It answers.
    Polite,
    /// There is no guest, nor a machine.
    NoMachine,
    /// It reads nothing and says nothing.
    Silent,
    /// It writes records that are none.
    Garbage,
    /// It closes its end at once.
    Hangup,
    /// It speaks the channel, and rubbish instead of HTTP/2.
    Rubbish,
    /// It refuses to be told who it is.
    Unwilling,
    /// It answers, plays commands and gives layers.
    Playing,
}

/// Runs a guest until it is aborted.
pub(crate) async fn run(socket: OwnedFd, manner: Manner) {
    match manner {
        Manner::Polite | Manner::Unwilling | Manner::Playing => serve(socket, manner).await,
        Manner::Hangup | Manner::NoMachine => drop(socket),
        Manner::Silent => {
            let _held = socket;
            std::future::pending::<()>().await;
        }
        Manner::Garbage => {
            write(&socket, &[9, 9, 9]).unwrap();
            std::future::pending::<()>().await;
        }
        Manner::Rubbish => {
            let mut channel = Channel::new(socket).unwrap();
            let mut stream = channel.accept().await.unwrap();
            let rubbish = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".repeat(100);
            // The host may have hung up before the last byte.
            let _cut = tokio::io::AsyncWriteExt::write_all(&mut stream, &rubbish).await;
            std::future::pending::<()>().await;
        }
    }
}

async fn serve(socket: OwnedFd, manner: Manner) {
    let mut channel = Channel::new(socket).unwrap();
    // Aborted together with this task.
    let mut connections = JoinSet::new();
    let inside = Arc::new(Inside::default());
    loop {
        let Ok(stream) = channel.accept().await else { return };
        let inside = Arc::clone(&inside);
        let service = service_fn(move |request| {
            let inside = Arc::clone(&inside);
            async move {
                match manner {
                    Manner::Playing => Ok(inside.answer(request).await),
                    _other => answer(request, manner).await,
                }
            }
        });
        connections.spawn(async move {
            let connection = Builder::new(TokioExecutor::new())
                .max_header_list_size(1 << 20)
                .serve_connection(TokioIo::new(stream), service);
            // A node that cuts off ends the connection with an error.
            let _cut = connection.await;
        });
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

async fn answer(request: Request<Incoming>, manner: Manner) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/init" if manner == Manner::Unwilling => text(StatusCode::IM_A_TEAPOT, String::new()),
        "/ready" | "/init" | "/health" => text(StatusCode::NO_CONTENT, String::new()),
        "/process.Process/Silent" => std::future::pending().await,
        "/process.Process/Stream" => stream(Tail::Hang),
        "/process.Process/Break" => stream(Tail::Break),
        "/process.Process/Endless" => stream(Tail::Endless),
        "/process.Process/ManyHeaders" => {
            let mut response = text(StatusCode::OK, String::new());
            for number in 0..4_000 {
                let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
                response.headers_mut().append(name, HeaderValue::from_static("0123456789abcdef"));
            }
            response
        }
        "/process.Process/Cookie" => {
            let mut response = text(StatusCode::OK, "cookie".to_owned());
            let cookie = HeaderValue::from_static("a=b; Domain=test");
            response.headers_mut().insert(http::header::SET_COOKIE, cookie);
            response
        }
        _path if ports::port(&path).is_some() => connect(ports::port(&path), request).await,
        _show => show(request).await,
    })
}

/// Connects to a port of this machine, as a guest daemon does to its sandbox's.
async fn connect(port: Option<u16>, request: Request<Incoming>) -> Response<Body> {
    let address = (std::net::Ipv4Addr::LOCALHOST, port.unwrap_or(0));
    let Ok(server) = TcpStream::connect(address).await else {
        return text(StatusCode::BAD_GATEWAY, String::new());
    };
    let (from, mut to) = server.into_split();
    let mut upload = request.into_body();
    tokio::spawn(async move {
        while let Some(frame) = upload.frame().await {
            let Ok(frame) = frame else { return };
            if to.write_all(&frame.into_data().unwrap_or_default()).await.is_err() {
                return;
            }
        }
        // A server that is gone needs to be told nothing.
        let _gone = to.shutdown().await;
    });
    Response::new(StreamBody::new(ReaderStream::new(from).map_ok(Frame::data)).boxed_unsync())
}

/// Shows a request: method, target, headers, length of the body.
async fn show(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let Ok(body) = body.collect().await else {
        BROKEN_BODIES.fetch_add(1, Ordering::SeqCst);
        return text(StatusCode::BAD_REQUEST, String::new());
    };
    let body = body.to_bytes();
    let mut shown = format!("{} {target}\n", parts.method);
    for (name, value) in &parts.headers {
        shown.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    shown.push_str(&format!("{} bytes\n", body.len()));
    text(StatusCode::OK, shown)
}

enum Tail {
    Hang,
    Break,
    Endless,
}

/// One chunk, then the tail.
struct Stream {
    first: bool,
    tail: Tail,
    pause: Pin<Box<Sleep>>,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.first {
            self.first = false;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"first")))));
        }
        match self.tail {
            Tail::Hang => Poll::Pending,
            // Later than the head, which a reset would take along.
            Tail::Break => {
                ready!(self.pause.as_mut().poll(context));
                Poll::Ready(Some(Err(std::io::Error::other("broken"))))
            }
            Tail::Endless => {
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16_384])))))
            }
        }
    }
}

fn stream(tail: Tail) -> Response<Body> {
    Response::new(
        Stream { first: true, tail, pause: Box::pin(sleep(Duration::from_millis(50))) }
            .boxed_unsync(),
    )
}
