//! The task that owns one sandbox. Its loop only dispatches: what happened becomes an event, the
//! pure machine of `courier-lifecycle` says what follows, and what takes time runs as a job.

pub(crate) mod jobs;
mod network;
mod start;

use std::sync::Arc;

use courier_driver::{Ended, Machine};
use courier_egress::{FlowLog, Network, NetworkError};
use courier_lifecycle::sandbox::{Action, Event, Origin, State};
use courier_protocol::node::Report;
use courier_types::egress::NetworkSpec;
use courier_types::{EndReason, Generation, ObservedState, SandboxSpec, Timestamp, Usage};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::failure::{DriverFailure, Failure, GuestError};
use crate::guest::Guest;
use crate::registry::Context;

pub(crate) use start::StartError;

/// Commands that wait for the task; a sender waits beyond that.
const COMMANDS_LIMIT: usize = 16;

/// Most bytes of a report's detail.
const DETAIL_LIMIT_BYTES: usize = 4_096;

/// For whom a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A user of the server: it is reported, listed and reached by clients.
    Use,
    /// A build of this node, which alone knows of it and ends it.
    Build,
}

/// How a sandbox comes to be on this node.
#[derive(Debug)]
pub(crate) struct Making {
    /// Whether it is made or taken over.
    pub(crate) origin: Origin,
    /// Its root file system; of no matter for one that is taken over.
    pub(crate) image: std::path::PathBuf,
    /// For whom it is.
    pub(crate) purpose: Purpose,
    /// Longest time for the start and ready commands of its build.
    pub(crate) start_deadline: std::time::Duration,
}

/// What others ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// End the sandbox.
    End(EndReason),
    /// Move the time at which it is destroyed.
    SetDeadline(Timestamp),
    /// Replace its network.
    SetNetwork(Box<NetworkSpec>, oneshot::Sender<Result<(), NetworkError>>),
}

/// What others see of the sandbox.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Where it is in its life.
    pub(crate) state: State,
    /// Its guest daemon, while it answers.
    pub(crate) guest: Option<Arc<Guest>>,
    /// Its network, while it is up.
    pub(crate) network: Option<Arc<Network>>,
    /// What went wrong first, if anything.
    pub(crate) failure: Option<Failure>,
}

/// A handle on the task.
#[derive(Debug)]
pub(crate) struct Handle {
    /// What was asked for.
    pub(crate) spec: SandboxSpec,
    /// For whom it is.
    pub(crate) purpose: Purpose,
    /// Longest time for the start and ready commands of its build.
    pub(crate) start_deadline: std::time::Duration,
    /// To the task.
    pub(crate) commands: mpsc::Sender<Command>,
    /// From the task.
    pub(crate) view: watch::Receiver<View>,
    /// Held while a deadline is moved, so that the driver sees moves in their order.
    pub(crate) deadline_order: tokio::sync::Mutex<()>,
    /// What was seen of its network.
    pub(crate) flows: FlowLog,
}

/// What happened to the sandbox, with what came of it.
enum Happened {
    Made(Machine),
    NotMade(DriverFailure),
    Greeted(Arc<Guest>, Arc<Network>),
    NotGreeted(GuestError),
    ConnectionClosed,
    Gone,
    Destroyed(Option<Ended>),
    DeadlineMoved,
    NetworkClosed,
    NetworkBack(Arc<Network>),
    NetworkLost(NetworkError),
}

/// The task's own state.
struct Task {
    context: Arc<Context>,
    spec: SandboxSpec,
    origin: Origin,
    purpose: Purpose,
    start_deadline: std::time::Duration,
    deadline: Timestamp,
    state: State,
    generation: Generation,
    machine: Option<Machine>,
    failure: Option<Failure>,
    guest: Option<Arc<Guest>>,
    network: network::Watched,
    ended: Option<Ended>,
    doomed: CancellationToken,
    jobs: JoinSet<Happened>,
    view: watch::Sender<View>,
}

