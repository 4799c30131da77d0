//! The image store, for one build: asked off the runtime's threads, under a lease that keeps what the
//! build touches. Work that blocks cannot be stopped: what a given-up build has begun keeps its lease
//! and its turn until it is done, so whoever begins and cancels builds has no more of it at once.

use std::path::PathBuf;
use std::sync::Arc;

use courier_client::ClientError;
use courier_image::{
    BuildManifest, CachedStep, Digest, HostError, ImageError, Layer, LayerError, Lease, Store,
    StoreError,
};
use courier_protocol::node::{Body, NodeError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::key::Key;
use super::pipe::pipe;
use super::text;

/// Why there is no layer.
#[derive(Debug)]
pub(super) enum LayerFailure {
    /// The guest's answer broke off, or did not come.
    Guest(ClientError),
    /// The store did not take it.
    Store(LayerError),
    /// The node itself failed.
    Node(NodeError),
}

/// The image store as one build uses it.
#[derive(Clone)]
pub(super) struct Shelf {
    store: Store,
    hold: Arc<Hold>,
}

/// What a build holds. Work that goes on after the build was given up holds it, too.
#[derive(Debug)]
pub(super) struct Hold {
    _lease: Lease,
    _turn: OwnedSemaphorePermit,
}

impl Shelf {
    /// Takes a lease, and the build's turn.
    pub(super) async fn open(store: &Store, turn: OwnedSemaphorePermit) -> Result<Self, NodeError> {
        let store = store.clone();
        let (store, lease) = blocking(move || {
            let lease = store.lease();
            (store, lease)
        })
        .await?;
        let hold = Hold { _lease: lease.map_err(host)?, _turn: turn };
        Ok(Self { hold: Arc::new(hold), store })
    }

    /// The store itself, for what brings its own tasks, and what those are to hold.
    pub(super) fn store(&self) -> (&Store, Arc<Hold>) {
        (&self.store, Arc::clone(&self.hold))
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let (store, hold) = (self.store.clone(), Arc::clone(&self.hold));
        blocking(move || {
            let answer = work(&store);
            drop(hold);
            answer
        })
        .await
    }

    /// Takes a layer that streams in.
    pub(super) async fn add_layer(&self, body: Body) -> Result<Layer, LayerFailure> {
        let (pump, pipe) = pipe();
        let adding = self.ask(move |store| store.add_layer(pipe));
        let (added, pumped) = tokio::join!(adding, pump.run(body));
        match (added.map_err(LayerFailure::Node)?, pumped) {
            (Ok(layer), Ok(())) => Ok(layer),
            // The reader's error says no more than that it broke off.
            (_, Err(error)) => Err(LayerFailure::Guest(error)),
            (Err(error), Ok(())) => Err(LayerFailure::Store(error)),
        }
    }

    /// What an earlier build made of a step.
    pub(super) async fn cached(&self, key: Key) -> Result<Option<CachedStep>, NodeError> {
        let key = Digest::from_bytes(key.0);
        self.ask(move |store| store.cached_step(&key)).await?.map_err(host)
    }

    /// Keeps what came of a step for later builds.
    pub(super) async fn remember(&self, key: Key, step: CachedStep) -> Result<(), NodeError> {
        let key = Digest::from_bytes(key.0);
        self.ask(move |store| store.remember_step(&key, &step)).await?.map_err(host)
    }

    /// The image of layers, made where it is not there.
    pub(super) async fn image(
        &self,
        layers: Vec<Digest>,
    ) -> Result<Result<PathBuf, ImageError>, NodeError> {
        self.ask(move |store| store.image(&layers)).await
    }

    /// The manifest of a build, if it is here.
    pub(super) async fn build(&self, build: &str) -> Result<Option<BuildManifest>, NodeError> {
        let build = build.to_owned();
        self.ask(move |store| store.build(&build)).await?.map_err(host)
    }

    /// Publishes a build. Where the future is dropped, the build is forgotten again.
    pub(super) async fn put_build(
        &self,
        build: &str,
        manifest: BuildManifest,
    ) -> Result<(), NodeError> {
        let (store, build) = (self.store.clone(), build.to_owned());
        let mut publishing = Publishing { shelf: self.clone(), build: build.clone(), work: None };
        let work = tokio::task::spawn_blocking(move || store.put_build(&build, &manifest));
        let done = publishing.work.insert(work).await;
        publishing.work = None;
        done.map_err(|error| NodeError::Node(error.into()))?.map_err(host)
    }
}

/// A build that is being published. What writes it cannot be stopped, so it is undone.
struct Publishing {
    shelf: Shelf,
    build: String,
    work: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let (shelf, build) = (self.shelf.clone(), std::mem::take(&mut self.build));
        // Without a runtime the process ends: the next start of the server forgets the build.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // Whatever came of it is removed.
            let _published = work.await;
            match shelf.ask(move |store| store.remove_build(&build)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = text::chain(&error), "a dropped build stays");
                }
                Err(error) => tracing::error!(error = text::chain(&error), "a dropped build stays"),
            }
        });
    }
}

/// Runs what blocks off the runtime's threads. It goes on when the future is dropped.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| NodeError::Node(error.into()))
}

/// What the host refused the store. Callers learn that its disk is full, and nothing of the disk.
pub(super) fn by_host(error: HostError) -> NodeError {
    match error {
        HostError::Full { .. } | HostError::NoSpace { .. } => {
            tracing::warn!(error = text::chain(&error), "the image store has no room");
            NodeError::Full { what: "the disk for images is full".to_owned() }
        }
        HostError::Refused { .. } => NodeError::Node(error.into()),
    }
}

/// A store that failed is the host's fault.
pub(super) fn host(error: StoreError) -> NodeError {
    match error {
        StoreError::Host(error) => by_host(error),
        StoreError::Damaged { .. } | StoreError::Reference { .. } | StoreError::NoLayer { .. } => {
            NodeError::Node(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use courier_image::{GuestFiles, StoreBounds};
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn who_builds_learns_nothing_of_the_disk() {
        let folder = PathBuf::from("/srv/data");
        let error = by_host(HostError::NoSpace { folder, free_mib: 17, needed_mib: 23 });
        let NodeError::Full { what } = error else { unreachable!("{error:?}") };
        assert!(!what.contains("srv") && !what.contains("17"), "{what}");
    }

    #[tokio::test]
    async fn work_of_a_build_that_was_given_up_keeps_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let guest = GuestFiles { daemon: folder.path().join("daemon") };
        let store = Store::open(folder.path(), guest, StoreBounds::default()).unwrap();
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).try_acquire_owned().unwrap();
        let shelf = Shelf::open(&store, turn).await.unwrap();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let working = tokio::spawn(async move {
            shelf
                .ask(move |_store| {
                    begun.send(()).unwrap();
                    may_end.recv()
                })
                .await
        });
        has_begun.await.unwrap();
        working.abort();
        assert!(working.await.unwrap_err().is_cancelled());
        assert_eq!(turns.available_permits(), 0, "the work goes on");
        end.send(()).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(30), turns.acquire()).await;
        assert!(next.unwrap().is_ok());
    }
}
