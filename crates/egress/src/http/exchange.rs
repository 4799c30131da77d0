//! One request and its answer: what is written about them when both have ended.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courier_types::DurationMs;
use courier_types::egress::{FlowEvent, FlowRefusal, Protocol, SecretName, Transport};
use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::guard::Host;
use super::live::Going;
use super::origin::Origin;
use super::refusal::Refusal;
use super::room::Place;
use crate::flow::FlowLog;
use crate::policy::Scheme;

/// Longest path in a record, in characters.
const PATH_MAX: usize = 1_024;

/// Whom a request was for and what it asked, for a record.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    /// The host.
    pub(super) host: Host,
    /// The address that is dialled.
    pub(super) address: SocketAddrV4,
    /// In clear or in TLS.
    pub(super) scheme: Scheme,
    /// The method.
    pub(super) method: String,
    /// The canonical path.
    pub(super) path: String,
}

impl Asking {
    /// The record of a refusal.
    pub(super) fn refused(&self, refusal: &Refusal) -> FlowEvent {
        let mut event = refused(self.scheme, self.address, refusal);
        if let FlowEvent::Refused { host, method, path, .. } = &mut event {
            *host = self.host.name().cloned();
            *method = Some(self.method.clone());
            *path = Some(cut(&self.path));
        }
        event
    }
}

/// The record of a refusal of something that was not understood.
pub(super) fn refused(scheme: Scheme, address: SocketAddrV4, refusal: &Refusal) -> FlowEvent {
    FlowEvent::Refused {
        transport: Transport::Tcp,
        host: None,
        address: Some(address),
        protocol: Some(match scheme {
            Scheme::Http => Protocol::Http,
            Scheme::Https => Protocol::Https,
        }),
        method: None,
        path: None,
        refusal: FlowRefusal::new(refusal.fence, refusal.why.clone()),
        count: 1,
    }
}

impl Origin {
    /// The record of a refusal of a request that names nothing that could be written down.
    pub(super) fn refused(&self, refusal: &Refusal) -> FlowEvent {
        let mut event = refused(self.scheme, self.address, refusal);
        if let FlowEvent::Refused { host, .. } = &mut event {
            *host = self.server_name.clone();
        }
        event
    }
}

fn cut(path: &str) -> String {
    path.chars().take(PATH_MAX).collect()
}

/// One request and its answer; the record is written when the last who has to do with it is gone.
#[derive(Debug)]
pub(super) struct Exchange {
    flows: FlowLog,
    asking: Asking,
    going: Going,
    _place: Place,
    begun: Instant,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    /// When the request's content last went on, in milliseconds from the begin.
    sent_at: AtomicU64,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    status: Option<StatusCode>,
    credentials: Vec<SecretName>,
    error: Option<String>,
    refusal: Option<Refusal>,
}

impl Exchange {
    /// Begins.
    pub(super) fn new(flows: FlowLog, asking: Asking, going: Going, place: Place) -> Self {
        Self {
            flows,
            asking,
            going,
            _place: place,
            begun: Instant::now(),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            sent_at: AtomicU64::new(0),
            noted: Mutex::default(),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the policy does not allow the request any more.
    pub(super) const fn ended(&self) -> &CancellationToken {
        self.going.ended()
    }

    /// Counts content of the request.
    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
        let at = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sent_at.store(at, Ordering::Relaxed);
    }

    /// When the request last went on.
    pub(super) fn sent_at(&self) -> Instant {
        self.begun + Duration::from_millis(self.sent_at.load(Ordering::Relaxed))
    }

    /// Counts content of the answer.
    pub(super) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes the answer's status.
    pub(super) fn answered(&self, status: StatusCode) {
        self.noted().status = Some(status);
    }

    /// Notes what was added.
    pub(super) fn added(&self, credentials: Vec<SecretName>) {
        self.noted().credentials = credentials;
    }

    /// Notes why there is no whole answer; the first reason stays.
    pub(super) fn failed(&self, error: impl Into<String>) {
        self.noted().error.get_or_insert_with(|| error.into());
    }

    /// Why there is no whole answer, as far as it is known.
    pub(super) fn error(&self) -> Option<String> {
        self.noted().error.clone()
    }

    /// Notes that the request did not go out.
    pub(super) fn refuse(&self, refusal: &Refusal) {
        self.noted().refusal.get_or_insert_with(|| refusal.clone());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let noted = std::mem::take(&mut *self.noted());
        if let Some(refusal) = &noted.refusal {
            self.flows.write(self.asking.refused(refusal));
            return;
        }
        let incomplete = noted.status.is_none().then(|| "the guest went away".to_owned());
        self.flows.write(FlowEvent::Request {
            host: self.asking.host.to_string(),
            address: self.asking.address,
            method: self.asking.method.clone(),
            path: cut(&self.asking.path),
            status: noted.status.map(|status| status.as_u16()),
            bytes_out: *self.bytes_out.get_mut(),
            bytes_in: *self.bytes_in.get_mut(),
            duration_ms: DurationMs::from(self.begun.elapsed()),
            credentials: noted.credentials,
            error: noted.error.or(incomplete),
        });
    }
}
