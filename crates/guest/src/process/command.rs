//! One command: who listens to it, and how it ended.

use std::sync::{Mutex, MutexGuard, PoisonError};

use courier_protocol::envd::connect::{Code, ConnectError};
use courier_protocol::envd::process::{DataEvent, ProcessConfig, ProcessInfo};
use rustix::process::{Pid, Signal};
use tokio::sync::{Notify, mpsc, watch};

use super::input::Input;
use super::status::End;

/// Chunks that wait for one subscriber: with [`super::pump::CHUNK_BYTES`] each, 256 KiB.
const PENDING_CHUNKS: usize = 8;

/// Most requests that follow one command at a time.
const SUBSCRIBERS_MAX: usize = 64;

/// One command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) pid: Pid,
    pub(super) config: ProcessConfig,
    pub(super) tag: Option<String>,
    pub(super) input: Input,
    /// Wakes its supervisor when it was killed.
    pub(super) killed: Notify,
    state: Mutex<State>,
    reaped: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    subscribers: Vec<mpsc::Sender<DataEvent>>,
    end: Option<End>,
}

impl Command {
    pub(super) fn new(pid: Pid, config: ProcessConfig, tag: Option<String>, input: Input) -> Self {
        let reaped = watch::Sender::new(false);
        let (killed, state) = (Notify::new(), Mutex::default());
        Self { pid, config, tag, input, killed, state, reaped }
    }

    /// Its process id as the wire has it.
    pub(super) fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn info(&self) -> ProcessInfo {
        let (config, tag) = (Some(self.config.clone()), self.tag.clone());
        ProcessInfo { config, pid: self.number(), tag }
    }

    /// What it writes from now on. The receiver ends when the command has ended and all was read.
    pub(super) fn subscribe(&self) -> Result<mpsc::Receiver<DataEvent>, ConnectError> {
        let (sender, receiver) = mpsc::channel(PENDING_CHUNKS);
        let mut state = self.state();
        state.subscribers.retain(|subscriber| !subscriber.is_closed());
        if state.subscribers.len() >= SUBSCRIBERS_MAX {
            let why = format!("the command has {SUBSCRIBERS_MAX} followers already");
            return Err(ConnectError::new(Code::ResourceExhausted, why));
        }
        if state.end.is_none() {
            state.subscribers.push(sender);
        }
        Ok(receiver)
    }

    /// Hands output to every subscriber, and waits for the slowest.
    pub(super) async fn publish(&self, mut output: DataEvent) {
        let subscribers = self.state().subscribers.clone();
        let mut gone = false;
        let mut left = subscribers.len();
        for subscriber in &subscribers {
            left -= 1;
            let piece = if left == 0 { std::mem::take(&mut output) } else { output.clone() };
            gone |= subscriber.send(piece).await.is_err();
        }
        if gone {
            self.state().subscribers.retain(|subscriber| !subscriber.is_closed());
        }
    }

    /// How it ended, when all its output is published.
    pub(super) fn end(&self) -> Option<End> {
        self.state().end
    }

    /// Its process is gone; output may still come.
    pub(super) fn set_reaped(&self) {
        self.reaped.send_replace(true);
    }

    /// All is over.
    pub(super) fn set_end(&self, end: End) {
        let mut state = self.state();
        state.end = Some(end);
        state.subscribers.clear();
    }

    /// Waits until its process is gone.
    pub(super) async fn until_reaped(&self) {
        // The sender is in `self`, so it cannot be gone.
        let mut reaped = self.reaped.subscribe();
        let _never = reaped.wait_for(|reaped| *reaped).await;
    }

    /// Whether its process is gone.
    pub(super) fn is_reaped(&self) -> bool {
        *self.reaped.borrow()
    }

    /// Sends a signal to its process; SIGKILL goes to its whole process group, so that what it
    /// started does not outlive it unseen. Gone already is success.
    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        if signal == Signal::KILL {
            // The group is gone when its last process is.
            let _gone = rustix::process::kill_process_group(self.pid, Signal::KILL);
            self.killed.notify_one();
        }
        if self.is_reaped() {
            return Ok(());
        }
        match rustix::process::kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
