//! Every request goes one of two ways: to a sandbox, or to the API.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use courier_node::LocalNode;
use courier_node::proxy::{self, DataPlane, RouteConfig, Routing};
use courier_protocol::node::{Body, BoxError};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

/// An answer under way.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Decides where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Dispatch {
    api: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>,
    data_plane: DataPlane,
    routes: Arc<RouteConfig>,
}

impl Dispatch {
    /// Between the API's router and the sandboxes of a node; in domain mode, host names below the
    /// domain lead to sandboxes.
    pub(crate) fn new<A, B>(api: A, node: Arc<LocalNode>, domain: Option<String>) -> Self
    where
        A: Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        A::Future: Send,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let routes = RouteConfig { domain };
        let api = api.map_response(|response: Response<B>| {
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        });
        Self {
            api: BoxCloneSyncService::new(api),
            data_plane: DataPlane::new(node, routes.clone()),
            routes: Arc::new(routes),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let routing = proxy::route(request.uri(), request.headers(), &self.routes);
        if routing == Routing::NotDataPlane {
            let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
            return Box::pin(self.api.clone().oneshot(request));
        }
        let data_plane = self.data_plane.clone();
        Box::pin(async move { Ok(data_plane.answer(routing, request).await) })
    }
}
