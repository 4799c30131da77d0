//! Endpoints of E2B's API that this version does not have: they say so, with 501, instead of a 404
//! that would read like a missing sandbox.

use std::sync::Arc;

use axum::routing::{MethodFilter, on};
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ContentBuilder, HttpMethod, Ref, Required, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::http::ApiError;

/// What E2B itself has shut down, and what to use instead.
const PUSHED: &str = "building templates from images that are pushed (use POST /v3/templates, as every \
                      SDK with `Template.build` does)";

/// Method, path, and what it would be for.
const ABSENT: &[(HttpMethod, &str, &str)] = &[
    (HttpMethod::Post, "/sandboxes/{sandboxID}/pause", "pausing"),
    (HttpMethod::Post, "/sandboxes/{sandboxID}/resume", "resuming"),
    (HttpMethod::Post, "/sandboxes/{sandboxID}/fork", "forking"),
    (HttpMethod::Post, "/sandboxes/{sandboxID}/snapshots", "making snapshots"),
    (HttpMethod::Get, "/snapshots", "listing snapshots"),
    (HttpMethod::Post, "/v2/templates", PUSHED),
    (HttpMethod::Post, "/templates", PUSHED),
    (HttpMethod::Post, "/templates/{templateID}", PUSHED),
    (HttpMethod::Post, "/templates/{templateID}/builds/{buildID}", PUSHED),
    (HttpMethod::Get, "/teams", "teams"),
];

/// Adds them all, to the router and to the document.
pub(crate) fn add(mut router: OpenApiRouter<Arc<App>>) -> OpenApiRouter<Arc<App>> {
    for (method, path, what) in ABSENT {
        let answer = move || async move { ApiError::not_in_this_version(what) };
        router = router.route(path, on(filter(method), answer));
        router.get_openapi_mut().paths.add_path_operation(
            *path,
            vec![method.clone()],
            operation(path, what).build(),
        );
    }
    router
}

fn operation(path: &str, what: &str) -> OperationBuilder {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let response = ResponseBuilder::new()
        .description("Not in this version")
        .content("application/json", content)
        .build();
    OperationBuilder::new()
        .tag("E2B, not in this version")
        .summary(Some(format!("Not in this version: {what}")))
        .parameters(Some(parameters(path)))
        .response("501", response)
}

fn parameters(path: &str) -> impl Iterator<Item = Parameter> + '_ {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(String::schema()))
            .build()
    })
}

const fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
    }
}
