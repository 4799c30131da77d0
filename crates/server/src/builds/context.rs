//! What a node asks for while it makes a build.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use courier_protocol::node::{Body, BoxError, BuildLog, BuildWatcher};
use courier_types::ProjectId;
use futures_util::TryStreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio_util::io::ReaderStream;

use super::log::LogInlet;
use crate::app::App;

/// The log and the archives of one build.
pub(super) struct Context {
    pub(super) app: Arc<App>,
    pub(super) project: ProjectId,
    pub(super) log: LogInlet,
    /// Digests of the archives that the build's steps name.
    pub(super) digests: BTreeSet<String>,
}

#[async_trait]
impl BuildWatcher for Context {
    fn log(&self, entry: BuildLog) {
        self.log.take(entry);
    }

    async fn files(&self, files: &str) -> Result<Body, BoxError> {
        if !self.digests.contains(files) {
            return Err("no step of the build has such files".into());
        }
        let file = self.app.uploads.open(&self.project, files).await?;
        let frames = ReaderStream::new(file).map_ok(Frame::data).map_err(BoxError::from);
        Ok(StreamBody::new(frames).boxed_unsync())
    }
}
