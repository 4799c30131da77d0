//! Which request goes where.

use std::collections::BTreeMap;
use std::sync::Arc;

use courier_protocol::envd::connect::MAX_MESSAGE_BYTES;
use courier_protocol::envd::init::{INIT_PATH, Init, READY_PATH};
use courier_protocol::envd::ports as port_paths;
use courier_protocol::envd::volume::VOLUME_PATH;
use http::{Method, StatusCode};

use crate::context::{Context, Settings};
use crate::http::{self as answers, Request, Response};
use crate::{build, files, filesystem, network, ports, process, volumes};

/// Answers one request.
pub(crate) async fn route(context: Arc<Context>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/health" | READY_PATH) => {
            answers::status(StatusCode::NO_CONTENT)
        }
        (&Method::GET, "/envs") => answers::json(StatusCode::OK, &context.settings().env_vars),
        (&Method::GET, "/metrics") => metrics(context).await,
        (&Method::POST, INIT_PATH) => init(&context, request).await,
        (&Method::POST, VOLUME_PATH) => volumes::handle(request).await,
        (_, files::FILES_PATH | files::COMPOSE_PATH) => files::handle(&context, request).await,
        (&Method::POST, path) if let Some(port) = port_paths::port(path) => {
            ports::connect(port, request.into_body()).await
        }
        (_, path) if build::is_path(path) => build::handle(context, request).await,
        (_, path) => match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
            Some(("filesystem.Filesystem", method)) => {
                filesystem::service::serve(context, method, request).await
            }
            Some(("process.Process", method)) => process::serve(context, method, request).await,
            _ => answers::error(StatusCode::NOT_FOUND, &format!("{path} does not exist")),
        },
    }
}

async fn metrics(context: Arc<Context>) -> Response {
    match tokio::task::spawn_blocking(move || context.metrics()).await {
        Ok(metrics) => answers::json(StatusCode::OK, &metrics),
        Err(error) => answers::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn init(context: &Context, request: Request) -> Response {
    let body = match answers::read_all(request.into_body(), MAX_MESSAGE_BYTES).await {
        Ok(body) => body,
        Err(error) => return answers::error(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let init = match serde_json::from_slice::<Init>(&body) {
        Ok(init) => init,
        Err(error) => return answers::error(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let root = context.root();
    let placed = tokio::task::spawn_blocking(move || {
        let trust = root.map_or(Ok(BTreeMap::new()), |root| network::prepare(&root, &init));
        trust.map(|trust| Settings::new(init, trust))
    });
    match placed.await {
        Ok(Ok(settings)) => {
            context.apply(settings);
            answers::status(StatusCode::NO_CONTENT)
        }
        Ok(Err(error)) => answers::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => answers::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
