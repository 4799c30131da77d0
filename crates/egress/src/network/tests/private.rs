//! Tunnels, and names that are only learnt.

use courier_types::egress::{FlowEvent, Protocol};
use tokio::io::AsyncWriteExt;

use super::guest::PATIENCE;
use super::rig::{Rig, exchange, public_ca, read_to_end};
use crate::network::THROUGH_MAX;

#[tokio::test]
async fn a_tunnel_leads_to_its_service_by_its_port_only() {
    let rig = Rig::start(r#"{"tunnels":["db"]}"#).await;
    let name = "db.tunnel.internal";
    let mut stream = rig.guest.connect_to(name, 5_432).await.unwrap();
    assert_eq!(exchange(&mut stream, b"select").await.unwrap(), b"select");
    assert!(rig.guest.connect_to(name, 80).await.is_none());
    drop(stream);
    let event =
        rig.flow("a connection", |event| matches!(event, FlowEvent::Connection { .. })).await;
    let FlowEvent::Connection { tunnel, bytes_out, bytes_in, .. } = event else { unreachable!() };
    assert_eq!(tunnel.unwrap().as_str(), "db");
    assert_eq!((bytes_out, bytes_in), (6, 6));
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn no_sandbox_takes_all_of_a_service_behind_a_tunnel() {
    let rig = Rig::start(r#"{"tunnels":["db"]}"#).await;
    let mut streams = Vec::new();
    for _ in 0..THROUGH_MAX {
        streams.push(rig.guest.connect_to("db.tunnel.internal", 5_432).await.unwrap());
    }
    assert!(rig.guest.connect_to("db.tunnel.internal", 5_432).await.is_none());
    rig.refusal("limit").await;
    streams.clear();
    let again =
        async { while rig.guest.connect_to("db.tunnel.internal", 5_432).await.is_none() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("what was closed makes room");
}

#[tokio::test]
async fn a_tunnel_that_the_policy_does_not_name_has_no_address() {
    let rig = Rig::start(r#"{"tunnels":["gone"],"rules":[{"allow":"internet"}]}"#).await;
    assert!(rig.guest.resolve("db.tunnel.internal").await.is_err());
    assert!(rig.guest.connect_to("gone.tunnel.internal", 5_432).await.is_none());
    rig.flow("why", |event| matches!(event, FlowEvent::Connection { error: Some(_), .. })).await;
}

#[tokio::test]
async fn learn_mode_says_what_would_have_been_asked_for_and_asks_nobody() {
    let rig = Rig::start(r#"{"learn":true}"#).await;
    assert!(rig.tls("good.test", 443, "good.test", public_ca().pem()).await.is_err());
    let mut http = rig.guest.connect_to("other.test", 80).await.unwrap();
    http.write_all(b"POST /a/b?key=1 HTTP/1.1\r\nHost: other.test\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut http).await.is_err());
    let mut tcp = rig.guest.connect_to("fake.test", 22).await.unwrap();
    tcp.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    assert!(read_to_end(&mut tcp).await.is_err());
    for (name, port, spoken, asked) in [
        ("good.test", 443, Protocol::Https, None),
        ("other.test", 80, Protocol::Http, Some(("POST", "/a/b"))),
        ("fake.test", 22, Protocol::Tcp, None),
    ] {
        rig.flow(name, |event| {
            let FlowEvent::Refused { host, address, protocol, method, path, .. } = event else {
                return false;
            };
            let request = method.as_deref().zip(path.as_deref());
            host.as_ref().is_some_and(|host| host.as_str() == name)
                && address.is_some_and(|address| address.port() == port)
                && *protocol == Some(spoken)
                && request == asked
        })
        .await;
    }
    assert_eq!(rig.outside.dialled(), []);
    assert_eq!(rig.names.asked(), [""; 0]);
}
