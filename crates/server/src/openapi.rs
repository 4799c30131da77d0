//! The OpenAPI document, generated from the handlers and the bodies.

use courier_protocol::e2b::{ErrorBody, LogLevel, Order};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use crate::e2b::Direction;
use crate::router;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "CodeCourier",
        description = "Sandboxes for untrusted code. The paths without `/v1` speak E2B's API, so \
                       that the official SDKs work; `/v1` is our own. Every error has the body \
                       `ErrorBody`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    // What only query parameters refer to is not found by itself.
    components(schemas(ErrorBody, LogLevel, Order, Direction)),
    security(("api_key" = []), ("bearer" = [])),
    modifiers(&Schemes),
)]
pub(crate) struct Skeleton;

/// How a key is presented.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "api_key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
        );
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document without paths.
pub(crate) fn skeleton() -> OpenApi {
    Skeleton::openapi()
}

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    router::document()
}
