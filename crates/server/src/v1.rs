//! Our own API.

mod egress;
mod executions;
mod flows;
mod info;
mod ports;
mod sandboxes;
mod secrets;
mod templates;
mod tunnels;
mod uploads;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The media type of a stream of events.
const NDJSON: &str = "application/x-ndjson";

/// The template when nobody names one.
const DEFAULT_TEMPLATE: &str = "base";

/// Every route that wants a key.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(info::info))
        .routes(routes!(sandboxes::create, sandboxes::list))
        .routes(routes!(sandboxes::detail, sandboxes::patch, sandboxes::kill))
        .routes(routes!(ports::connect))
        .routes(routes!(templates::detail))
        .routes(routes!(templates::cancel))
        .merge(egress_routes())
        .merge(secrets_routes())
}

fn egress_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(egress::detail, egress::put))
        .routes(routes!(egress::explain))
        .routes(routes!(egress::proposal))
        .routes(routes!(tunnels::list))
        .routes(routes!(tunnels::connector))
        .routes(routes!(flows::flows))
}

fn secrets_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(secrets::create, secrets::list))
        .routes(routes!(secrets::detail, secrets::update, secrets::delete))
        .routes(routes!(secrets::introspect))
}

/// Routes that want a key and bound their own time.
pub(crate) fn long_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(executions::execute))
}

/// Routes that want no key, because what they want is in their URL, and bound their own time.
pub(crate) fn ticket_routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(uploads::upload))
}
