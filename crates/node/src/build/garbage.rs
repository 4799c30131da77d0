//! Cleans the store when builds end, which may be many in a short time: one cleaning is under way, one
//! more waits for it and sees all that ended before, and further ones are not needed.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// One that is under way, and one that waits.
const AT_ONCE: usize = 2;

/// Cleans the store.
pub(super) struct Cleaner {
    clean: Arc<dyn Fn() + Send + Sync>,
    places: Arc<Semaphore>,
}

impl Cleaner {
    /// Cleans by that, which blocks; two that are called at once do their work one after the other.
    pub(super) fn new(clean: impl Fn() + Send + Sync + 'static) -> Self {
        Self { clean: Arc::new(clean), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Begins a cleaning that sees what is there now, without being waited for, unless one is about to
    /// begin.
    pub(super) fn begin(&self) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let clean = Arc::clone(&self.clean);
        tokio::task::spawn_blocking(move || {
            clean();
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn builds_that_end_all_at_once_have_few_threads_clean() {
        let (release, gate) = mpsc::channel::<()>();
        let (gate, begun) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let cleaner = Cleaner::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            // That the sender is gone is leave to go on.
            gate.lock().unwrap().recv().ok();
        });
        for _ending in 0..100 {
            cleaner.begin();
        }
        drop(release);
        let idle = cleaner.places.acquire_many(2);
        let idle = tokio::time::timeout(Duration::from_secs(30), idle).await.unwrap().unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), AT_ONCE);
        drop(idle);
        cleaner.begin();
        let idle = cleaner.places.acquire_many(2);
        drop(tokio::time::timeout(Duration::from_secs(30), idle).await.unwrap());
        assert_eq!(begun.load(Ordering::SeqCst), AT_ONCE + 1);
    }
}
