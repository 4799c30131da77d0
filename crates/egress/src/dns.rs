//! DNS as the guest sees it: our answers, for allowed names only.
//!
//! ```text
//! bytes ─▶ one plain question ─▶ budget ─▶ tunnel? ─▶ local? ─▶ policy ─▶ budget ─▶ resolver ─▶ reach guard ─▶ pins ─▶ answer
//!            └ error or nothing    └ later    └ its own  └──────────┴ no such name         └ no such name
//!                                             address        (learn mode: an address that is never dialled)
//! ```
//!
//! What always holds: nothing but the canonical name of an allowed host goes out, and only to ask
//! for its IPv4 addresses. Every address that is given out is pinned to the name first.

mod budget;
mod kept;
mod message;
mod pins;
mod resolver;
mod width;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use courier_types::egress::{FlowEvent, FlowRefusal, HostName, Transport, TunnelName};
use courier_types::{DurationMs, SandboxId};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use self::budget::{Budgets, Spent};
use self::kept::Kept;
use self::message::{ADDRESSES_MAX, Asked, Kind, Reply, Unread};
pub(crate) use self::pins::{Pinned, Pins};
use self::resolver::Answer;
pub use self::resolver::{ResolveError, Resolver, ResolverError};
use crate::dial::Reach;
use crate::policy::{Compiled, Question, Verdict};
use crate::{FlowLog, Tunnels};

/// How long an answer may be kept inside, in seconds: always the same, since what is left of the
/// TTL in a server's cache would say when a neighbour asked. The pin lives longer.
const ANSWER_TTL_SECONDS: u32 = 30;

/// Most questions of one sandbox on their way: a sandbox whose names are slow to resolve keeps no
/// other one waiting. More wait.
const ASKING_MAX: usize = 8;

/// Below it, tunnels have their names.
const TUNNEL_SUFFIX: &str = ".tunnel.internal";

/// Names that never go out, with everything below them: they mean something else on each machine
/// (RFC 6761, RFC 6762, RFC 7686, RFC 8375; `internal` is reserved for private use, and is where
/// clouds have their metadata services).
const LOCAL: [&str; 5] = ["localhost", "local", "internal", "onion", "home.arpa"];

/// What a sandbox's DNS is made of.
#[derive(Debug)]
pub(crate) struct DnsSetup {
    /// Whose it is.
    pub(crate) sandbox: SandboxId,
    /// What it may reach, now.
    pub(crate) policy: watch::Receiver<Arc<Compiled>>,
    /// Whom to ask, now: the node's resolver, or one for servers of the sandbox's own.
    pub(crate) resolver: watch::Receiver<Resolver>,
    /// Which addresses may be given out.
    pub(crate) reach: Reach,
    /// Where they are written down.
    pub(crate) pins: Arc<Pins>,
    /// The private tunnels.
    pub(crate) tunnels: Arc<dyn Tunnels>,
    /// What is written about it.
    pub(crate) flows: FlowLog,
}

/// Answers the questions of one sandbox.
#[derive(Debug)]
pub(crate) struct Dns {
    setup: DnsSetup,
    budgets: Mutex<Budgets>,
    kept: Mutex<Kept>,
    asking: Semaphore,
}

impl Dns {
    /// With full budgets.
    pub(crate) fn new(setup: DnsSetup) -> Self {
        let (budgets, kept) = (Mutex::new(Budgets::new()), Mutex::new(Kept::new()));
        Self { setup, budgets, kept, asking: Semaphore::new(ASKING_MAX) }
    }

    /// The answer to one datagram; `None` where it is better left unanswered. Ends within the
    /// resolver's deadline.
    pub(crate) async fn answer(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        if let Err(spent) = self.budgets().count_question() {
            self.tell_spent(None, spent);
            return Asked::read(datagram).ok()?.answer(&Reply::Failed);
        }
        match Asked::read(datagram) {
            Ok(asked) => {
                let reply = self.reply(&asked).await;
                asked.answer(&reply)
            }
            Err(unread) => {
                self.refuse(None, "protocol", "not a plain DNS question");
                match unread {
                    Unread::Silent => None,
                    Unread::Answered(bytes) => Some(bytes),
                }
            }
        }
    }

    async fn reply(&self, asked: &Asked) -> Reply {
        let Some(host) = asked.host() else {
            self.refuse(None, "name", "what was asked for is not a host name");
            return Reply::NoName;
        };
        let kind = asked.kind();
        if matches!(kind, Kind::Reverse | Kind::Odd) {
            let record = asked.record();
            self.refuse(
                Some(host),
                "protocol",
                format!("DNS has only A records here, not {record}"),
            );
            return if kind == Kind::Reverse { Reply::NoName } else { Reply::Refused };
        }
        if let Some(label) = host.as_str().strip_suffix(TUNNEL_SUFFIX) {
            let tunnel = label.parse().ok();
            return self.reply_for_tunnel(asked, host, tunnel);
        }
        if is_local(&host) && !self.setup.reach.permits_host(&host) {
            self.refuse(Some(host), "name", "names of local networks are never resolved");
            return Reply::NoName;
        }
        let policy = Arc::clone(&self.setup.policy.borrow());
        let decision = policy.decide(&Question::Name { host: &host });
        if decision.verdict == Verdict::Deny {
            let why = decision.reasons.last().map(|reason| reason.text.clone());
            self.refuse(Some(host.clone()), "policy", why.unwrap_or_default());
            return self.reply_to_refused(&policy, kind, host);
        }
        if kind == Kind::Absent {
            self.tell_answered(asked, host, 0, Instant::now());
            return Reply::NoData;
        }
        let resolver = self.setup.resolver.borrow().clone();
        if let Some(answer) = self.kept().get(&resolver, &host) {
            return self.give(asked, host, &answer, Instant::now());
        }
        let width = width::of(&policy, &host);
        if let Err(spent) = self.budgets().count_name(&host, &width) {
            self.tell_spent(Some(host), spent);
            return Reply::Failed;
        }
        self.resolve(asked, host, &resolver).await
    }

