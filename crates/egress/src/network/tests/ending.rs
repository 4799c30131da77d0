//! However a network ends, nothing of it is left open.

use tokio::time::timeout;

use super::guest::{Guest, PATIENCE};
use super::rig::{Rig, exchange, link, names, outside, read_to_end, setup, spec};
use crate::network::{Network, NetworkError};

const TCP: &str =
    r#"{"rules":[{"allow":"good.test","ports":[7],"protocols":["tcp"]}],"tunnels":["broken"]}"#;

#[tokio::test]
async fn dropping_a_network_closes_its_link_and_its_connections() {
    let Rig { network, guest, outside, .. } = Rig::start(TCP).await;
    let mut stream = guest.connect_to("good.test", 7).await.unwrap();
    exchange(&mut stream, b"a").await.unwrap();
    let flows = network.flows();
    drop(network);
    guest.link_ended().await;
    let mut reader = flows.follow(0);
    let told = async {
        while !format!("{:?}", reader.next(100).await).contains("the sandbox's network ended") {}
    };
    timeout(PATIENCE, told).await.unwrap();
    assert_eq!(outside.dialled().len(), 1);
}

#[tokio::test]
async fn a_guest_that_is_gone_ends_its_network() {
    let Rig { network, guest, .. } = Rig::start(TCP).await;
    drop(guest);
    timeout(PATIENCE, network.closed()).await.unwrap();
}

#[tokio::test]
async fn a_panic_ends_the_network_it_is_in_and_no_other() {
    let (broken, other) = (Rig::start(TCP).await, Rig::start(TCP).await);
    let mut stream = broken.guest.connect_to("good.test", 7).await.unwrap();
    exchange(&mut stream, b"a").await.unwrap();
    let address = broken.guest.resolve("broken.tunnel.internal").await.unwrap()[0];
    let dialling = broken.guest.connect(std::net::SocketAddrV4::new(address, 5_432));
    tokio::select! {
        _refused_or_never = dialling => {}
        () = broken.network.closed() => {}
    }
    timeout(PATIENCE, broken.network.closed()).await.unwrap();
    broken.guest.link_ended().await;
    assert!(matches!(broken.network.set(&spec("{}", &broken.outside)), Err(NetworkError::Ended)));
    let mut stream = other.guest.connect_to("good.test", 7).await.unwrap();
    assert_eq!(exchange(&mut stream, b"b").await.unwrap(), b"b");
}

#[tokio::test]
async fn a_spec_that_cannot_be_put_in_force_closes_the_link() {
    let (names, outside) = (names().await, outside().await);
    for policy in [r#"{"presets":["pypi"]}"#, r#"{"rules":[{"allow":"169.254.169.254"}]}"#] {
        let (host, guest) = link();
        let refused = Network::start(host, setup(spec(policy, &outside), &names));
        assert!(matches!(refused, Err(NetworkError::Policy(_))), "{policy}");
        Guest::new(guest).link_ended().await;
    }
}

#[tokio::test]
async fn no_layer_lets_nothing_out() {
    let (names, outside) = (names().await, outside().await);
    let (host, guest) = link();
    let mut nothing = spec("{}", &outside);
    nothing.egress.0.clear();
    let _network = Network::start(host, setup(nothing, &names)).unwrap();
    let guest = Guest::new(guest);
    assert!(guest.resolve("good.test").await.is_err());
    assert!(guest.connect("203.0.113.1:443".parse().unwrap()).await.is_none());
}

#[tokio::test]
async fn a_clear_stream_to_nowhere_is_reset() {
    let rig = Rig::start(TCP).await;
    let mut stream = rig.guest.connect_to("good.test", 7).await.unwrap();
    rig.set("{}");
    assert!(read_to_end(&mut stream).await.is_err());
}
