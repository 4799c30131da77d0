//! Our own API.

mod executions;
mod info;
mod sandboxes;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The template when nobody names one.
const DEFAULT_TEMPLATE: &str = "base";

/// Every route that wants a key.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(info::info))
        .routes(routes!(sandboxes::create, sandboxes::list))
        .routes(routes!(sandboxes::detail, sandboxes::patch, sandboxes::kill))
}

/// Routes that want a key and bound their own time.
pub(crate) fn long_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(executions::execute))
}
