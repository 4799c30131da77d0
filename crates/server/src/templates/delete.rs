//! Forgetting a template with all its builds.

use std::sync::Arc;

use courier_store::{StoreError, TemplateRow};
use courier_types::BuildId;

use crate::app::App;
use crate::builds;
use crate::http::ApiError;

/// Deletes a template: its rows in one transaction, unless sandboxes of it are alive, then what is
/// being built of it, then its builds on the node. What the node keeps all the same, the sweep has it
/// forget.
pub(crate) async fn delete(app: &Arc<App>, template: &TemplateRow) -> Result<(), ApiError> {
    let builds = match app.store.delete_template(&template.id).await {
        Ok(builds) => builds,
        Err(error @ StoreError::TemplateInUse { .. }) => {
            return Err(ApiError::bad_request(format!("{error}: kill them first")));
        }
        Err(error) => return Err(error.into()),
    };
    let own = Arc::clone(app);
    let work = app.work.spawn(async move { forget(&own, builds).await });
    work.await.map_err(|join| ApiError::internal(&join))
}

async fn forget(app: &App, builds: Vec<(BuildId, String)>) {
    for (id, reference) in builds {
        app.builds.cancel(&id).await;
        builds::remove(app, &reference).await;
    }
}
