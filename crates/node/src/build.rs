//! Builds: from an order to an image that sandboxes are made from.
//!
//! Steps are untrusted code: they run in a sandbox, as everything else does. What is decided about
//! them (states, keys, what need not be done again, words) is pure and stands in files of its own.

mod expand;
mod garbage;
mod images;
mod job;
mod key;
mod log;
mod pipe;
mod plan;
mod provision;
mod run;
mod sandbox;
mod shelf;
mod source;
mod state;
mod stored;
mod text;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use courier_image::Store;
use courier_protocol::node::{
    BuildError, BuildLogLevel, BuildOrder, BuildWatcher, Builder, Built, NodeError,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::garbage::Cleaner;
pub use self::images::{ImageOrder, Images, PulledImage};
use self::job::Job;
use self::log::Log;
use self::shelf::{Shelf, blocking, host};
pub use self::stored::StoredBuilds;
use crate::local::LocalNode;

/// How builds are made.
#[derive(Debug, Clone, Copy)]
pub struct BuilderConfig {
    /// Most builds at once; further ones wait for their turn.
    pub at_once: usize,
    /// Longest time for the start and ready commands in the sandbox that proves a build.
    pub start_deadline: Duration,
}

impl Default for BuilderConfig {
    fn default() -> Self {
        Self {
            // A build takes the disk's and the processors' time from the sandboxes that run.
            at_once: 2,
            // As long as E2B waits.
            start_deadline: Duration::from_secs(600),
        }
    }
}

/// Makes builds on this machine's node.
pub struct LocalBuilder {
    node: Arc<LocalNode>,
    store: Store,
    images: Arc<dyn Images>,
    config: BuilderConfig,
    turns: Arc<Semaphore>,
    cleaner: Cleaner,
}

impl std::fmt::Debug for LocalBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalBuilder")
            .field("store", &self.store)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl LocalBuilder {
    /// A builder whose sandboxes are a node's, and whose images are in a store.
    #[must_use]
    pub fn new(
        node: Arc<LocalNode>,
        store: Store,
        images: Arc<dyn Images>,
        config: BuilderConfig,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(config.at_once.clamp(1, Semaphore::MAX_PERMITS)));
        let cleaned = store.clone();
        let cleaner = Cleaner::new(move || {
            if let Err(error) = cleaned.collect_garbage() {
                tracing::warn!(error = text::chain(&error), "the image store cannot be cleaned");
            }
        });
        Self { node, store, images, config, turns, cleaner }
    }

    /// Waits in line. A builder that goes takes its builds with it.
    async fn turn(&self, log: &Log) -> Result<OwnedSemaphorePermit, BuildError> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let text = format!("waiting: {} builds at once are made here", self.config.at_once);
        log.say(BuildLogLevel::Info, text);
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        turn.map_err(|closed| NodeError::Node(closed.into()).into())
    }

    async fn make(
        &self,
        order: BuildOrder,
        watcher: Arc<dyn BuildWatcher>,
        log: &Log,
    ) -> Result<Built, BuildError> {
        let turn = self.turn(log).await?;
        let job = Job {
            node: Arc::clone(&self.node),
            images: Arc::clone(&self.images),
            config: self.config,
            shelf: Shelf::open(&self.store, turn).await?,
            order,
            watcher,
            log: log.clone(),
        };
        job.run().await
    }

    /// Lets the store forget what nobody needs any more, without being waited for.
    fn collect_garbage(&self) {
        self.cleaner.begin();
    }
}

#[async_trait]
impl Builder for LocalBuilder {
    async fn build(
        &self,
        order: BuildOrder,
        watcher: Arc<dyn BuildWatcher>,
    ) -> Result<Built, BuildError> {
        let log = Log::new(Arc::clone(&watcher), Arc::clone(&self.node.config().clock));
        let left = order.sandbox.deadline.since(self.node.now());
        let making = Box::pin(self.make(order, watcher, &log));
        let built = match tokio::time::timeout(left, making).await {
            Ok(built) => built,
            Err(_elapsed) => {
                let seconds = left.as_secs();
                Err(log.failed(format!("the build did not end within its {seconds} s")))
            }
        };
        if let Err(BuildError::Failed { stage, message }) = &built {
            // A step that nobody could do was never entered.
            log.enter(*stage);
            log.explain(message);
        }
        self.collect_garbage();
        built
    }

    async fn remove(&self, build: &str) -> Result<(), NodeError> {
        let (store, build) = (self.store.clone(), build.to_owned());
        blocking(move || store.remove_build(&build)).await?.map_err(host)?;
        self.collect_garbage();
        Ok(())
    }

    async fn remove_except(&self, keep: &[String]) -> Result<Vec<String>, NodeError> {
        let (store, keep) = (self.store.clone(), keep.to_vec());
        let removed = blocking(move || {
            let mut removed = store.builds()?;
            removed.retain(|build| !keep.contains(build));
            removed.iter().try_for_each(|build| store.remove_build(build))?;
            Ok(removed)
        });
        let removed = removed.await?.map_err(host)?;
        self.collect_garbage();
        Ok(removed)
    }
}
