//! One kernel context: a task that owns its kernel and runs one execution after the other.
//!
//! ```text
//!             execute                    idle
//!   ready ───────────────▶ running ───────────────▶ ready
//!     │                       │ client gone: interrupted until idle, else replaced
//!     │ kernel died           │ kernel died, restarted
//!     └──────▶ replaced ◀─────┘           (a new kernel, under the same id)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::environment::Variables;
use crate::kernel::{Heard, Kernel, Silent, Spec, StartError};
use crate::language::{self, Language};
use crate::message::{Said, Stream};
use crate::output::{self, End, Event, Output, Sent};

/// Executions that wait for their turn in one context.
const EXECUTIONS_WAITING: usize = 64;
/// Restarts that wait.
const ORDERS_WAITING: usize = 8;
/// How often an execution that nobody wants any more is interrupted again.
const INTERRUPT_AGAIN: Duration = Duration::from_secs(1);
/// After so many interrupts without an end, the kernel is replaced.
const MOST_INTERRUPTS: u32 = 10;
/// How long the end of the output may come after the reply. It comes on another socket.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(30);
/// How long setting variables may take.
const SETTING_PATIENCE: Duration = Duration::from_secs(10);
/// A kernel that died younger than this is only replaced when somebody needs it, so that one that
/// cannot live costs nothing.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);

/// Code to be run for a client.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) code: String,
    pub(crate) variables: Variables,
    pub(crate) output: Output,
}

type Restarted = oneshot::Sender<Result<(), StartError>>;

/// The way to a context's task. The task, and the kernel with it, ends with the last of these.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    executions: mpsc::Sender<Execution>,
    orders: mpsc::Sender<Restarted>,
}

/// A context has as much to do as it takes.
#[derive(Debug, thiserror::Error)]
#[error("too many executions wait in this context")]
pub(crate) struct Busy;

/// Why a context was not restarted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    #[error("the context ended")]
    Ended,
    #[error("the context's kernel does not start again")]
    Start(#[source] StartError),
}

impl Handle {
    /// Queues an execution. What becomes of it, its output says.
    pub(crate) fn execute(&self, execution: Execution) -> Result<(), Busy> {
        self.executions.try_send(execution).map_err(|_full_or_ended| Busy)
    }

    /// Replaces the kernel; what runs ends with an error.
    pub(crate) async fn restart(&self) -> Result<(), RestartError> {
        let (sender, receiver) = oneshot::channel();
        self.orders.send(sender).await.map_err(|_ended| RestartError::Ended)?;
        receiver.await.map_err(|_ended| RestartError::Ended)?.map_err(RestartError::Start)
    }
}

struct Task {
    language: Language,
    spec: Spec,
    initial: Arc<BTreeMap<String, String>>,
    kernel: Option<Kernel>,
    executions: mpsc::Receiver<Execution>,
    orders: mpsc::Receiver<Restarted>,
}

/// Starts a context; `initial` is the environment that its kernels inherit.
pub(crate) async fn start(
    language: Language,
    spec: Spec,
    initial: Arc<BTreeMap<String, String>>,
) -> Result<Handle, StartError> {
    let kernel = Some(Kernel::start(&spec).await?);
    let (executions_sender, executions) = mpsc::channel(EXECUTIONS_WAITING);
    let (orders_sender, orders) = mpsc::channel(ORDERS_WAITING);
    let task = Task { language, spec, initial, kernel, executions, orders };
    tokio::spawn(task.run());
    Ok(Handle { executions: executions_sender, orders: orders_sender })
}

/// How a cell came to its end.
enum Stopped {
    Idle,
    Ended(End),
    Ordered(Restarted),
    /// All handles are gone.
    Abandoned,
}

