//! Clients that do not read on. What a guest has sent for them fills a window of its stream and stays
//! there, and the sum of those windows is more than the connection's: enough of them would hold up
//! everything else in their sandbox. So only so many may stall for long; beyond that, whoever has
//! stalled longest is cut off.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most answers that may stall for long at a time: together they fill half of the connection's window.
pub(super) const STALLED_MAX: usize = 32;

/// Shorter than this is no stall: a network may well pause.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks, while there are more answers than may stall.
const LOOK: Duration = Duration::from_secs(1);

/// An answer's body on its way, which may be taken away from a client that does not read it.
#[derive(Debug)]
pub(super) struct Flow(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` once the answer was cut off.
    body: Option<Incoming>,
    /// Since when nobody asked for more; `None` while somebody waits for it.
    waiting_since: Option<Instant>,
}

impl Flow {
    /// Does something with the body; `None` when it was cut off. Whoever asks for more has read on.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Incoming) -> T) -> Option<T> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting_since = None;
        state.body.as_mut().map(read)
    }

    /// Looks at the body; `None` when it was cut off.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Incoming) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).body.as_ref().map(look)
    }

    /// A piece goes out to the client.
    pub(super) fn given(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting_since = Some(Instant::now());
    }

    fn stalled_since(&self, now: Instant) -> Option<Instant> {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting_since?;
        (now.duration_since(since) >= PATIENCE).then_some(since)
    }

    /// Takes the body away. Its stream is reset, and what waited in it makes room.
    fn cut(&self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).body.take();
        drop(body);
    }
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    flows: Mutex<Vec<Weak<Flow>>>,
    many: Notify,
}

impl Stalls {
    /// An answer begins.
    pub(super) fn begin(&self, body: Incoming) -> Arc<Flow> {
        let flow = Arc::new(Flow(Mutex::new(State {
            body: Some(body),
            waiting_since: Some(Instant::now()),
        })));
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        if flows.len() >= STALLED_MAX {
            flows.retain(|known| known.strong_count() > 0);
        }
        flows.push(Arc::downgrade(&flow));
        if flows.len() > STALLED_MAX {
            self.many.notify_one();
        }
        flow
    }

    /// Cuts off who stalls beyond what may; for as long as the connection lives.
    pub(super) async fn watch(&self) {
        loop {
            self.many.notified().await;
            while self.sweep(Instant::now()) > STALLED_MAX {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// One look; returns how many answers are on their way.
    fn sweep(&self, now: Instant) -> usize {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|known| known.strong_count() > 0);
        let under_way: Vec<Arc<Flow>> = flows.iter().filter_map(Weak::upgrade).collect();
        drop(flows);
        let mut stalled: Vec<(Instant, &Arc<Flow>)> =
            under_way.iter().filter_map(|flow| Some((flow.stalled_since(now)?, flow))).collect();
        stalled.sort_by_key(|(since, _flow)| *since);
        let too_many = stalled.len().saturating_sub(STALLED_MAX);
        for (_since, flow) in stalled.into_iter().take(too_many) {
            flow.cut();
        }
        under_way.len()
    }
}
