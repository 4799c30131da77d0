//! The flow log, read to its end.

use std::time::Duration;

use courier_protocol::node::SharedNode;
use courier_types::SandboxId;
use courier_types::egress::{Flow, FlowPage};

use crate::api::{Api, ApiError};

/// Records of one page (the API's limit).
const PAGE: usize = 1_000;
/// Most records: more than a node keeps of one sandbox.
const MAX: usize = 20_000;

/// Records, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The records.
    pub(crate) flows: Vec<Flow>,
    /// How many fell out of the log before.
    pub(crate) missed: u64,
}

impl Seen {
    /// Adds a page. `None` when it was the last one, else the number to go on after.
    fn add(&mut self, page: FlowPage) -> Option<u64> {
        self.missed = self.missed.saturating_add(page.missed);
        let last = page.flows.last()?.seq;
        self.flows.extend(page.flows);
        (self.flows.len() < MAX).then_some(last)
    }

    /// What a server has seen of a sandbox.
    pub(crate) async fn of_server(api: &Api, id: &SandboxId) -> Result<Self, ApiError> {
        let (mut seen, mut after) = (Self::default(), Some(0));
        while let Some(number) = after {
            let path = format!("/v1/sandboxes/{id}/egress/flows?after={number}&limit={PAGE}");
            after = seen.add(api.get(&path).await?);
        }
        Ok(seen)
    }

    /// What a node of our own has seen of a sandbox.
    pub(crate) async fn of_node(node: &SharedNode, id: &SandboxId) -> anyhow::Result<Self> {
        let (mut seen, mut after) = (Self::default(), Some(0));
        while let Some(number) = after {
            after = seen.add(node.flows(id, number, PAGE, Duration::ZERO).await?);
        }
        Ok(seen)
    }
}
