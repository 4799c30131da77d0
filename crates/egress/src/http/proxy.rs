//! One request after the other: whom it is for, whether it may go out, what is added to it, and
//! what of its answer the guest gets.
//!
//! ```text
//! host, target ─▶ policy ─▶ tokens ─▶ connection (TLS verified) ─▶ credentials ─▶ upstream
//!                                                    guest ◀─ redacted ◀─ answer ◀───┘
//! ```

mod failure;
mod incoming;
mod outgoing;

use std::sync::Arc;
use std::time::Duration;

use courier_types::egress::Credential;
use http::header::{EXPECT, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use self::failure::{Failure, misplaced_token, refused_by_broker};
use self::outgoing::{Outgoing, check_fields, content_of, may_be_repeated, repeatable};
use super::body::{Ending, ProxyBody, Request as RequestBody};
use super::exchange::{Asking, Exchange};
use super::fields;
use super::guard::Host;
use super::live::{Asked, Live};
use super::origin::Origin;
use super::outside::Outside;
use super::pool::{Lease, Pool};
use super::refusal::Refusal;
use super::target::Target;
use super::turn::Turn;
use super::websocket::{self, Tunnel, Tunnels};
use crate::broker::{Applied, Broker, Redactor};
use crate::policy::Scheme;
use crate::tls::Alpn;

/// From the last byte of a request to the head of its answer: what common proxies give a request
/// that takes long, and more.
const ANSWER_DEADLINE: Duration = Duration::from_secs(300);

/// The proxy of one guest connection.
pub(super) struct Proxy {
    origin: Origin,
    outside: Arc<dyn Outside>,
    live: Live,
    pool: Arc<Pool>,
    /// Whose turn it is, on HTTP/1.
    turn: Option<Turn>,
    tunnels: Tunnels,
}

/// A request that may go out, or what became of it.
struct Allowed {
    parts: Parts,
    body: ProxyBody,
    host: Host,
    sent: PathAndQuery,
    credentials: Vec<Credential>,
    exchange: Arc<Exchange>,
    /// The guest's end of the upgrade that it asks for.
    upgrade: Option<OnUpgrade>,
}

/// An answer's head, the connection that it came on, and what was added to its request.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    redactor: Option<Redactor>,
}

impl Proxy {
    /// A proxy for one connection, its requests and the connections that they need; `turn` is of
    /// an HTTP/1 connection's guard.
    pub(super) fn new(
        origin: Origin,
        outside: Arc<dyn Outside>,
        turn: Option<Turn>,
        (live, pool): (Live, Arc<Pool>),
    ) -> Self {
        Self { origin, outside, live, pool, turn, tunnels: Tunnels::default() }
    }

    /// What upgraded requests became.
    pub(super) const fn tunnels(&self) -> &Tunnels {
        &self.tunnels
    }

