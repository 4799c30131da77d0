//! All watches of the sandbox: streamed ones live as long as someone reads them, polled ones until
//! they are removed or nobody polled them for a while.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use courier_protocol::envd::filesystem::{FilesystemEvent, WatchDirResponse};
use courier_protocol::envd::process::Empty;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::FilesystemError;
use super::watch::{Tree, WATCHES_MAX, Watch};

/// Messages of a stream that wait for its reader. Behind them waits the kernel's queue, and when
/// that is full the stream ends with [`FilesystemError::EventsLost`].
const STREAM_QUEUE: usize = 256;

/// Events of a polled watcher that wait for the next poll; more are lost, and the poll says so.
const POLL_QUEUE_MAX: usize = 16_384;

/// How long a polled watcher lives without a poll.
const POLL_IDLE_MAX: Duration = Duration::from_secs(3_600);

/// The messages of a streamed watch. Dropping it ends the watch.
pub(crate) type WatchStream = mpsc::Receiver<Result<WatchDirResponse, FilesystemError>>;

/// All watches.
#[derive(Debug)]
pub(crate) struct Watches {
    slots: Arc<Semaphore>,
    trees: Mutex<Vec<Weak<Tree>>>,
    polled: Mutex<HashMap<String, Polled>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(WATCHES_MAX)),
            trees: Mutex::default(),
            polled: Mutex::default(),
        }
    }
}

/// A watcher that is asked for its events.
#[derive(Debug)]
struct Polled {
    state: Arc<Mutex<PolledState>>,
    /// Ends the task that takes events in between polls.
    collector: AbortHandle,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.collector.abort();
    }
}

#[derive(Debug)]
struct PolledState {
    watch: Watch,
    events: VecDeque<FilesystemEvent>,
    /// What the next poll must be told instead of events.
    error: Option<FilesystemError>,
    polled_at: Instant,
}

impl Watches {
    /// Takes the right to one more watch.
    ///
    /// # Errors
    /// [`FilesystemError::TooManyWatches`].
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, FilesystemError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        slot.map_err(|_full| FilesystemError::TooManyWatches)
    }

    /// How many more watches there may be.
    #[cfg(test)]
    pub(super) fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// Lets [`Self::directory_made`] know of a tree.
    pub(super) fn enlist(&self, tree: &Arc<Tree>) {
        let mut trees = lock(&self.trees);
        trees.retain(|tree| tree.strong_count() > 0);
        trees.push(Arc::downgrade(tree));
    }

    /// Has a directory that the daemon has just made watched by all watches above it.
    ///
    /// # Errors
    /// [`FilesystemError`] of the last watch that could not take it in.
    pub(crate) fn directory_made(&self, path: &Path) -> Result<(), FilesystemError> {
        let trees: Vec<Arc<Tree>> = lock(&self.trees).iter().filter_map(Weak::upgrade).collect();
        if !trees.iter().any(|tree| tree.is_recursive()) {
            return Ok(());
        }
        let real = std::fs::canonicalize(path)
            .map_err(|source| FilesystemError::io("resolve", path, source))?;
        trees.iter().map(|tree| tree.add_made(&real)).fold(Ok(()), Result::and)
    }

    /// Streams the events of `watch`: first `start`, then each event.
    ///
    /// # Errors
    /// The kernel's, when the watch cannot be waited for.
    pub(super) fn stream(watch: Watch) -> Result<WatchStream, FilesystemError> {
        let readiness = readiness(&watch)?;
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
        tokio::spawn(async move {
            let start = WatchDirResponse { start: Some(Empty {}), ..WatchDirResponse::default() };
            if sender.send(Ok(start)).await.is_ok() {
                pump(watch, &readiness, &sender).await;
            }
        });
        Ok(receiver)
    }

    /// Adds a watcher to be polled, and gives its id.
    ///
    /// # Errors
    /// The kernel's, when the watch cannot be waited for.
    pub(super) fn add_polled(self: &Arc<Self>, watch: Watch) -> Result<String, FilesystemError> {
        let readiness = readiness(&watch)?;
        let mut bytes = [0_u8; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
            |errno| FilesystemError::io("name a watcher of", watch.tree().path(), errno),
        )?;
        let id = format!("w{:032x}", u128::from_ne_bytes(bytes));
        let state = Arc::new(Mutex::new(PolledState {
            watch,
            events: VecDeque::new(),
            error: None,
            polled_at: Instant::now(),
        }));
        // Held until the watcher is in the map, so that it cannot expire before.
        let mut polled = lock(&self.polled);
        let (watches, shared, expiring) =
            (Arc::downgrade(self), Arc::downgrade(&state), id.clone());
        let collector = tokio::spawn(async move {
            collect(&shared, &readiness).await;
            if let Some(watches) = watches.upgrade() {
                lock(&watches.polled).remove(&expiring);
            }
        });
        polled.insert(id.clone(), Polled { state, collector: collector.abort_handle() });
        Ok(id)
    }

    /// Everything that happened since the last poll of that watcher.
    ///
    /// # Errors
    /// [`FilesystemError::UnknownWatcher`], or once, instead of events, what went wrong since the
    /// last poll.
    pub(super) fn poll(&self, id: &str) -> Result<Vec<FilesystemEvent>, FilesystemError> {
        let state = lock(&self.polled).get(id).map(|polled| Arc::clone(&polled.state));
        let state = state.ok_or_else(|| FilesystemError::UnknownWatcher { id: id.to_owned() })?;
        let mut state = lock(&state);
        state.polled_at = Instant::now();
        state.take_in();
        match state.error.take() {
            Some(error) => {
                state.events.clear();
                Err(error)
            }
            None => Ok(state.events.drain(..).collect()),
        }
    }

    /// Ends a polled watcher.
    ///
    /// # Errors
    /// [`FilesystemError::UnknownWatcher`].
    pub(super) fn remove(&self, id: &str) -> Result<(), FilesystemError> {
        match lock(&self.polled).remove(id) {
            Some(_ended) => Ok(()),
            None => Err(FilesystemError::UnknownWatcher { id: id.to_owned() }),
        }
    }
}

