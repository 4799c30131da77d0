//! The connection to one guest daemon: HTTP/2 in one epoch of the channel, every answer hostile.

mod body;
mod meter;
mod port;
mod stalls;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courier_channel::host::Channel;
use courier_protocol::envd::init::{INIT_PATH, Init, READY_PATH};
use courier_protocol::node::Body;
use courier_types::SandboxSpec;
use http::{Method, Request, Response, StatusCode, Uri, header, uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::NodeConfig;
use crate::failure::GuestError;
use body::{Account, AnswerBody};
use meter::{Meter, Metered};
use port::PORTS_LIMIT;
use stalls::Stalls;

pub(crate) use body::RequestBody;
pub(crate) use port::PortStream;

/// Most requests in flight in one sandbox, streams included.
const REQUESTS_LIMIT: usize = 1_024;

/// Flow-control window of one stream: what may wait here for a slow client. Measured: a quarter of it
/// costs a large download a quarter of its speed, and four times as much gain nothing.
const STREAM_WINDOW_BYTES: u32 = 1_024 * 1_024;

/// Flow-control window of the whole connection: one sandbox's share of this process's memory.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1_024 * 1_024;

/// Largest frame: fewer, larger ones make uploads and downloads cheaper.
const FRAME_BYTES: u32 = 1_024 * 1_024;

/// Most bytes of an answer's headers.
const HEADERS_LIMIT_BYTES: u32 = 64 * 1_024;

/// Cancelled streams that are remembered: the guest may still send to them in good faith, and each
/// frame for a forgotten one would have to be answered. Eight generations of requests.
const CANCELLED_LIMIT: usize = 8 * REQUESTS_LIMIT;

/// Most bytes that wait to be sent in one stream.
const SEND_BUFFER_BYTES: usize = 1_024 * 1_024;

/// While requests are in flight, the guest daemon is asked for a sign of life this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Without a sign of life for this long, the connection is over.
const PING_DEADLINE: Duration = Duration::from_secs(60);

/// The name that requests carry; the guest daemon does not look at it.
const AUTHORITY: &str = "guest";

/// The environment of every command: what the sandbox's creator said wins over what the build says.
fn environment(spec: &SandboxSpec) -> BTreeMap<String, String> {
    let mut env = spec.config.env.clone();
    env.extend(spec.env.clone());
    env
}

/// A connection to a guest daemon that has answered once.
#[derive(Debug)]
pub(crate) struct Guest {
    sender: SendRequest<Body>,
    permits: Arc<Semaphore>,
    /// Connections to ports, which are requests too.
    ports: Arc<Semaphore>,
    meter: Arc<Meter>,
    stalls: Arc<Stalls>,
    /// The sandbox is being destroyed: whatever is in flight fails.
    cut: CancellationToken,
    /// The connection is over.
    closed: CancellationToken,
    failure: Arc<Mutex<Option<Arc<GuestError>>>>,
    answer_deadline: Duration,
    connection: AbortOnDropHandle<()>,
    _stalls_watched: AbortOnDropHandle<()>,
}

impl Guest {
    /// Opens a new epoch, waits for the guest daemon and tells it who it is.
    pub(crate) async fn greet(
        channel: OwnedFd,
        config: &NodeConfig,
        (spec, ca_bundle): (&SandboxSpec, String),
    ) -> Result<Self, GuestError> {
        let after = config.ready_deadline;
        let greeting = async {
            let guest = Self::open(channel, config.answer_deadline).await?;
            let init = Init {
                env_vars: environment(spec),
                default_user: spec.config.user.clone(),
                default_workdir: spec.config.workdir.clone(),
                sandbox_id: spec.id.clone(),
                template_id: spec.template.clone(),
                timestamp: (config.clock)(),
                disk_bytes: u64::from(spec.limits.disk_mib()) * 1_024 * 1_024,
                nameserver: courier_driver::LINK_HOST,
                ca_bundle,
                files: spec.files.clone(),
            };
            let init = serde_json::to_vec(&init).expect("texts and numbers are always JSON");
            // At once: the second answer costs no round trip of its own.
            tokio::try_join!(
                guest.ask(READY_PATH, Method::GET, Vec::new()),
                guest.ask(INIT_PATH, Method::POST, init),
            )?;
            Ok(guest)
        };
        tokio::time::timeout(after, greeting)
            .await
            .map_err(|_elapsed| GuestError::Late { after })?
    }

    async fn open(channel: OwnedFd, answer_deadline: Duration) -> Result<Self, GuestError> {
        let mut channel = Channel::new(channel).map_err(GuestError::Socket)?;
        let stream = channel.open(rand::random()).await.map_err(GuestError::Channel)?;
        let meter = Arc::new(Meter::default());
        let stream = Metered::new(stream, Arc::clone(&meter));
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(HEADERS_LIMIT_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_concurrent_reset_streams(CANCELLED_LIMIT)
            // Not in the life of a connection: what comes late for a stream that was cancelled long
            // ago counts as well. The meter bounds it.
            .max_local_error_reset_streams(None)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_DEADLINE)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(GuestError::Connection)?;
        let (closed, failure) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
        let (tell, keep) = (closed.clone().drop_guard(), Arc::clone(&failure));
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                let error = Arc::new(GuestError::Connection(error));
                *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            drop(tell);
        });
        let stalls = Arc::new(Stalls::default());
        let watched = Arc::clone(&stalls);
        let watch = tokio::spawn(async move { watched.watch().await });
        Ok(Self {
            sender,
            stalls,
            _stalls_watched: AbortOnDropHandle::new(watch),
            permits: Arc::new(Semaphore::new(REQUESTS_LIMIT)),
            ports: Arc::new(Semaphore::new(PORTS_LIMIT)),
            meter,
            cut: CancellationToken::new(),
            closed,
            failure,
            answer_deadline,
            connection: AbortOnDropHandle::new(connection),
        })
    }

    /// Waits until the connection is over.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Why the connection is over.
    pub(crate) fn failure(&self) -> Option<Arc<GuestError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Aborts everything in flight, and the connection.
    pub(crate) fn cut_off(&self) {
        self.cut.cancel();
        self.connection.abort();
    }

    /// Sends one request of the node's own and wants a plain 204.
    async fn ask(
        &self,
        path: &'static str,
        method: Method,
        body: Vec<u8>,
    ) -> Result<(), GuestError> {
        let body = http_body_util::Full::from(body).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(GuestError::Request)?;
        match self.request(request).await?.status() {
            StatusCode::NO_CONTENT => Ok(()),
            status => Err(GuestError::Answer { path, status }),
        }
    }

    /// Sends one request. The head of its answer is due within the answer deadline once the request
    /// is sent whole; both bodies stream, and fail when the sandbox is destroyed.
    pub(crate) async fn request(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Body>, GuestError> {
        let account = self.account()?;
        let (parts, body) = request.into_parts();
        let (body, sending) = RequestBody::new(body);
        let mut request = Request::new(body.boxed_unsync());
        *request.method_mut() = parts.method;
        *request.uri_mut() = absolute(parts.uri)?;
        *request.headers_mut() = parts.headers;
        request.headers_mut().remove(header::HOST);

        let mut sender = self.sender.clone();
        let after = self.answer_deadline;
        let late = async {
            sending.sent.cancelled().await;
            tokio::time::sleep(after).await;
        };
        let answer: Response<Incoming> = tokio::select! {
            biased;
            () = self.cut.cancelled() => return Err(GuestError::Ended),
            answer = sender.send_request(request) => match answer {
                Ok(answer) => answer,
                Err(_) if self.cut.is_cancelled() => return Err(GuestError::Ended),
                Err(_) if sending.broken.is_cancelled() => return Err(GuestError::BodyBroken),
                Err(error) => return Err(GuestError::Connection(error)),
            },
            () = late => return Err(GuestError::Late { after }),
        };
        Ok(answer.map(|body| self.answer_body(body, account).boxed_unsync()))
    }

    fn answer_body(&self, body: Incoming, account: Account) -> AnswerBody {
        AnswerBody::new(self.stalls.begin(body), self.cut.clone(), account)
    }

    /// Makes room for one more request.
    fn account(&self) -> Result<Account, GuestError> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_exhausted| GuestError::Busy { limit: REQUESTS_LIMIT })?;
        self.meter.requested();
        Ok((permit, Arc::clone(&self.meter)))
    }
}

/// HTTP/2 wants a scheme and an authority.
fn absolute(uri: Uri) -> Result<Uri, GuestError> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = Some(uri::Authority::from_static(AUTHORITY));
    parts.path_and_query =
        uri.into_parts().path_and_query.or_else(|| Some(uri::PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|error| GuestError::Request(error.into()))
}