    /// Answers a request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Ending<ProxyBody>> {
        let version = request.version();
        let response = match self.judge(request) {
            Ok(allowed) => {
                let exchange = Arc::clone(&allowed.exchange);
                match Box::pin(self.forward(allowed)).await {
                    Ok(response) => response,
                    Err(Failure::Refused(refusal)) => {
                        exchange.refuse(&refusal);
                        refusal.answer_to(version, self.outside.sandbox())
                    }
                    Err(Failure::Upstream(why)) => {
                        exchange.failed(why.clone());
                        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "upstream", why);
                        refusal.answer_to(version, self.outside.sandbox())
                    }
                }
            }
            Err(refusal) => refusal.answer_to(version, self.outside.sandbox()),
        };
        response.map(|body| Ending::new(body, self.turn.clone()))
    }

    /// Decides on a request. What is refused is written down here.
    fn judge(&self, mut request: Request<Incoming>) -> Result<Allowed, Refusal> {
        let wants_upgrade = request.headers().contains_key(UPGRADE);
        let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let refuse = |refusal: Refusal| {
            self.outside.flows().write(self.origin.refused(&refusal));
            refusal
        };
        let host = self.origin.host(&parts).map_err(refuse)?;
        let target = Target::of(&parts).map_err(refuse)?;
        check_fields(&parts).map_err(refuse)?;
        let (method, path) = target.plain();
        let asking = Asking {
            host: host.clone(),
            address: self.origin.address,
            scheme: self.origin.scheme,
            method: method.to_owned(),
            path: path.to_owned(),
        };
        let asked = Asked::new(&self.origin, host.clone(), target.readings.clone());
        let carries_token = Broker::carries_token(&parts);
        let refuse = |refusal: Refusal| {
            self.outside.flows().write(asking.refused(&refusal));
            refusal
        };
        let (going, credentials) = self.live.begin(asked).map_err(|why| {
            let misplaced = carries_token.then(misplaced_token);
            refuse(misplaced.unwrap_or_else(|| Refusal::policy(&host, why)))
        })?;
        if carries_token && credentials.is_empty() {
            return Err(refuse(misplaced_token()));
        }
        let place = self.outside.room().request();
        let place = place.map_err(|full| refuse(Refusal::limit(full.to_string())))?;
        let content = content_of(&parts);
        let flows = self.outside.flows().clone();
        let exchange = Arc::new(Exchange::new(flows, asking, going, place));
        let body = if body.is_end_stream() {
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        } else {
            RequestBody::new(body, content, Arc::clone(&exchange)).boxed_unsync()
        };
        Ok(Allowed { parts, body, host, sent: target.sent, credentials, exchange, upgrade })
    }

    /// Sends an allowed request, and makes the guest's answer of the upstream's.
    async fn forward(&self, mut allowed: Allowed) -> Result<Response<ProxyBody>, Failure> {
        let exchange = Arc::clone(&allowed.exchange);
        let upgrade = allowed.upgrade.take();
        let is_head = allowed.parts.method == Method::HEAD;
        let host = allowed.host.clone();
        let sending = self.send(allowed, upgrade.is_some());
        let answered = tokio::select! {
            answered = Box::pin(sending) => answered?,
            () = exchange.ended().cancelled() => {
                return Err(Refusal::policy(&host, "the policy was changed and denies it now").into());
            }
            () = too_late(&exchange) => {
                return Err(Failure::Upstream("the server did not answer in time".to_owned()));
            }
        };
        exchange.answered(answered.response.status());
        match (answered.response.status(), upgrade) {
            (StatusCode::SWITCHING_PROTOCOLS, Some(guest)) => {
                self.switch(answered, guest, exchange)
            }
            (StatusCode::SWITCHING_PROTOCOLS, None) => {
                Err(Refusal::answer("the server switched protocols unasked").into())
            }
            (_, _) => Ok(incoming::answer(answered, is_head, exchange)?),
        }
    }

    async fn send(&self, allowed: Allowed, is_upgrade: bool) -> Result<Answered, Failure> {
        let Allowed { mut parts, body, host, sent, credentials, exchange, .. } = allowed;
        let alpn = if is_upgrade { Alpn::Http1 } else { Alpn::Http2OrHttp1 };
        let alpn = if self.origin.scheme == Scheme::Http { Alpn::Http1 } else { alpn };
        let mut lease = self.pool.lease(&host, alpn).await?;
        let takes_trailers = fields::takes_trailers(&parts.headers);
        fields::remove_hop_by_hop(&mut parts.headers);
        parts.headers.remove(EXPECT);
        parts.extensions.clear();
        // Nothing secret is written to whom has not proved who it is: the connection is verified.
        let applied = self.apply(&credentials, &mut parts).await?;
        exchange.added(applied.secrets);
        if is_upgrade {
            websocket::ask(&mut parts.headers);
        }
        let replay = may_be_repeated(&parts, &body).then(|| parts.clone());
        let target = Outgoing { origin: &self.origin, host: &host, sent, takes_trailers };
        target.address(&mut parts, &lease)?;
        let error = match lease.send(Request::from_parts(parts, body)).await {
            Ok(response) => return Ok(Answered { response, lease, redactor: applied.redactor }),
            Err(error) => error,
        };
        let why = broken(error.error());
        // A connection that was used before may have been closed by the upstream as we wrote.
        let Some((mut parts, body)) = repeatable(&lease, *error, replay)? else {
            return Err(self.broken(&exchange, why));
        };
        let mut lease = self.pool.dial(&host, alpn).await?;
        target.address(&mut parts, &lease)?;
        match lease.send(Request::from_parts(parts, body)).await {
            Ok(response) => Ok(Answered { response, lease, redactor: applied.redactor }),
            Err(error) => Err(self.broken(&exchange, broken(error.error()))),
        }
    }

    async fn apply(
        &self,
        credentials: &[Credential],
        parts: &mut Parts,
    ) -> Result<Applied, Failure> {
        // A request in clear never gets a credential, whatever the policy says.
        if self.origin.scheme == Scheme::Http || credentials.is_empty() {
            return Ok(Applied::default());
        }
        let credentials: Vec<&Credential> = credentials.iter().collect();
        match Box::pin(self.outside.broker().apply(&credentials, parts)).await {
            Ok(applied) => Ok(applied),
            Err(error) => Err(refused_by_broker(&error).into()),
        }
    }

    /// Why the exchange broke: the guest's fault is told apart from the upstream's.
    fn broken(&self, exchange: &Exchange, why: &str) -> Failure {
        if let Some(violation) = self.turn.as_ref().and_then(Turn::violation) {
            return Refusal::malformed(violation.to_string()).into();
        }
        Failure::Upstream(exchange.error().unwrap_or_else(|| why.to_owned()))
    }

    /// The upstream takes the upgrade: from now on there are only bytes.
    fn switch(
        &self,
        answered: Answered,
        guest: OnUpgrade,
        exchange: Arc<Exchange>,
    ) -> Result<Response<ProxyBody>, Failure> {
        let Answered { mut response, lease, redactor } = answered;
        websocket::check(response.headers(), redactor.is_some())?;
        // Bytes that the guest sent too early are no frames.
        if let Some(turn) = &self.turn {
            turn.upgrade().map_err(|violation| Refusal::malformed(violation.to_string()))?;
        }
        let upstream = hyper::upgrade::on(&mut response);
        let (mut parts, _no_content) = response.into_parts();
        incoming::clean(&mut parts.headers, redactor.as_ref());
        websocket::ask(&mut parts.headers);
        let redactor = redactor.map(Redactor::keeping_lengths);
        let connection = Box::new(lease.into_tunnel());
        self.tunnels.put(Tunnel { guest, upstream, redactor, exchange, _connection: connection });
        let mut response =
            Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        Ok(response)
    }
}

/// What an upstream did, for the guest.
fn broken(error: &hyper::Error) -> &'static str {
    if error.is_parse() {
        "the server's answer is not HTTP that can be passed on"
    } else {
        "the server closed the connection"
    }
}

/// Ends when the answer's head is late.
async fn too_late(exchange: &Exchange) {
    loop {
        let deadline = exchange.sent_at() + ANSWER_DEADLINE;
        tokio::time::sleep_until(deadline).await;
        // The request may have gone on in the meantime.
        if exchange.sent_at() + ANSWER_DEADLINE <= Instant::now() {
            return;
        }
    }
}
