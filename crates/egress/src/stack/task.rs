//! The task of a sandbox's stack: reads the link and gives each packet to whom it belongs.

use std::sync::Arc;
use std::time::Duration;

use courier_types::egress::Transport;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Buffers, Connection, Phase};
use super::link::Link;
use super::pace::Pace;
use super::packet::{Ends, Incoming, PacketRefusal, RefusedPacket, parse};
use super::reply::{self, Reply};
use super::stream::GuestStream;
use super::table::{Claim, Claimed, Owner, Table};
use super::{Admission, LINK_MTU, Services};

/// The most questions to the resolver that are asked at once for a sandbox. Those beyond get no
/// answer, and whoever asked them asks again.
pub(super) const DNS_IN_FLIGHT: usize = 64;
/// How long an answer to whether a connection may be opened may take. The guest's own patience is
/// some two minutes.
pub(super) const ADMIT_PATIENCE: Duration = Duration::from_secs(60);

/// How many connections of a sandbox have large buffers; those that come when there are as many have
/// small ones. All the buffers of a sandbox are 82 MB at most: 32 times 524,160 bytes and 992 times
/// 65,520.
const LARGE_MAX: usize = 32;

/// The task's state.
pub(super) struct Stack {
    link: Arc<Link>,
    table: Arc<Table>,
    services: Arc<dyn Services>,
    questions: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// What was begun for the guest: connections and questions. As many as the table and the
    /// semaphore let be, and connections that have ended for the guest but not yet for who serves
    /// them.
    tasks: JoinSet<()>,
    pace: Pace,
    /// Until when nothing is read: too much of what was read led nowhere.
    rest: Option<Instant>,
}

impl Stack {
    pub(super) fn new(link: Arc<Link>, table: Arc<Table>, services: Arc<dyn Services>) -> Self {
        let questions = Arc::new(Semaphore::new(DNS_IN_FLIGHT));
        let large = Arc::new(Semaphore::new(LARGE_MAX));
        Self {
            link,
            table,
            services,
            questions,
            large,
            tasks: JoinSet::new(),
            pace: Pace::new(Instant::now()),
            rest: None,
        }
    }

    /// Runs until the link ends or it is told to.
    pub(super) async fn run(mut self, end: CancellationToken) {
        let severed = Severed(Arc::clone(&self.table));
        let link = Arc::clone(&self.link);
        let mut buffer = vec![0; LINK_MTU];
        loop {
            let packet = tokio::select! {
                biased;
                () = end.cancelled() => break,
                packet = link.receive(&mut buffer) => packet,
            };
            // A link that fails has ended.
            let Ok(Some(packet)) = packet else { break };
            // Each packet counts against the task's budget, so that others get their turn.
            self.take(packet);
            if let Some(rest) = self.rest.take() {
                tokio::select! {
                    () = end.cancelled() => break,
                    () = tokio::time::sleep_until(rest) => {}
                }
            }
        }
        drop(severed);
        self.tasks.shutdown().await;
    }

    fn take(&mut self, packet: &[u8]) {
        match parse(packet) {
            Incoming::Segment(ends) => match self.table.owner(&ends) {
                Owner::Connection(connection) => return connection.receive(packet),
                Owner::Nobody => self.reply(Reply::Reset, packet),
                Owner::Opening => {}
            },
            Incoming::Syn(ends) => self.open(ends, packet),
            Incoming::Query { from, query } => self.ask(from, query),
            Incoming::Refused(what, reply) => {
                self.reply(reply, packet);
                self.services.refused(what);
            }
            Incoming::Nothing => {}
        }
        // It belonged to no open connection: it wanted a decision, or led nowhere.
        self.rest = self.pace.count(Instant::now());
    }

    /// Answers a packet that belongs to nothing. An answer that finds no room is lost.
    fn reply(&self, reply: Reply, packet: &[u8]) {
        if let Some(reply) = reply.to(packet) {
            self.link.send(&reply);
        }
    }

    fn ask(&mut self, from: std::net::SocketAddrV4, query: &[u8]) {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            let refusal = PacketRefusal::Questions;
            self.services.refused(RefusedPacket { transport: Transport::Dns, to: None, refusal });
            return;
        };
        let answer = self.services.dns(query.to_vec());
        let link = Arc::clone(&self.link);
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            if let Some(packet) = answer.await.and_then(|answer| reply::answer(from, &answer)) {
                link.send(&packet);
            }
            drop(permit);
        });
    }

    fn open(&mut self, ends: Ends, syn: &[u8]) {
        while self.tasks.try_join_next().is_some() {}
        let refusal = match self.table.claim(ends) {
            Claimed::Again => {
                if let Owner::Connection(connection) = self.table.owner(&ends) {
                    connection.receive(syn);
                }
                return;
            }
            Claimed::First(_) if self.tasks.len() >= TASKS_MAX => PacketRefusal::Connections,
            Claimed::First(claim) => {
                let opening = Opening {
                    claim,
                    syn: syn.to_vec(),
                    link: Arc::clone(&self.link),
                    services: Arc::clone(&self.services),
                    large: Arc::clone(&self.large),
                };
                self.tasks.spawn(opening.run());
                return;
            }
            Claimed::Full(refusal) => refusal,
        };
        if refusal == PacketRefusal::Connections {
            self.reply(Reply::Reset, syn);
        }
        let transport = Transport::Tcp;
        self.services.refused(RefusedPacket { transport, to: Some(ends.to), refusal });
    }
}

/// The most that is begun for a guest at once: what the table and the resolver take, and as many
/// connections again that have ended for the guest but not yet for who serves them.
const TASKS_MAX: usize = 2 * super::table::CONNECTIONS_MAX + DNS_IN_FLIGHT;

/// Ends every connection when the task ends, whatever ends it.
struct Severed(Arc<Table>);

impl Drop for Severed {
    fn drop(&mut self) {
        self.0.sever();
    }
}

/// A connection from its SYN on.
struct Opening {
    claim: Claim,
    syn: Vec<u8>,
    link: Arc<Link>,
    services: Arc<dyn Services>,
    large: Arc<Semaphore>,
}

impl Opening {
    async fn run(self) {
        let Self { claim, syn, link, services, large } = self;
        let ends = claim.ends();
        let admitted = tokio::time::timeout(ADMIT_PATIENCE, services.admit(ends.to)).await;
        drop(services);
        let Ok(Admission::Accept(serve)) = admitted else {
            drop(claim);
            if let Some(reset) = Reply::Reset.to(&syn) {
                link.send(&reset);
            }
            return;
        };
        // Held until nobody has the connection's buffers any more.
        let large = large.try_acquire_owned().ok();
        let buffers = if large.is_some() { Buffers::Large } else { Buffers::Small };
        let connection = Connection::new(link, ends, buffers).map(Arc::new);
        let Some(connection) = connection else { return };
        if !claim.open(Arc::clone(&connection)) {
            return;
        }
        connection.receive(&syn);
        if connection.drive(Phase::Opening).await == Phase::Finished {
            return;
        }
        let stream = GuestStream::new(Arc::clone(&connection));
        let served = AbortOnDropHandle::new(tokio::spawn(serve(stream)));
        connection.drive(Phase::Open).await;
        drop(claim);
        // A panic of who serves it ends this connection and nothing else.
        let _ended = served.await;
        drop(large);
    }
}
