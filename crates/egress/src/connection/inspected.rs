//! A connection that was accepted to be looked at.

use std::sync::Arc;
use std::time::Duration;

use courier_types::egress::{FlowRefusal, HostName, Protocol};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::guest::GuestSide;
use super::judge::{Course, judge, why};
use super::record::Record;
use super::sniff::{Opening, SniffError, sniff};
use super::{Conversation, Place};
use crate::dial::DialError;
use crate::http;
use crate::network::{Revoked, Ticket};
use crate::policy::{Question, Scheme, Verdict};
use crate::tls::ca::{H2, Subject};
use crate::tls::hello::{Hello, HelloError};

/// Longest TLS handshake with the guest, once its hello is there.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the guest may take for an alert; what it does not take it does not get.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

/// TLS alerts (RFC 8446, section 6).
#[derive(Debug, Clone, Copy)]
enum Alert {
    AccessDenied = 49,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// A connection of the guest that is looked at.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) place: Place,
    pub(super) ticket: Ticket,
}

impl Inspected {
    /// Looks at the first bytes and does what they call for, to the connection's end. A stream that
    /// is dropped without more is reset.
    pub(super) async fn serve<S>(self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (opening, first) = match sniff(&mut stream).await {
            Ok(seen) => seen,
            Err(error) => return self.refuse_unseen(&error),
        };
        let side = GuestSide::new(first, stream);
        match opening {
            Opening::Tls(hello) => self.tls(hello, side).await,
            Opening::Http => {
                let conversation = self.conversation(Scheme::Http, None);
                http::serve_clear(side, conversation).await;
            }
            Opening::Opaque => self.opaque(side).await,
        }
    }

    fn refuse_unseen(&self, error: &SniffError) {
        let (fence, protocol) = match error {
            SniffError::Hello(HelloError::Name(_)) => ("sni", Some(Protocol::Https)),
            SniffError::Hello(_) => ("protocol", Some(Protocol::Https)),
            SniffError::Silent | SniffError::Ended | SniffError::Broken(_) => ("protocol", None),
        };
        self.place.refuse(None, protocol, FlowRefusal::new(fence, error.to_string()));
    }

    fn conversation(&self, scheme: Scheme, server_name: Option<HostName>) -> Conversation {
        Conversation {
            context: Arc::clone(&self.place.context),
            tasks: self.ticket.tasks().clone(),
            scheme,
            address: self.place.address,
            names: self.place.names.clone(),
            server_name,
        }
    }

    fn refuse_revoked(&self, protocol: Protocol, revoked: Revoked) {
        self.place.refuse(None, Some(protocol), FlowRefusal::new("policy", revoked.to_string()));
    }

    /// Bytes that are neither TLS nor HTTP.
    async fn opaque<S>(self, side: GuestSide<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Place { address, names, context } = self.place.clone();
        let policy = context.policy();
        let decision = policy.decide(&Question::Opaque { address, names: &names });
        if decision.verdict != Verdict::Allow {
            let why = format!("neither TLS nor HTTP is spoken, and {}", why(&decision));
            return self.place.refuse(None, Some(Protocol::Tcp), FlowRefusal::new("protocol", why));
        }
        let stake = self.ticket.stand_on(Box::new(move |policy| {
            let question = Question::Opaque { address, names: &names };
            policy.decide(&question).verdict == Verdict::Allow
        }));
        if let Err(revoked) = stake {
            return self.refuse_revoked(Protocol::Tcp, revoked);
        }
        let record = Record::new(self.place.clone(), Protocol::Tcp, &self.ticket);
        match self.place.dial(self.place.names.first()).await {
            Ok(upstream) => record.splice(side, upstream).await,
            Err(error) => self.fail(record, &error),
        }
    }

    /// Writes down that nobody was reached.
    fn fail(&self, record: Record, error: &DialError) {
        match error.refusal() {
            Some(refusal) => record.refuse(refusal),
            None => record.fail(error.text()),
        }
    }

