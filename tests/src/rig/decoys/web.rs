//! HTTP/1.1 and HTTP/2: says what it was asked, in many forms.
//!
//! | path | answer |
//! |---|---|
//! | `/echo`, `/echo/FORM` | the whole request as text, in a form: see `echo` |
//! | `/redirect?to=URL&status=N` | a redirect to anywhere (302 unless said) |
//! | `/bytes/N` | so many bytes |
//! | `/slow/N` | so many bytes, ten a second |
//! | `/status/N` | that status |
//! | `/websocket` | a WebSocket that returns what it gets |
//! | `/git/NAME.git/…` | Git's smart protocol, with a password |
//! | anything else | `decoy` and the name that was asked for |
//!
//! At the metadata addresses every path answers with the canary.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Channel, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Call, echo, git, websocket};
use crate::rig::journal;

/// Largest body that is read; more than any probe sends.
const LARGEST: usize = 64 << 20;
/// Bytes of a body that the journal keeps.
const KEPT: usize = 64 << 10;
/// Bytes sent at once.
const PIECE: usize = 64 << 10;
/// A slow answer's pace: one byte each.
const PACE: Duration = Duration::from_millis(100);

/// Where clouds have their metadata services.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A request with its body read.
pub(super) struct Asked {
    pub(super) parts: http::request::Parts,
    pub(super) host: String,
    pub(super) body: Bytes,
}

impl Asked {
    /// Path and query.
    pub(super) fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }
}

/// Serves one connection.
pub(super) async fn serve<S>(stream: S, call: Call) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let call = call.clone();
        async move { Ok::<_, Infallible>(answer(request, &call).await) }
    });
    auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
        .map_err(std::io::Error::other)
}

async fn answer(mut request: Request<Incoming>, call: &Call) -> Answer {
    let upgrade = websocket::is_wanted(&request).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "too large");
    };
    let host = parts.headers.get(header::HOST).map(|host| lossy(host.as_bytes()));
    let host = parts.uri.authority().map(ToString::to_string).or(host).unwrap_or_default();
    let asked = Asked { parts, host, body: body.to_bytes() };
    note(&asked, call);
    if METADATA.contains(&call.local.ip()) {
        return plain(StatusCode::OK, &call.world.canary);
    }
    match upgrade {
        Some(upgrade) => websocket::accept(&asked, upgrade),
        None => route(&asked, call).await,
    }
}

async fn route(asked: &Asked, call: &Call) -> Answer {
    let path = asked.parts.uri.path();
    let mut words = path.trim_start_matches('/').splitn(2, '/');
    let (first, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let number: usize = rest.parse().unwrap_or_default();
    match first {
        "echo" => echo::answer(asked, rest),
        "redirect" => redirect(asked.parts.uri.query().unwrap_or_default()),
        "bytes" => stream(number, PIECE, Duration::ZERO),
        "slow" => stream(number, 1, PACE),
        "status" => {
            let code = u16::try_from(number).unwrap_or_default();
            plain(StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST), "as you like")
        }
        "git" => git::answer(asked, call).await,
        _other => plain(StatusCode::OK, &format!("decoy {}\n", asked.host)),
    }
}

/// A short answer.
pub(super) fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.to_owned())).boxed());
    *answer.status_mut() = status;
    answer
}

fn redirect(query: &str) -> Answer {
    let value = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _value)| *name == wanted).map(|(_name, value)| value).next()
    };
    let status = value("status").and_then(|code| code.parse().ok()).unwrap_or(302);
    let mut answer = plain(StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND), "elsewhere");
    match value("to").unwrap_or_default().parse() {
        Ok(to) => drop(answer.headers_mut().insert(header::LOCATION, to)),
        Err(_no_header) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    answer
}

fn stream(count: usize, piece: usize, pace: Duration) -> Answer {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let all = Bytes::from(vec![b'x'; piece]);
    tokio::spawn(async move {
        let mut left = count;
        while left > 0 {
            let now = all.slice(..left.min(piece));
            left -= now.len();
            // A client that went away has enough.
            if sender.send_data(now).await.is_err() {
                return;
            }
            tokio::time::sleep(pace).await;
        }
    });
    Response::new(body.boxed())
}

fn note(asked: &Asked, call: &Call) {
    let kept = asked.body.get(..KEPT).unwrap_or(&asked.body);
    let request = journal::Request {
        local: call.local,
        tls: call.tls.clone(),
        secure: call.secure,
        version: format!("{:?}", asked.parts.version),
        method: asked.parts.method.to_string(),
        host: asked.host.clone(),
        path: asked.target().to_owned(),
        headers: headers(&asked.parts.headers),
        body: lossy(kept),
    };
    call.world.journal.add(journal::Event::Request(Box::new(request)));
}

/// Names in lower case, values as text.
pub(super) fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), lossy(value.as_bytes()))).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