/// Starts the task of one sandbox.
pub(crate) fn spawn(context: Arc<Context>, spec: SandboxSpec, making: Making) -> Handle {
    let Making { origin, image, purpose, start_deadline } = making;
    let (state, first) = State::first(origin);
    let (commands, received) = mpsc::channel(COMMANDS_LIMIT);
    let first_view = View { state, guest: None, network: None, failure: None };
    let (view, shown) = watch::channel(first_view);
    let flows = FlowLog::default();
    let now = (context.config.clock)();
    let mut task = Task {
        origin,
        purpose,
        start_deadline,
        deadline: spec.deadline,
        state,
        // Later than every generation of an earlier server's (unless somebody set the clock back by
        // more than the sandbox's life), and strictly rising from here.
        generation: Generation(u64::try_from(now.as_micros()).unwrap_or(0)),
        machine: None,
        failure: None,
        guest: None,
        network: network::Watched::new(spec.network.clone(), flows.clone()),
        ended: None,
        doomed: CancellationToken::new(),
        jobs: JoinSet::new(),
        view,
        spec: spec.clone(),
        context,
    };
    task.act(first);
    let doomed = task.doomed.clone();
    let making = jobs::make(Arc::clone(&task.context), spec.clone(), (origin, image), doomed);
    task.jobs.spawn(making);
    tokio::spawn(task.run(received));
    let deadline_order = tokio::sync::Mutex::new(());
    Handle { spec, purpose, start_deadline, commands, view: shown, deadline_order, flows }
}

