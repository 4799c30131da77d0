//! What the node reports goes into the store, in the order in which it comes.

use std::sync::Arc;
use std::time::Duration;

use courier_protocol::node::Report;
use courier_store::StateReport;
use courier_types::{ObservedState, SandboxId};

use crate::app::App;
use crate::http::chain;

/// How long to wait before a report is tried again that the store refused.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often a report is tried; after that the sweep finds what it said.
const TRIES: u32 = 30;

/// Longest detail that is kept, in characters.
const DETAIL_MAX: usize = 4_096;

pub(crate) async fn run(app: Arc<App>) {
    while let Some(report) = app.stop.run_until_cancelled(app.node.next_report()).await {
        take_over(&app, report).await;
    }
}

async fn take_over(app: &App, report: Report) {
    let id = report.id;
    let state = StateReport {
        generation: report.generation,
        state: report.state,
        at: report.at,
        usage: report.usage,
        detail: report.detail.map(|detail| detail.chars().take(DETAIL_MAX).collect()),
    };
    for _try in 0..TRIES {
        if store(app, &id, &state).await {
            return;
        }
        let waited = tokio::time::sleep(RETRY_AFTER);
        if app.stop.run_until_cancelled(waited).await.is_none() {
            return;
        }
    }
}

/// False where the store refused.
async fn store(app: &App, id: &SandboxId, state: &StateReport) -> bool {
    let applied = match app.store.apply_report(id, state).await {
        Ok(applied) => applied,
        Err(error) => {
            tracing::error!(sandbox = %id, error = chain(&error), "could not store a report");
            return false;
        }
    };
    if let ObservedState::Killed { reason } | ObservedState::Error { reason } = state.state {
        if applied {
            app.telemetry.ended(reason);
        }
        app.ends.notify_waiters();
    }
    true
}
