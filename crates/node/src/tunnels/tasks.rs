//! The tasks of one connector's connection: bounded, and all gone when it is cut.

use std::sync::Arc;

use hyper::rt::Executor;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Runs the tasks that the HTTP/2 library starts.
///
/// One of them owns the connection, and one goes on for every stream whose last bytes the connector
/// has not taken yet, though nobody here holds that stream any more. A connector that never takes
/// them could collect such tasks, so too many of them cut it off.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    cut: CancellationToken,
    places: Arc<Semaphore>,
}

impl Tasks {
    /// At most so many tasks at once; cancelling the token drops them all, and one too many cancels
    /// it.
    pub(super) fn new(cut: CancellationToken, limit: usize) -> Self {
        Self { cut, places: Arc::new(Semaphore::new(limit)) }
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.cut.cancel();
            return;
        };
        let cut = self.cut.clone();
        tokio::spawn(async move {
            let _output_or_cut = cut.run_until_cancelled_owned(task).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_task_too_many_ends_them_all() {
        let cut = CancellationToken::new();
        let tasks = Tasks::new(cut.clone(), 2);
        let held = Arc::new(());
        for number in 0..3 {
            assert_eq!(cut.is_cancelled(), false, "before task {number}");
            let held = Arc::clone(&held);
            tasks.execute(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        assert!(cut.is_cancelled());
        let gone = async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
    }
}
