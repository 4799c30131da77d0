//! The requests of one connection that are going on, each with what was asked for it: when the
//! policy changes, they are asked for again.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courier_types::egress::Credential;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::guard::Host;
use super::origin::Origin;
use super::target::Reading;
use crate::policy::{Compiled, Question, Reason, Scheme, Verdict};

/// What has to be allowed for a request to go out.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    scheme: Scheme,
    address: SocketAddrV4,
    host: Host,
    readings: Vec<Reading>,
}

impl Asked {
    /// The questions about a request.
    pub(super) const fn new(origin: &Origin, host: Host, readings: Vec<Reading>) -> Self {
        Self { scheme: origin.scheme, address: origin.address, host, readings }
    }

    /// Asks the policy about every reading of the request. Only a credential that belongs to all of
    /// them is added.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn decide(&self, policy: &Compiled) -> Result<Vec<Credential>, String> {
        let mut credentials: Option<Vec<Credential>> = None;
        for reading in &self.readings {
            let decision = policy.decide(&Question::Request {
                scheme: self.scheme,
                address: self.address,
                host: self.host.name(),
                method: &reading.method,
                path: &reading.path,
            });
            if decision.verdict != Verdict::Allow {
                return Err(reasons(&decision.reasons));
            }
            match &mut credentials {
                Some(credentials) => credentials.retain(|one| decision.credentials.contains(&one)),
                None => credentials = Some(decision.credentials.into_iter().cloned().collect()),
            }
        }
        credentials.ok_or_else(|| "the request asks for nothing".to_owned())
    }
}

/// The reason that denied is the last.
fn reasons(reasons: &[Reason]) -> String {
    reasons.last().map_or_else(|| "the policy denies it".to_owned(), |last| last.text.clone())
}

/// The requests that are going on. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    requests: Mutex<Requests>,
    count: watch::Sender<usize>,
    policy: watch::Receiver<Arc<Compiled>>,
}

#[derive(Debug, Default)]
struct Requests {
    next: u64,
    going_on: HashMap<u64, (Asked, CancellationToken)>,
}

impl Live {
    /// None yet.
    pub(super) fn new(policy: watch::Receiver<Arc<Compiled>>) -> Self {
        let requests = Mutex::default();
        Self(Arc::new(Shared { requests, count: watch::Sender::new(0), policy }))
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides on a request, and keeps an eye on it until the returned value is dropped.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn begin(&self, asked: Asked) -> Result<(Going, Vec<Credential>), String> {
        let ended = CancellationToken::new();
        let number = {
            let mut requests = self.requests();
            requests.next += 1;
            let number = requests.next;
            requests.going_on.insert(number, (asked.clone(), ended.clone()));
            number
        };
        let going = Going { live: self.clone(), number, ended };
        going.live.count();
        // Decided after it was entered: a change of the policy in between is seen by one of both.
        let policy = Arc::clone(&self.0.policy.borrow());
        asked.decide(&policy).map(|credentials| (going, credentials))
    }

    fn count(&self) {
        let count = self.requests().going_on.len();
        self.0.count.send_replace(count);
    }

    /// How many there are, as it changes.
    pub(super) fn counted(&self) -> watch::Receiver<usize> {
        self.0.count.subscribe()
    }

    /// Ends what a new policy does not allow, for as long as there may be new ones.
    pub(super) async fn supervise(&self) {
        let mut policy = self.0.policy.clone();
        while policy.changed().await.is_ok() {
            let now = Arc::clone(&policy.borrow_and_update());
            for (asked, ended) in self.requests().going_on.values() {
                if asked.decide(&now).is_err() {
                    ended.cancel();
                }
            }
        }
        // Nobody can change it any more.
        std::future::pending().await
    }
}

/// A request that is going on.
#[derive(Debug)]
pub(super) struct Going {
    live: Live,
    number: u64,
    ended: CancellationToken,
}

impl Going {
    /// Cancelled when the policy does not allow the request any more.
    pub(super) const fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.live.requests().going_on.remove(&self.number);
        self.live.count();
    }
}