    async fn tls<S>(self, hello: Hello, mut side: GuestSide<S>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Place { address, names, context } = self.place.clone();
        let host = hello.server_name.clone();
        let course = match judge(&context.policy(), address, &names, &hello) {
            Ok(course) => course,
            Err(refusal) => {
                let alert = match refusal.fence.as_str() {
                    "sni" => Alert::UnrecognizedName,
                    _ => Alert::AccessDenied,
                };
                self.place.refuse(host.as_ref(), Some(Protocol::Https), refusal);
                return send(&mut side, alert).await;
            }
        };
        let is_passed = course == Course::Pass;
        let stake = self.ticket.stand_on(Box::new(move |policy| {
            // What was opened may stay open where it could now pass; not the other way round.
            let course = judge(policy, address, &names, &hello);
            course.is_ok_and(|course| !is_passed || course == Course::Pass)
        }));
        if let Err(revoked) = stake {
            self.refuse_revoked(Protocol::Https, revoked);
            return send(&mut side, Alert::AccessDenied).await;
        }
        match course {
            Course::Pass => self.pass(host, side).await,
            Course::Open(subject) => self.open(subject, side).await,
        }
    }

    /// Sends the hello on as it came, and everything behind it.
    async fn pass<S>(self, host: Option<HostName>, mut side: GuestSide<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let record = Record::new(self.place.clone(), Protocol::Https, &self.ticket);
        let dialled = self.place.dial(host.as_ref()).await;
        let record = record.host(host);
        match dialled {
            Ok(upstream) => record.splice(side, upstream).await,
            Err(error) => {
                self.fail(record, &error);
                send(&mut side, Alert::InternalError).await;
            }
        }
    }

    /// Answers as the server, with a certificate of the sandbox's own CA, and hands what is inside
    /// to HTTP.
    async fn open<S>(self, subject: Subject, side: GuestSide<S>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let server_name = match &subject {
            Subject::Host(host) => Some(host.clone()),
            Subject::Address(_) => None,
        };
        let record = Record::new(self.place.clone(), Protocol::Https, &self.ticket);
        let record = record.host(server_name.clone());
        let config = match self.place.context.ca.server(&subject) {
            Ok(config) => config,
            Err(error) => return record.fail(error.to_string()),
        };
        let handshake = TlsAcceptor::from(config).accept(side);
        let stream = match timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let why = "the client did not complete TLS with the sandbox's own CA";
                return record.fail(match tls_reason(&error) {
                    Some(reason) => format!("{why}: {reason}"),
                    None => format!("{why}: {}", error.kind()),
                });
            }
            Err(_elapsed) => return record.fail("the client did not complete TLS in time".into()),
        };
        // Two parsers have read the same bytes; what they disagree about goes nowhere.
        let tls = stream.get_ref().1;
        if tls.server_name().and_then(|name| name.parse().ok()) != server_name {
            return record.refuse(FlowRefusal::new("sni", "the server name is ambiguous"));
        }
        let http = match tls.alpn_protocol() {
            Some(H2) => http::Version::Http2,
            Some(_) | None => http::Version::Http1,
        };
        record.hand_on();
        let conversation = self.conversation(Scheme::Https, server_name);
        http::serve_tls(stream, http, conversation).await;
    }
}

fn tls_reason(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|source| source.downcast_ref())
}

/// Tells the client why it gets nothing, and ends our half.
async fn send<S: AsyncWrite + Unpin>(side: &mut S, alert: Alert) {
    // Record: alert, version, length; fatal, description (RFC 8446, sections 5.1 and 6).
    let record = [21, 3, 3, 0, 2, 2, alert as u8];
    let sending = async {
        side.write_all(&record).await?;
        side.shutdown().await
    };
    // A client that does not take it is reset without.
    let _sent = timeout(ALERT_TIMEOUT, sending).await;
}