impl Task {
    /// Runs until the sandbox has ended, or until the node lets go of it.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while !matches!(self.state, State::Ended(_)) {
            let event = tokio::select! {
                Some(done) = self.jobs.join_next() => self.completed(done),
                command = commands.recv() => match command {
                    Some(Command::End(reason)) => Some(Event::EndAsked(reason)),
                    Some(Command::SetDeadline(deadline)) => {
                        self.deadline = deadline;
                        None
                    }
                    Some(Command::SetNetwork(spec, answer)) => {
                        // Whoever asked may be gone; the replacement stands.
                        let replaced = self.network.replace(&self.context.config.network, *spec);
                        let _gone = answer.send(replaced);
                        None
                    }
                    // The node is going away and leaves the machine as it is.
                    None => return,
                },
                () = jobs::until(&self.context.config.clock, self.deadline),
                    if self.has_deadline() => Some(Event::EndAsked(EndReason::Timeout)),
            };
            if let Some(event) = event {
                self.advance(event);
            }
        }
    }

    const fn has_deadline(&self) -> bool {
        match self.state {
            State::Making(_) | State::Greeting(_) | State::Running => true,
            State::Doomed(_) | State::Ending(_) | State::Ended(_) => false,
        }
    }

    /// Keeps what a job brought, and names the event.
    fn completed(&mut self, done: Result<Happened, JoinError>) -> Option<Event> {
        match done {
            Ok(Happened::Made(machine)) => {
                self.machine = Some(machine);
                Some(Event::Made)
            }
            Ok(Happened::NotMade(error)) => {
                self.fail(Failure::Make(Arc::new(error)));
                Some(Event::NotMade)
            }
            Ok(Happened::Greeted(guest, network)) => {
                if matches!(self.state, State::Greeting(_)) {
                    let closed = Arc::clone(&guest);
                    self.jobs.spawn(async move {
                        closed.closed().await;
                        Happened::ConnectionClosed
                    });
                    self.guest = Some(guest);
                    self.network_is_up(network);
                }
                Some(Event::Ready)
            }
            Ok(Happened::NotGreeted(error)) => {
                self.fail(Failure::Guest(Arc::new(error)));
                Some(Event::GuestLost)
            }
            Ok(Happened::ConnectionClosed) => {
                if let Some(error) = self.guest.as_ref().and_then(|guest| guest.failure()) {
                    self.fail(Failure::Guest(error));
                }
                Some(Event::GuestLost)
            }
            Ok(Happened::Gone) => Some(Event::Gone),
            Ok(Happened::Destroyed(ended)) => {
                // A machine that was gone already says nothing: our own cause stands.
                let found = ended.as_ref().map_or(EndReason::Requested, |ended| ended.reason);
                self.ended = ended;
                Some(Event::Destroyed(found))
            }
            Ok(Happened::DeadlineMoved) => None,
            Ok(Happened::NetworkClosed) => {
                self.reopen_network();
                None
            }
            Ok(Happened::NetworkBack(network)) => {
                // One that is being destroyed was cut off, and stays so.
                if self.state == State::Running {
                    self.network_is_up(network);
                }
                None
            }
            Ok(Happened::NetworkLost(error)) => {
                self.fail(Failure::Guest(Arc::new(GuestError::Network(error))));
                Some(Event::EndAsked(EndReason::Crashed))
            }
            Err(error) => {
                tracing::error!(sandbox = %self.spec.id, %error, "a job of a sandbox broke");
                Some(Event::EndAsked(EndReason::Crashed))
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        if matches!(self.state, State::Making(_) | State::Greeting(_) | State::Running) {
            tracing::warn!(sandbox = %self.spec.id, failure = failure.chain(), "a sandbox failed");
            self.failure.get_or_insert(failure);
        }
    }

    fn advance(&mut self, event: Event) {
        let (state, actions) = self.state.step(event);
        self.state = state;
        if matches!(state, State::Doomed(_)) {
            self.doomed.cancel();
        }
        for action in actions {
            self.act(action);
        }
        if matches!(state, State::Ended(_)) {
            // Before anybody is told: whoever waits for the end may count on the room.
            self.context.registry.ended(&self.spec.id);
        }
        self.show();
    }

    /// Shows others where the sandbox stands.
    fn show(&self) {
        let (state, failure) = (self.state, self.failure.clone());
        let up = state == State::Running;
        let guest = if up { self.guest.clone() } else { None };
        let network = if up { self.network.network() } else { None };
        self.view.send_replace(View { state, guest, network, failure });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Report(state) => self.report(state),
            Action::Greet => self.greet(),
            Action::CutOff => {
                if let Some(guest) = self.guest.take() {
                    guest.cut_off();
                }
                self.network.close();
            }
            Action::Destroy => {
                let driver = Arc::clone(&self.context.driver);
                let id = self.spec.id.clone();
                self.jobs.spawn(async move {
                    Happened::Destroyed(jobs::destroy(driver.as_ref(), &id).await)
                });
            }
        }
    }

    /// Opens the channel, and watches the machine.
    fn greet(&mut self) {
        let Some(machine) = self.machine.take() else { return };
        let config = self.context.config.clone();
        self.jobs.spawn(jobs::watch_gone(machine.gone));
        let ends = (machine.channel, machine.link);
        let starting = match self.origin {
            Origin::Fresh => Some(self.start_deadline),
            // What was started runs already.
            Origin::Adopted => None,
        };
        let greeted = (self.spec.clone(), self.network.flows());
        self.jobs.spawn(jobs::greet(ends, config, greeted, starting));
        if self.deadline != self.spec.deadline {
            let driver = Arc::clone(&self.context.driver);
            let (id, deadline) = (self.spec.id.clone(), self.deadline);
            self.jobs.spawn(async move {
                if let Err(error) = jobs::move_deadline(driver.as_ref(), &id, deadline).await {
                    tracing::warn!(sandbox = %id, %error, "the driver kept its old deadline");
                }
                Happened::DeadlineMoved
            });
        }
    }

    /// Takes a network that is up, and watches it.
    fn network_is_up(&mut self, network: Arc<Network>) {
        let watched = Arc::clone(&network);
        match self.network.is_up(network) {
            Ok(()) => {
                self.jobs.spawn(async move {
                    watched.closed().await;
                    Happened::NetworkClosed
                });
            }
            Err(error) => {
                tracing::error!(sandbox = %self.spec.id, %error, "a network was not kept");
                self.bring_network_back();
            }
        }
        self.show();
    }

    /// The network has ended: with the machine, which the driver tells by itself, or because
    /// something in it broke. Then the sandbox has none until it is up again.
    fn reopen_network(&mut self) {
        self.network.close();
        self.show();
        if self.state == State::Running {
            self.bring_network_back();
        }
    }

    fn bring_network_back(&mut self) {
        let context = Arc::clone(&self.context);
        let (id, again) = (self.spec.id.clone(), self.network.again());
        self.jobs.spawn(network::reopen(context, id, again));
    }

    fn report(&mut self, state: ObservedState) {
        if self.purpose == Purpose::Build {
            return;
        }
        self.generation = self.generation.next();
        let usage: Option<Usage> = self.ended.as_ref().map(|ended| ended.usage);
        self.context.reports.push(Report {
            id: self.spec.id.clone(),
            generation: self.generation,
            state,
            at: (self.context.config.clock)(),
            usage,
            detail: self.detail(state),
        });
    }

    /// What went wrong, and the end of the driver's log; for a failure only.
    fn detail(&self, state: ObservedState) -> Option<String> {
        if !matches!(state, ObservedState::Error { .. }) {
            return None;
        }
        let failure = self.failure.as_ref().map(Failure::chain);
        let log = self.ended.as_ref().map(|ended| ended.log.trim().to_owned());
        let parts: Vec<String> =
            [failure, log].into_iter().flatten().filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return None;
        }
        Some(printable(&parts.join("\n")))
    }
}

/// The start of a text, safe to print: a log may quote what a guest wrote.
fn printable(text: &str) -> String {
    let end = text.floor_char_boundary(DETAIL_LIMIT_BYTES);
    let kept = text.get(..end).unwrap_or_default();
    kept.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_bounded_and_moves_no_cursor() {
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\u{fffd}[2J\nb");
        assert_eq!(printable(&"ä".repeat(10_000)).len(), DETAIL_LIMIT_BYTES);
    }
}