    fn reply_for_tunnel(&self, asked: &Asked, host: HostName, name: Option<TunnelName>) -> Reply {
        let setup = &self.setup;
        let policy = Arc::clone(&setup.policy.borrow());
        let tunnel = name.filter(|name| {
            policy.allows_tunnel(name) && setup.tunnels.port(&setup.sandbox, name).is_some()
        });
        let Some(tunnel) = tunnel else {
            self.refuse(Some(host), "policy", "the policy names no such tunnel, or there is none");
            return Reply::NoName;
        };
        if asked.kind() == Kind::Absent {
            self.tell_answered(asked, host, 0, Instant::now());
            return Reply::NoData;
        }
        let address = setup.pins.pin_tunnel(tunnel, host.clone());
        self.tell_answered(asked, host, 1, Instant::now());
        Reply::Addresses(vec![address], ANSWER_TTL_SECONDS)
    }

    /// A refused name is not there; in learn mode it seems to be, so that one sees what would be
    /// done with it.
    fn reply_to_refused(&self, policy: &Compiled, kind: Kind, host: HostName) -> Reply {
        match (policy.learns(), kind) {
            (false, _) => Reply::NoName,
            (true, Kind::Address) => {
                let address = self.setup.pins.pin_refused(host);
                Reply::Addresses(vec![address], ANSWER_TTL_SECONDS)
            }
            (true, Kind::Absent | Kind::Reverse | Kind::Odd) => Reply::NoData,
        }
    }

    async fn resolve(&self, asked: &Asked, host: HostName, resolver: &Resolver) -> Reply {
        let since = Instant::now();
        let asking = timeout(resolver::DEADLINE, async {
            // An error would mean that somebody closed it, and nobody does.
            let _asking = self.asking.acquire().await;
            resolver.addresses(&host).await
        });
        let mut answer = match asking.await.unwrap_or(Err(ResolveError::Timeout)) {
            Ok(answer) => answer,
            Err(error) => {
                self.tell_answered(asked, host, 0, since);
                return match error {
                    ResolveError::NoName => Reply::NoName,
                    ResolveError::NoAddress => Reply::NoData,
                    ResolveError::Timeout | ResolveError::Reach(_) | ResolveError::Failed(_) => {
                        Reply::Failed
                    }
                };
            }
        };
        answer.addresses = self.within_reach(&host, answer.addresses);
        if answer.addresses.is_empty() {
            return Reply::NoName;
        }
        self.kept().put(resolver, host.clone(), &answer);
        self.give(asked, host, &answer, since)
    }

    /// Pins the addresses and gives them out.
    fn give(&self, asked: &Asked, host: HostName, answer: &Answer, since: Instant) -> Reply {
        self.setup.pins.pin(&host, &answer.addresses, answer.ttl);
        self.tell_answered(asked, host, answer.addresses.len(), since);
        Reply::Addresses(answer.addresses.clone(), ANSWER_TTL_SECONDS)
    }

    /// The addresses that may be given out, in the order of the answer; where there are none, the
    /// flow log says why.
    fn within_reach(&self, host: &HostName, addresses: Vec<Ipv4Addr>) -> Vec<Ipv4Addr> {
        let mut kept = Vec::new();
        let mut refused = None;
        for address in addresses {
            match self.setup.reach.check_named(address, host) {
                Ok(()) if kept.len() < ADDRESSES_MAX && !kept.contains(&address) => {
                    kept.push(address);
                }
                Ok(()) => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let (true, Some(error)) = (kept.is_empty(), refused) {
            self.refuse(Some(host.clone()), "address", error.to_string());
        }
        kept
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_spent(&self, host: Option<HostName>, spent: Spent) {
        if let Some(why) = spent.why {
            self.refuse(host, "budget", why);
        }
    }

    fn tell_answered(&self, asked: &Asked, host: HostName, answers: usize, since: Instant) {
        self.setup.flows.write(FlowEvent::Dns {
            host,
            record: asked.record(),
            answers: u32::try_from(answers).unwrap_or(u32::MAX),
            duration_ms: DurationMs::from(since.elapsed()),
        });
    }

    fn refuse(&self, host: Option<HostName>, fence: &str, why: impl Into<String>) {
        self.setup.flows.write(FlowEvent::Refused {
            transport: Transport::Dns,
            host,
            address: None,
            protocol: None,
            method: None,
            path: None,
            refusal: FlowRefusal::new(fence, why),
            count: 1,
        });
    }
}

/// True for a name of [`LOCAL`] or below one, and for a single label: what these mean is a matter
/// of the machine that asks.
fn is_local(host: &HostName) -> bool {
    let is_below = |parent: &str| {
        host.as_str()
            .strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    host.labels().nth(1).is_none() || LOCAL.into_iter().any(is_below)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
