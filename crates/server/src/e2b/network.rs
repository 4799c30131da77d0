//! Networks as E2B's wire asks for them.
//!
//! | asked | becomes |
//! |---|---|
//! | `allowOut` | allow rules: names for HTTP on 80 and HTTPS on 443, addresses for anything |
//! | `denyOut` | deny rules behind them; `0.0.0.0/0` denies all the rest |
//! | `allow_internet_access` | true: all the rest is allowed; false: it is not; absent: what would be without `network` |
//! | `rules` | credentials that set headers; they allow nothing by themselves |
//! | `egressProxy`, `dnsServers` | the proxy and the resolvers of the sandbox's network |
//!
//! Where nothing is said, nothing is reached, unless the operator chose E2B's default. So names in
//! `allowOut` do not need `0.0.0.0/0` in `denyOut` here; it does no harm. Sandboxes have no IPv6:
//! `::/0` in `denyOut` is what is, and an IPv6 entry of `allowOut` is refused.
//!
//! Where both an exact name and a wildcard of `rules` match, both sets of headers are added, and for
//! the same header the more exact one counts.

mod headers;
mod proxy;
mod wanted;

use std::sync::Arc;

use axum::extract::State;
use courier_protocol::e2b::{ErrorBody, NetworkUpdate};
use http::StatusCode;

use wanted::NetworkError;
pub(crate) use wanted::{PublicTraffic, Wanted};

use crate::app::App;
use crate::auth::Caller;
use crate::egress::{Change, replace};
use crate::http::{ApiError, JsonBody, PathSegment};
use crate::sandboxes::find_usable;

/// Replace what a running sandbox may reach.
///
/// All of it: what is absent is cleared. Connections that the new rules would not allow end within a
/// second. What the template does not allow is refused.
#[utoipa::path(
    put,
    path = "/sandboxes/{sandboxID}/network",
    tag = "E2B sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = NetworkUpdate,
    responses(
        (status = 204, description = "In force"),
        (status = "4XX", description = "Refused; what was in force stays", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Caller(project): Caller,
    PathSegment(id): PathSegment,
    body: JsonBody<NetworkUpdate>,
) -> Result<StatusCode, ApiError> {
    let wanted = Wanted::of_update(body.value)?;
    let row = find_usable(&app, &project, &id).await?;
    replace(&app, row, Change::E2b(Box::new(wanted))).await?;
    Ok(StatusCode::NO_CONTENT)
}
