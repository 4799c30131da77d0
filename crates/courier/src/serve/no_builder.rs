//! A node that makes no builds: it says so.

use std::sync::Arc;

use async_trait::async_trait;
use courier_protocol::node::{
    BuildError, BuildOrder, BuildStage, BuildWatcher, Builder, Built, NodeError,
};

/// It.
#[derive(Debug)]
pub(super) struct NoBuilder;

#[async_trait]
impl Builder for NoBuilder {
    async fn build(
        &self,
        _order: BuildOrder,
        _watcher: Arc<dyn BuildWatcher>,
    ) -> Result<Built, BuildError> {
        let message = "this node makes no builds".to_owned();
        Err(BuildError::Failed { stage: BuildStage::Base, message })
    }

    async fn remove(&self, _build: &str) -> Result<(), NodeError> {
        Ok(())
    }

    async fn remove_except(&self, _keep: &[String]) -> Result<Vec<String>, NodeError> {
        Ok(Vec::new())
    }
}
