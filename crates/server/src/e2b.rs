//! E2B's control-plane API, as the official SDKs speak it.

mod absent;
mod answers;
mod builds;
mod connect;
mod create;
mod list;
mod logs;
mod metrics;
pub(crate) mod network;
mod secrets;
mod single;
mod tags;
mod templates;
mod volume_content;
mod volumes;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(crate) use logs::Direction;

/// Seconds that a sandbox lives when a v2 client does not say.
const TIMEOUT_SECS: i64 = 300;

/// Seconds that a sandbox lives when a v1 client does not say.
const TIMEOUT_SECS_V1: i64 = 15;

/// Every route that wants a key.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    absent::add(
        sandboxes().merge(samples_and_logs()).merge(templates()).merge(secrets()).merge(volumes()),
    )
}

/// Every route that wants a volume's token instead.
pub(crate) fn content_routes() -> OpenApiRouter<Arc<App>> {
    volume_content::routes()
}

fn volumes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(volumes::list, volumes::create))
        .routes(routes!(volumes::detail, volumes::delete))
}

fn sandboxes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create::create_v2, list::list_v2))
        .routes(routes!(create::create_v1, list::list_v1))
        .routes(routes!(connect::connect_v2))
        .routes(routes!(connect::connect_v1))
        .routes(routes!(single::detail, single::kill))
        .routes(routes!(single::set_timeout))
        .routes(routes!(single::refresh))
        .routes(routes!(network::update))
}

fn samples_and_logs() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(metrics::of_many))
        .routes(routes!(metrics::of_one))
        .routes(routes!(logs::logs_v1))
        .routes(routes!(logs::logs_v2))
}

fn templates() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(templates::list_v1))
        .routes(routes!(templates::list_v2))
        .routes(routes!(templates::alias))
        .routes(routes!(templates::detail, templates::delete))
        .routes(routes!(templates::update))
        .routes(routes!(builds::request))
        .routes(routes!(builds::files))
        .routes(routes!(builds::start))
        .routes(routes!(builds::status))
        .routes(routes!(builds::logs))
        .routes(routes!(tags::assign, tags::remove))
        .routes(routes!(tags::list))
}

fn secrets() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(secrets::create, secrets::list)).routes(routes!(
        secrets::detail,
        secrets::update,
        secrets::delete
    ))
}
