use std::net::Ipv4Addr;

use courier_types::egress::UpstreamProxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::tls::UpstreamTrust;

/// A dialer of a sandbox that shares its descriptors with nobody.
pub(super) fn dialer(reach: Reach) -> Dialer {
    Dialer::new(reach, Descriptors::new(2 * OPEN_MAX))
}

/// A server that says `hello` to each connection, then gives back what comes.
pub(super) async fn echo_server() -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(at) = listener.local_addr().unwrap() else { panic!("IPv4") };
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(b"hello").await.unwrap();
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            });
        }
    });
    at
}

/// Reads the greeting of [`echo_server`], and gets something back from it.
pub(super) async fn is_served(stream: &mut Box<dyn Stream>) {
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    stream.write_all(b"again").await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"again");
}

#[tokio::test]
async fn an_address_within_reach_is_dialled() {
    let dialer = dialer(Reach::for_tests());
    let mut stream = dialer.dial(echo_server().await, None).await.unwrap();
    is_served(&mut stream).await;
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "the other side saw the end");
}

#[tokio::test]
async fn an_address_out_of_reach_is_not_dialled_though_something_listens_there() {
    let at = echo_server().await;
    let refused = dialer(Reach::default()).dial(at, None).await.err().unwrap();
    assert!(matches!(refused, DialError::Reach(_)), "{refused:?}");
    assert_eq!(refused.refusal().unwrap().fence, "address");
    assert_eq!(refused.text(), "127.0.0.1 is loopback: never reachable");
}

#[tokio::test]
async fn a_closed_port_is_the_upstreams_fault() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(at) = listener.local_addr().unwrap() else { panic!("IPv4") };
    drop(listener);
    let failed = dialer(Reach::for_tests()).dial(at, None).await.err().unwrap();
    assert!(matches!(failed, DialError::Connect(_)), "{failed:?}");
    assert_eq!(failed.refusal(), None);
    assert_eq!(failed.text(), "cannot connect: connection refused");
}

#[tokio::test]
async fn open_connections_of_a_sandbox_are_limited_and_each_gives_its_place_back() {
    let at = echo_server().await;
    let dialer = dialer(Reach::for_tests());
    let one = dialer.dial(at, None).await.unwrap();
    let others = dialer.open.acquire_many(u32::try_from(OPEN_MAX - 1).unwrap()).await.unwrap();
    let refused = dialer.with_proxy(None).dial(at, None).await.err().unwrap();
    assert!(matches!(refused, DialError::TooMany), "{refused:?}");
    assert_eq!(refused.refusal().unwrap().fence, "limit");
    drop(one);
    is_served(&mut dialer.dial(at, None).await.unwrap()).await;
    drop(others);
    assert_eq!(dialer.open.available_permits(), OPEN_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_come_about_is_given_up() {
    // A proxy that takes connections and never says anything.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let settings = UpstreamProxy { address, username: None, password: None, tls: None };
    let resolver = crate::Resolver::with_servers(&[([203, 0, 113, 1], 53).into()]).unwrap();
    let trust = UpstreamTrust::only(&[proxy::tests::ca().pem().into_bytes()]).unwrap();
    let proxy = Proxy::new(&settings, resolver, &trust).unwrap();
    let dialer = dialer(Reach::for_tests()).with_proxy(Some(proxy));
    let to = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 443);
    let failed = dialer.dial(to, None).await.err().unwrap();
    assert!(matches!(failed, DialError::Timeout), "{failed:?}");
    assert_eq!(dialer.pending.available_permits(), PENDING_MAX);
    assert_eq!(dialer.open.available_permits(), OPEN_MAX);
}

#[tokio::test]
async fn descriptors_are_of_all_sandboxes_together_and_come_back() {
    let descriptors = Descriptors::new(1);
    let dialer = || Dialer::new(Reach::for_tests(), descriptors.clone());
    let (first, second) = (dialer(), dialer());
    let at = echo_server().await;
    let stream = first.dial(at, None).await.unwrap();
    let refused = second.dial(at, None).await.err().unwrap();
    assert!(matches!(refused, DialError::NoneLeft), "{refused:?}");
    assert_eq!(refused.refusal().unwrap().fence, "limit");
    drop(stream);
    is_served(&mut second.dial(at, None).await.unwrap()).await;
}