impl Task {
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.restart(order).await,
                    None => return,
                },
                heard = hear(&mut self.kernel) => match heard {
                    // What threads of earlier cells write has no execution to go to.
                    Heard::Message(_) => {}
                    Heard::Death | Heard::Silence => self.replace().await,
                },
                execution = self.executions.recv() => match execution {
                    Some(execution) => {
                        if self.execute(execution).await == Abandoned::Yes {
                            return;
                        }
                    }
                    None => return,
                },
            }
        }
    }

    async fn restart(&mut self, order: Restarted) {
        // The old one is gone before the new one starts.
        self.kernel = None;
        let started = Kernel::start(&self.spec).await.map(|kernel| self.kernel = Some(kernel));
        // A client that went away wants no answer.
        drop(order.send(started));
    }

    /// Replaces a kernel that died, unless kernels die here as soon as they start.
    async fn replace(&mut self) {
        let died = self.kernel.take();
        if died.is_some_and(|kernel| kernel.started().elapsed() >= SHORTEST_LIFE) {
            self.ensure().await;
        }
    }

    /// Sees to it that there is a kernel.
    async fn ensure(&mut self) {
        if self.kernel.is_none() {
            match Kernel::start(&self.spec).await {
                Ok(kernel) => self.kernel = Some(kernel),
                Err(error) => tracing::warn!(
                    language = self.language.name(),
                    "a kernel does not start again: {error}"
                ),
            }
        }
    }

    async fn execute(&mut self, execution: Execution) -> Abandoned {
        let Execution { code, variables, mut output } = execution;
        if output.is_closed() {
            return Abandoned::No;
        }
        self.ensure().await;
        let mut stopped = self.cells(code, &variables, &mut output).await;
        match &stopped {
            Stopped::Idle => output.end(End::Finished),
            Stopped::Ended(end) => output.end(*end),
            Stopped::Ordered(_) => output.end(End::Restarted),
            Stopped::Abandoned => {}
        }
        // Its client need not wait for what follows; the next execution must.
        drop(output);
        if matches!(stopped, Stopped::Idle) {
            stopped = self.undo(&variables).await;
        }
        match stopped {
            Stopped::Idle => {}
            Stopped::Ended(_) => {
                self.kernel = None;
                self.ensure().await;
            }
            Stopped::Ordered(order) => self.restart(order).await,
            Stopped::Abandoned => return Abandoned::Yes,
        }
        Abandoned::No
    }

    /// What sets the client's variables, and its code.
    async fn cells(&mut self, code: String, variables: &Variables, output: &mut Output) -> Stopped {
        let mut stopped = Stopped::Idle;
        if !variables.is_empty() {
            stopped = self.cell(self.language.set(variables), Silent::Yes, output).await;
        }
        if matches!(stopped, Stopped::Idle) {
            stopped = self.cell(code, Silent::No, output).await;
        }
        stopped
    }

    /// Unsets the client's variables.
    async fn undo(&mut self, variables: &Variables) -> Stopped {
        let (mut unheard, _nobody) = output::output();
        let mut stopped = Stopped::Idle;
        for undo in language::undo(self.language, variables, &self.initial) {
            if matches!(stopped, Stopped::Idle) {
                stopped = self.cell(undo, Silent::Yes, &mut unheard).await;
            }
        }
        stopped
    }

    /// Runs one cell to its end.
    async fn cell(&mut self, code: String, silent: Silent, output: &mut Output) -> Stopped {
        let Some(kernel) = &mut self.kernel else { return Stopped::Ended(End::NoKernel) };
        let id = match kernel.execute(code, silent).await {
            Ok(id) => id,
            Err(error) => return refused(&error),
        };
        let mut cell = Cell::new(id, silent);
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    return order.map_or(Stopped::Abandoned, Stopped::Ordered);
                }
                heard = kernel.next() => {
                    if let Some(stopped) = cell.hear(heard, kernel, output) {
                        return stopped;
                    }
                }
                () = output.closed(), if cell.wants_client() => cell.unwanted(kernel),
                () = until(cell.again) => {
                    if cell.interrupts >= MOST_INTERRUPTS {
                        return Stopped::Ended(End::Restarted);
                    }
                    cell.interrupt(kernel);
                }
                () = until(cell.replied) => return Stopped::Idle,
            }
        }
    }
}

/// A kernel that takes no code is as good as gone.
fn refused(error: &dyn std::fmt::Display) -> Stopped {
    tracing::warn!("a kernel takes no code: {error}");
    Stopped::Ended(End::Disconnected)
}

