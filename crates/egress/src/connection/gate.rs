//! What the stack asks: the door that every connection comes through.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use courier_types::egress::{FlowRefusal, HostName, Protocol, TunnelName};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Place;
use super::guest::GuestSide;
use super::inspected::Inspected;
use super::judge::why;
use super::learn::Learning;
use super::record::Record;
use crate::dns::{Dns, Pinned};
use crate::network::{Context, THROUGH_MAX, Tasks, Ticket};
use crate::policy::{Compiled, Question, Verdict};
use crate::stack::{Admission, GuestStream, RefusedPacket, Services};

/// Longest wait for a tunnel to open.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// The door of one sandbox.
#[derive(Debug)]
pub(crate) struct Gate {
    context: Arc<Context>,
    dns: Arc<Dns>,
}

impl Gate {
    /// The door to what the context has.
    pub(crate) fn new(context: Arc<Context>, dns: Dns) -> Self {
        Self { context, dns: Arc::new(dns) }
    }
}

impl Services for Gate {
    fn dns(&self, query: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        let (tasks, dns) = (self.context.tasks.clone(), Arc::clone(&self.dns));
        async move { tasks.run(async move { dns.answer(&query).await }).await.flatten() }.boxed()
    }

    fn admit(&self, to: SocketAddrV4) -> BoxFuture<'static, Admission> {
        let context = Arc::clone(&self.context);
        async move {
            let tasks = context.tasks.clone();
            let serve = tasks.run(admit(context, to)).await.flatten();
            serve.map_or(Admission::Refuse, |serve| Admission::Accept(serve.0))
        }
        .boxed()
    }

    fn refused(&self, what: RefusedPacket) {
        self.context.flows.write(what.into());
    }
}

/// What serves a connection that may be accepted.
struct Serve(crate::stack::Serve);

impl Serve {
    /// Runs that future with the stream, until its group of tasks is ended.
    fn new<F, Fut>(tasks: &Tasks, serve: F) -> Self
    where
        F: FnOnce(GuestStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let tasks = tasks.clone();
        Self(Box::new(move |stream| {
            async move {
                tasks.run(serve(stream)).await;
            }
            .boxed()
        }))
    }
}

async fn admit(context: Arc<Context>, address: SocketAddrV4) -> Option<Serve> {
    let (pinned, names) = context.pins.names(*address.ip()).unwrap_or((Pinned::Real, Vec::new()));
    let place = Place { context, address, names };
    match pinned {
        Pinned::Real => real(place).await,
        Pinned::Tunnel(tunnel) => through(place, tunnel).await,
        Pinned::Learn => learned(place),
    }
}

/// To an address of the outside.
async fn real(place: Place) -> Option<Serve> {
    let policy = place.context.policy();
    let decision = policy.decide(&place.question());
    match decision.verdict {
        Verdict::Deny => {
            place.refuse(None, None, FlowRefusal::new("policy", why(&decision)));
            None
        }
        Verdict::Allow => anything(place).await,
        Verdict::Inspect => inspected(place),
    }
}

/// Any bytes: the connection is there when the server's is.
async fn anything(place: Place) -> Option<Serve> {
    let ticket = place.enter(|verdict| verdict == Verdict::Allow)?;
    let record = Record::new(place.clone(), Protocol::Tcp, &ticket);
    match ticket.tasks().run(place.dial(place.names.first())).await? {
        Ok(upstream) => Some(spliced((ticket, None), record, upstream)),
        Err(error) => {
            match error.refusal() {
                Some(refusal) => record.refuse(refusal),
                None => record.fail(error.text()),
            }
            None
        }
    }
}

/// A connection with what it holds for as long as it is there.
fn spliced<U>(held: (Ticket, Option<OwnedSemaphorePermit>), record: Record, upstream: U) -> Serve
where
    U: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let tasks = held.0.tasks().clone();
    Serve::new(&tasks, |stream| async move {
        record.splice(GuestSide::new(Vec::new(), stream), upstream).await;
        drop(held);
    })
}

/// Accepted to be looked at. What is out of reach anyhow is refused at once.
fn inspected(place: Place) -> Option<Serve> {
    let host = place.names.first();
    if let Err(error) = place.context.reach.check_dialled(place.address, host) {
        place.refuse(None, None, FlowRefusal::new("address", error.to_string()));
        return None;
    }
    let ticket = place.enter(|verdict| verdict != Verdict::Deny)?;
    let tasks = ticket.tasks().clone();
    Some(Serve::new(&tasks, |stream| Inspected { place, ticket }.serve(stream)))
}

/// Through a tunnel, which leads to its one service and nowhere else.
async fn through(place: Place, tunnel: TunnelName) -> Option<Serve> {
    let Context { tunnels, sandbox, open, .. } = &*place.context;
    if tunnels.port(sandbox, &tunnel) != Some(place.address.port()) {
        let why = "the tunnel does not have that port";
        place.refuse(None, None, FlowRefusal::new("policy", why));
        return None;
    }
    let name = tunnel.clone();
    let ticket = open.enter(Box::new(move |policy| policy.allows_tunnel(&name)));
    let Ok(ticket) = ticket else {
        let why = format!("the policy does not name tunnel {tunnel}");
        place.refuse(None, None, FlowRefusal::new("policy", why));
        return None;
    };
    let Ok(through) = Arc::clone(&place.context.through).try_acquire_owned() else {
        let why = format!("the sandbox has {THROUGH_MAX} connections through tunnels");
        place.refuse(None, None, FlowRefusal::new("limit", why));
        return None;
    };
    let record = Record::new(place.clone(), Protocol::Tcp, &ticket).tunnel(tunnel.clone());
    let opening = timeout(TUNNEL_TIMEOUT, tunnels.open(sandbox, &tunnel));
    match ticket.tasks().run(opening).await? {
        Ok(Ok(stream)) => Some(spliced((ticket, Some(through)), record, stream)),
        Ok(Err(error)) => {
            record.fail(error.to_string());
            None
        }
        Err(_elapsed) => {
            record.fail("the tunnel did not open in time".to_owned());
            None
        }
    }
}

/// To a made-up address: nobody is there, but it is seen what would have been asked for.
fn learned(place: Place) -> Option<Serve> {
    if !place.context.policy().learns() {
        let why = "the name was refused when it was resolved";
        place.refuse(None, None, FlowRefusal::new("policy", why));
        return None;
    }
    let tasks = place.context.tasks.child();
    Some(Serve::new(&tasks, |stream| Learning { place }.serve(stream)))
}

impl Place {
    fn question(&self) -> Question<'_> {
        Question::Connection { address: self.address, names: &self.names }
    }

    /// Notes the connection, as one that may stay while the verdict on it is good.
    fn enter(&self, is_good: fn(Verdict) -> bool) -> Option<Ticket> {
        let (address, names): (_, Vec<HostName>) = (self.address, self.names.clone());
        let stake = Box::new(move |policy: &Compiled| {
            let question = Question::Connection { address, names: &names };
            is_good(policy.decide(&question).verdict)
        });
        let entered = self.context.open.enter(stake);
        if let Err(revoked) = &entered {
            self.refuse(None, None, FlowRefusal::new("policy", revoked.to_string()));
        }
        entered.ok()
    }
}
