//! The tasks of one network: they end with it, and a panic in one of them ends it.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where a network's tasks run. Clones and children share its fate; a child may end before.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    /// The whole network.
    network: CancellationToken,
    /// This group of it.
    group: CancellationToken,
}

impl Tasks {
    /// A network's first group.
    pub(crate) fn new() -> Self {
        let network = CancellationToken::new();
        Self { group: network.clone(), network }
    }

    /// A group of its own, e.g. of one connection, that ends with this one.
    pub(crate) fn child(&self) -> Self {
        Self { network: self.network.clone(), group: self.group.child_token() }
    }

    /// Runs a future until it or the group ends.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        tokio::spawn(async move { tasks.run(future).await });
    }

    /// Runs a future until it or the group ends; `None` when it did not end by itself. What panicked
    /// ends the whole network, so that nothing goes on in a state that nobody has thought of.
    pub(crate) async fn run<F: Future + Send>(&self, future: F) -> Option<F::Output> {
        let caught = AssertUnwindSafe(future).catch_unwind();
        let ended = self.group.run_until_cancelled(caught).await?;
        if ended.is_err() {
            self.network.cancel();
        }
        ended.ok()
    }

    /// Ends the group.
    pub(crate) fn end(&self) {
        self.group.cancel();
    }

    /// Ends the group when it is dropped.
    pub(crate) fn end_guard(&self) -> DropGuard {
        self.group.clone().drop_guard()
    }

    /// True when the group has been ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.group.is_cancelled()
    }

    /// True when the whole network has been ended.
    pub(crate) fn is_network_ended(&self) -> bool {
        self.network.is_cancelled()
    }

    /// Waits until the group is ended.
    pub(crate) async fn ended(&self) {
        self.group.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_panic_in_a_connection_ends_the_network_and_not_the_process() {
        let network = Tasks::new();
        let other = network.child();
        network.child().spawn(async { panic!("on purpose") });
        timeout(SOON, other.ended()).await.unwrap();
        assert!(network.is_ended());
    }

    #[tokio::test]
    async fn the_end_of_a_group_drops_its_tasks_and_leaves_the_others() {
        let network = Tasks::new();
        let (group, other) = (network.child(), network.child());
        let (held, gone) = oneshot::channel::<()>();
        group.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        group.end();
        assert!(timeout(SOON, gone).await.unwrap().is_err());
        assert!(!other.is_ended() && !network.is_ended());
    }
}
