//! The data plane: clients' requests to the guests of this node.
//!
//! Each request is routed ([`route()`]). One for the guest daemon is let in (`auth`) and rewritten:
//! only headers from a short list go in and come out, so no token, cookie or trick reaches a guest,
//! and no cookie or redirect of a guest reaches a browser. Only listed paths exist; those that are
//! for the node (`/init`, `/ready`, ...) answer 404. Every other port is a server of the user's own
//! (`ports`). Bodies stream. When a sandbox ends under a request, the body fails, so that the
//! client's connection is aborted and not ended well.

mod answer;
mod auth;
mod headers;
mod path;
mod ports;
mod query;
mod route;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use courier_protocol::envd;
use courier_protocol::node::{Body, BoxError, Node as _};
use courier_types::SandboxId;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;

use crate::{Guard, LocalNode};
use path::Endpoint;

pub use ports::Via;
pub use route::{BadRoute, Route, RouteConfig, Routing, route};

/// Most bytes of a request's path and query.
const URI_LIMIT_BYTES: usize = 16 * 1_024;

/// The data plane of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DataPlane {
    node: Arc<LocalNode>,
    config: Arc<RouteConfig>,
}

impl DataPlane {
    /// The data plane of a node.
    #[must_use]
    pub fn new(node: Arc<LocalNode>, config: RouteConfig) -> Self {
        Self { node, config: Arc::new(config) }
    }

    /// Answers a request that [`route()`] found to be for the data plane.
    pub async fn answer<B>(&self, routing: Routing, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let route = match routing {
            Routing::Sandbox(route) => route,
            Routing::Bad(bad) => return answer::plain(StatusCode::BAD_REQUEST, &bad.to_string()),
            Routing::NotDataPlane => {
                return answer::error(StatusCode::NOT_FOUND, "there is no sandbox in this address");
            }
        };
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if route.port != envd::PORT {
            return self.pass_to_port(&route, request).await;
        }
        if headers::is_preflight(&request) {
            return answer::preflight(request.headers());
        }
        answer::with_cors(self.pass(route, request).await)
    }

    async fn pass(&self, route: Route, request: Request<Body>) -> Response<Body> {
        let Ok(id) = route.sandbox.parse::<SandboxId>() else {
            return answer::not_found(&route.sandbox);
        };
        let Some(guard) = self.node.guard(&id) else { return answer::not_found(id.as_str()) };
        if request.uri().path_and_query().is_some_and(|p| p.as_str().len() > URI_LIMIT_BYTES) {
            return answer::error(StatusCode::URI_TOO_LONG, "the address is too long");
        }
        let Some(endpoint) = Endpoint::of(request.method(), request.uri().path()) else {
            return answer::error(StatusCode::NOT_FOUND, "there is nothing at this path");
        };
        match self.let_in(&guard, endpoint, request) {
            Ok(request) => match self.node.request(&id, request).await {
                Ok(answer) => headers::clean_answer(answer),
                Err(error) => answer::failed(&id, &error),
            },
            Err(refused) => answer::error(refused.status(), &refused.to_string()),
        }
    }

    /// Authorises a request and makes of it what the guest may see.
    fn let_in(
        &self,
        guard: &Guard,
        endpoint: Endpoint,
        request: Request<Body>,
    ) -> Result<Request<Body>, auth::Refused> {
        let grant = auth::check(guard, endpoint, &request, self.node.now())?;
        headers::clean_request(request, &grant)
    }
}

impl<B> hyper::service::Service<Request<B>> for DataPlane
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let plane = self.clone();
        Box::pin(async move {
            let routing = route(request.uri(), request.headers(), &plane.config);
            Ok(plane.answer(routing, request).await)
        })
    }
}
