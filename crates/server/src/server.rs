//! The server as its composer sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use courier_protocol::node::{NodeError, Presets, SharedBuilder, SharedNode, TunnelHub};
use courier_store::Store;

use crate::app::App;
use crate::{Config, Vault, reconcile, router};

/// How long the reconcilers may take to stop: one store call.
const LOOPS_GRACE: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node does not say what it is.
    #[error("the node does not answer")]
    Node(#[source] NodeError),
    /// What an earlier server left could not be settled.
    #[error("could not take over from an earlier server")]
    Reconcile(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a server is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The node.
    pub node: SharedNode,
    /// The part of the node that makes builds.
    pub builder: SharedBuilder,
    /// The key of what is kept encrypted.
    pub vault: Vault,
    /// Presets for package managers.
    pub presets: Arc<dyn Presets>,
    /// Tunnels that sandboxes may be given, and who takes connectors.
    pub tunnels: Arc<dyn TunnelHub>,
    /// Folder for the archives that clients upload for builds; made where it is missing.
    pub uploads: PathBuf,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A running server: reconcilers, and a router to serve.
pub struct Server {
    app: Arc<App>,
}

impl Drop for Server {
    /// The reconcilers end with the server that started them.
    fn drop(&mut self) {
        self.app.stop.cancel();
        self.app.builds.stop.cancel();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.app.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Takes over what an earlier server left (adopts what runs, ends what does not, destroys what
    /// nobody owns), then starts the reconcilers. Wants a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// The node or the store failed.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        let node_info = parts.node.info().await.map_err(StartError::Node)?;
        let app = Arc::new(App::new(config, parts, node_info));
        reconcile::start(&app).await.map_err(|error| StartError::Reconcile(error.into()))?;
        reconcile::spawn(&app);
        Ok(Self { app })
    }

    /// The public API. Clone it for every listener.
    pub fn router(&self) -> Router {
        router::build(&self.app)
    }

    /// From now on new sandboxes and builds are refused with 503, and builds under way end; everything
    /// else goes on.
    pub fn begin_drain(&self) {
        self.app.start_draining();
    }

    /// Drains: refuses new sandboxes, waits for the work under way, at most `grace`, then stops the
    /// reconcilers. Sandboxes stay. True where all work ended in time.
    pub async fn drain(self, grace: Duration) -> bool {
        self.begin_drain();
        self.app.work.close();
        let ended = tokio::time::timeout(grace, self.app.work.wait()).await.is_ok();
        self.app.stop.cancel();
        self.app.loops.close();
        let stopped = tokio::time::timeout(LOOPS_GRACE, self.app.loops.wait()).await.is_ok();
        self.app.store.close().await;
        ended && stopped
    }
}
