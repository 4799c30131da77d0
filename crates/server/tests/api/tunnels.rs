//! Connectors: how they come in, and who is refused.

use std::time::Duration;

use axum::body::Body;
use courier_protocol::v1::CONNECTOR_PROTOCOL;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::World;

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request for a name, as a connector sends it.
fn asking(world: &World, path: &str, upgrade: Option<&str>) -> Request<Body> {
    let mut request = world.request("POST", path, None);
    if let Some(upgrade) = upgrade {
        request.headers_mut().insert("connection", "upgrade".parse().unwrap());
        request.headers_mut().insert("upgrade", upgrade.parse().unwrap());
    }
    request.headers_mut().insert("host", "server.test".parse().unwrap());
    request
}

/// Sends a request over a connection of its own, as the server's listeners take it.
pub(crate) async fn connect(world: &World, request: Request<Body>) -> Response<Incoming> {
    let (client, server) = tokio::io::duplex(4_096);
    let service = TowerToHyperService::new(world.server.router());
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service)
            .with_upgrades(),
    );
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

pub(crate) async fn message(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_connector_gets_its_name_and_the_connection_turns_into_bytes() {
    let world = World::new().await;
    let path = "/v1/tunnels/Mine/connector?port=5432";
    let answer = connect(&world, asking(&world, path, Some(CONNECTOR_PROTOCOL))).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], CONNECTOR_PROTOCOL);
    let taken = world.tunnels.taken.lock().unwrap().clone();
    assert_eq!((taken[0].1.as_str(), taken[0].2), ("mine", 5_432));

    let second = connect(&world, asking(&world, path, Some(CONNECTOR_PROTOCOL))).await;
    assert_eq!(second.status(), StatusCode::CONFLICT);

    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");

    drop(stream);
    let gone = async {
        while !world.tunnels.taken.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the name is free again");
}

#[tokio::test]
async fn a_connector_ends_with_the_server() {
    let world = World::new().await;
    let path = "/v1/tunnels/mine/connector?port=1";
    let answer = connect(&world, asking(&world, path, Some(CONNECTOR_PROTOCOL))).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"x").await.unwrap();
    stream.read_u8().await.unwrap();
    assert!(world.server.drain(PATIENCE).await, "nothing holds the server up");
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_or(0), 0);
}

#[tokio::test]
async fn whoever_does_not_ask_rightly_or_for_a_free_name_is_refused() {
    let world = World::new().await;
    let ours = Some(CONNECTOR_PROTOCOL);
    for (path, upgrade, status, part) in [
        ("/v1/tunnels/db/connector?port=1", ours, 409, "server's own"),
        ("/v1/tunnels/full/connector?port=1", ours, 429, "may be no more"),
        ("/v1/tunnels/a.b/connector?port=1", ours, 400, "name of a tunnel"),
        ("/v1/tunnels/a/connector?port=0", ours, 400, "1 to 65535"),
        ("/v1/tunnels/a/connector?port=65536", ours, 400, "port"),
        ("/v1/tunnels/a/connector", ours, 400, "port"),
        ("/v1/tunnels/a/connector?port=1&x=1", ours, 400, "unknown field"),
        ("/v1/tunnels/a/connector?port=1", None, 400, "Upgrade: courier-tunnel"),
        ("/v1/tunnels/a/connector?port=1", Some("websocket"), 400, "Upgrade: courier-tunnel"),
    ] {
        let answer = connect(&world, asking(&world, path, upgrade)).await;
        let got = answer.status().as_u16();
        let message = message(answer).await;
        assert_eq!(got, status, "{path} {upgrade:?}: {message}");
        assert!(message.contains(part), "{path}: {message}");
    }
    assert!(world.tunnels.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_gets_a_name_without_a_key() {
    let world = World::new().await;
    let path = "/v1/tunnels/mine/connector?port=1";
    let mut request = asking(&world, path, Some(CONNECTOR_PROTOCOL));
    request.headers_mut().remove("x-api-key");
    assert_eq!(connect(&world, request).await.status(), StatusCode::UNAUTHORIZED);
    assert!(world.tunnels.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_sandbox_is_made_with_the_project_whose_tunnels_it_may_be_given() {
    let world = World::new().await;
    world.sandbox().await;
    let made = world.node.last_created();
    let project = courier_server::ensure_default_project(&world.store).await.unwrap();
    assert_eq!(made.network.project, Some(project.id));
}