/// Whether somebody may still want something from a context.
#[derive(PartialEq, Eq)]
enum Abandoned {
    Yes,
    No,
}

async fn hear(kernel: &mut Option<Kernel>) -> Heard {
    match kernel {
        Some(kernel) => kernel.next().await,
        None => std::future::pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A cell that runs.
struct Cell {
    id: String,
    silent: Silent,
    interrupts: u32,
    /// When to interrupt again.
    again: Option<Instant>,
    /// Until when output may come, after the reply.
    replied: Option<Instant>,
}

/// What follows a message.
enum Step {
    On,
    Done,
    /// The client takes no more: the rest need not run.
    Unwanted,
}

impl Cell {
    /// Takes what a kernel said; tells why the cell has stopped where it has.
    fn hear(&mut self, heard: Heard, kernel: &mut Kernel, output: &mut Output) -> Option<Stopped> {
        match heard {
            Heard::Message(message) if message.parent.as_deref() != Some(&self.id) => None,
            Heard::Message(message) => match self.take(message.said, output) {
                Step::Done => Some(Stopped::Idle),
                Step::Unwanted => {
                    self.unwanted(kernel);
                    None
                }
                Step::On => None,
            },
            Heard::Death => Some(Stopped::Ended(End::Restarted)),
            Heard::Silence => Some(Stopped::Ended(End::Disconnected)),
        }
    }

    /// Setting variables is quick and must be whole, so it is never interrupted because its client
    /// went away; only when it takes too long, for users' code can be in its way.
    fn new(id: String, silent: Silent) -> Self {
        let again = (silent == Silent::Yes).then(|| Instant::now() + SETTING_PATIENCE);
        Self { id, silent, interrupts: 0, again, replied: None }
    }

    fn wants_client(&self) -> bool {
        self.silent == Silent::No && self.interrupts == 0
    }

    /// Begins to interrupt the cell, once.
    fn unwanted(&mut self, kernel: &Kernel) {
        if self.interrupts == 0 {
            self.interrupt(kernel);
        }
    }

    fn interrupt(&mut self, kernel: &Kernel) {
        kernel.interrupt();
        self.interrupts += 1;
        self.again = Some(Instant::now() + INTERRUPT_AGAIN);
    }

    fn take(&mut self, said: Said, output: &mut Output) -> Step {
        match said {
            Said::Idle => return Step::Done,
            Said::Replied => {
                self.replied.get_or_insert(Instant::now() + OUTPUT_PATIENCE);
                return Step::On;
            }
            Said::TooLarge => {
                output.end(End::TooMuchOutput);
                return Step::Unwanted;
            }
            Said::Lost => return Step::On,
            Said::Started { .. }
            | Said::Wrote { .. }
            | Said::Showed { .. }
            | Said::Failed { .. } => {}
        }
        // Of the cells that set variables only a failure is for the client: its own code does not
        // see what it was promised.
        if self.silent == Silent::Yes && !matches!(said, Said::Failed { .. }) {
            return Step::On;
        }
        match pass_on(said, output) {
            Sent::No if self.silent == Silent::No => Step::Unwanted,
            Sent::Yes | Sent::No => Step::On,
        }
    }
}

fn pass_on(said: Said, output: &mut Output) -> Sent {
    match said {
        Said::Started { execution_count } => {
            output.send(&Event::NumberOfExecutions { execution_count })
        }
        Said::Wrote { stream, text, at_ns: timestamp } => output.send(&match stream {
            Stream::Stdout => Event::Stdout { text: &text, timestamp },
            Stream::Stderr => Event::Stderr { text: &text, timestamp },
        }),
        Said::Showed { is_main_result, bundle } => {
            output.send(&Event::Result { is_main_result, fields: crate::mime::fields(bundle) })
        }
        Said::Failed { name, value, traceback } => {
            let traceback = plain(&traceback.join("\n"));
            output.send(&Event::Error { name: &name, value: &plain(&value), traceback: &traceback })
        }
        Said::Idle | Said::Replied | Said::TooLarge | Said::Lost => Sent::Yes,
    }
}

/// Text without the colours of a terminal.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}