impl PolledState {
    /// Takes in everything that has happened up to now.
    fn take_in(&mut self) {
        loop {
            match self.watch.drain() {
                Ok(batch) => {
                    self.events.extend(batch.events);
                    if self.events.len() > POLL_QUEUE_MAX {
                        let path = self.watch.tree().path().to_owned();
                        self.error = Some(FilesystemError::EventsLost { path });
                        self.events.clear();
                    }
                    if !batch.is_more {
                        return;
                    }
                }
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
    }
}

/// Takes events in as they come, so that a tree stays complete between polls, until nobody has
/// polled it for [`POLL_IDLE_MAX`].
async fn collect(state: &Weak<Mutex<PolledState>>, readiness: &AsyncFd<Arc<Tree>>) {
    let polled_at = || state.upgrade().map(|state| lock(&state).polled_at);
    // Nothing is held while it waits, so that a removed watcher is gone at once.
    while let Some(polled_at) = polled_at() {
        tokio::select! {
            ready = readiness.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(_runtime_gone) => return,
            },
            () = tokio::time::sleep_until(polled_at + POLL_IDLE_MAX) => {}
        }
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        if state.polled_at.elapsed() >= POLL_IDLE_MAX {
            return;
        }
        state.take_in();
    }
}

/// Sends events as they come until the reader is gone or the watch fails.
async fn pump(
    mut watch: Watch,
    readiness: &AsyncFd<Arc<Tree>>,
    sender: &mpsc::Sender<Result<WatchDirResponse, FilesystemError>>,
) {
    loop {
        tokio::select! {
            () = sender.closed() => return,
            ready = readiness.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(_runtime_gone) => return,
            },
        }
        if send_waiting(&mut watch, sender).await.is_err() {
            return;
        }
    }
}

/// The reader is gone, or has been told the error that ends the watch.
struct Ended;

async fn send_waiting(
    watch: &mut Watch,
    sender: &mpsc::Sender<Result<WatchDirResponse, FilesystemError>>,
) -> Result<(), Ended> {
    loop {
        let batch = match watch.drain() {
            Ok(batch) => batch,
            Err(error) => {
                // Whether it is read or not, the watch ends.
                let _ = sender.send(Err(error)).await;
                return Err(Ended);
            }
        };
        for event in batch.events {
            let message =
                WatchDirResponse { filesystem: Some(event), ..WatchDirResponse::default() };
            sender.send(Ok(message)).await.map_err(|_reader_gone| Ended)?;
        }
        if !batch.is_more {
            return Ok(());
        }
    }
}

#[expect(unsafe_code, reason = "tokio cannot see that a descriptor stays the same")]
fn readiness(watch: &Watch) -> Result<AsyncFd<Arc<Tree>>, FilesystemError> {
    let tree = Arc::clone(watch.tree());
    // SAFETY: a tree owns its inotify descriptor and never gives it away or closes it before it is
    // dropped, and the `Arc` in the `AsyncFd` keeps the tree as long as the registration.
    let registered =
        unsafe { AsyncFd::register_with_interest(tree, tokio::io::Interest::READABLE) };
    registered.map_err(|error| {
        FilesystemError::io("watch", watch.tree().path(), std::io::Error::from(error))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
