//! Connections to ports of a sandbox through the API.

use courier_protocol::v1::PORT_PROTOCOL;
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::tunnels::{connect, message};
use crate::world::World;

fn asking(world: &World, path: &str) -> Request<axum::body::Body> {
    let mut request = world.request("GET", path, None);
    for (name, value) in [("connection", "upgrade"), ("upgrade", PORT_PROTOCOL), ("host", "a.test")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_connection_turns_into_the_bytes_of_a_port() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let path = format!("/v1/sandboxes/{id}/ports/8080");
    let answer = connect(&world, asking(&world, &path)).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"there and back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "there and back");
}

#[tokio::test]
async fn a_port_that_is_closed_or_none_or_of_nobody_is_refused() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let other = courier_types::SandboxId::from_random([9; 20]);
    for (path, status, part) in [
        (format!("/v1/sandboxes/{id}/ports/1"), 502, "nothing listens on port 1"),
        (format!("/v1/sandboxes/{id}/ports/0"), 400, "port must be"),
        (format!("/v1/sandboxes/{id}/ports/x"), 400, "port must be"),
        (format!("/v1/sandboxes/{other}/ports/8080"), 404, "not found"),
    ] {
        let answer = connect(&world, asking(&world, &path)).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let said = message(answer).await;
        assert!(said.contains(part), "{path}: {said}");
    }
    let mut plain = asking(&world, &format!("/v1/sandboxes/{id}/ports/8080"));
    plain.headers_mut().remove("upgrade");
    assert_eq!(connect(&world, plain).await.status(), StatusCode::BAD_REQUEST);
}
