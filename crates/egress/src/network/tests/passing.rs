//! What passes unopened, and what does not pass.

use courier_types::egress::{FlowEvent, Protocol};
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::PATIENCE;
use super::rig::{Rig, exchange, public_ca, read_to_end, to};

const GOOD_ONLY: &str = r#"{"rules":[{"allow":"good.test"}]}"#;
const TCP: &str = r#"{"rules":[{"allow":"good.test","ports":[7,22,23],"protocols":["tcp"]}]}"#;

#[tokio::test]
async fn tls_to_an_allowed_name_reaches_the_server_itself() {
    let rig = Rig::start(GOOD_ONLY).await;
    let mut tls = rig.tls("good.test", 443, "good.test", public_ca().pem()).await.unwrap();
    assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
    tls.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut tls).await.unwrap(), "");
    drop(tls);
    let event =
        rig.flow("a connection", |event| matches!(event, FlowEvent::Connection { .. })).await;
    let FlowEvent::Connection { host, address, protocol, bytes_out, bytes_in, error, .. } = event
    else {
        unreachable!()
    };
    assert_eq!(host.unwrap().as_str(), "good.test");
    assert_eq!((address, protocol, error), (to("203.0.113.1:443"), Protocol::Https, None));
    assert!(bytes_out > 200 && bytes_in > 200, "{bytes_out} {bytes_in}");
}

#[tokio::test]
async fn a_server_name_that_was_not_resolved_for_the_address_goes_nowhere() {
    let rig = Rig::start(r#"{"rules":[{"allow":"good.test"},{"allow":"other.test"}]}"#).await;
    for asked in ["other.test", "evil.test", "twin.test", "203.0.113.1"] {
        let error = rig.tls("good.test", 443, asked, public_ca().pem()).await.unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains("UnrecognizedName") || text.contains("UnrecognisedName"), "{text}");
    }
    rig.refusal("sni").await;
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn a_name_that_is_not_allowed_is_not_asked_for_outside() {
    let rig = Rig::start(GOOD_ONLY).await;
    assert_eq!(rig.guest.resolve("other.test").await, Err(ResponseCode::NXDomain));
    assert_eq!(rig.names.asked(), [""; 0]);
    rig.refusal("policy").await;
}

#[tokio::test]
async fn an_address_that_no_answer_gave_is_refused_at_once() {
    let rig = Rig::start(GOOD_ONLY).await;
    for there in ["203.0.113.1:443", "169.254.169.254:80", "10.0.0.1:443", "198.18.0.1:5432"] {
        assert!(rig.guest.connect(to(there)).await.is_none(), "{there}");
    }
    rig.refusal("policy").await;
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn what_is_out_of_reach_stays_so_whatever_the_policy_says() {
    let rig = Rig::start(r#"{"rules":[{"allow":"internet"},{"allow":"10.0.0.0/8"}]}"#).await;
    for there in ["10.0.0.1:80", "10.0.0.1:7", "192.168.1.1:443", "100.100.100.200:80"] {
        assert!(rig.guest.connect(to(there)).await.is_none(), "{there}");
    }
    rig.refusal("address").await;
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn another_port_of_an_allowed_name_is_refused() {
    let rig = Rig::start(GOOD_ONLY).await;
    assert!(rig.guest.connect_to("good.test", 7).await.is_none());
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn bytes_that_are_neither_tls_nor_http_are_refused_where_only_these_are_allowed() {
    let rig = Rig::start(GOOD_ONLY).await;
    let mut stream = rig.guest.connect_to("good.test", 443).await.unwrap();
    stream.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.is_err());
    rig.refusal("protocol").await;
    assert_eq!(rig.outside.dialled(), []);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_and_both_halves_end_by_themselves() {
    let rig = Rig::start(TCP).await;
    let mut stream = rig.guest.connect_to("good.test", 22).await.unwrap();
    let mut greeting = [0; 17];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"SSH-2.0-outside\r\n");
    stream.write_all(b"said").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.unwrap(), "said");
    rig.flow("a connection", |event| {
        matches!(event, FlowEvent::Connection { bytes_out: 4, bytes_in: 21, error: None, .. })
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_is_seen_to_refuse() {
    let rig = Rig::start(TCP).await;
    assert!(rig.guest.connect_to("good.test", 23).await.is_none());
    assert_eq!(rig.outside.dialled(), [to("203.0.113.1:23")]);
    rig.flow("why", |event| matches!(event, FlowEvent::Connection { error: Some(_), .. })).await;
}

#[tokio::test]
async fn much_goes_both_ways_unchanged() {
    let rig = Rig::start(TCP).await;
    let stream = rig.guest.connect_to("good.test", 7).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sent: Vec<u8> = (0_u32..1 << 20).flat_map(u32::to_le_bytes).collect();
    let (expected, mut back) = (sent.clone(), Vec::new());
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    tokio::time::timeout(PATIENCE, read.read_to_end(&mut back)).await.unwrap().unwrap();
    writing.await.unwrap();
    assert!(back == expected, "{} bytes of {}", back.len(), expected.len());
}

#[tokio::test]
async fn many_connections_live_side_by_side() {
    let rig = Rig::start(TCP).await;
    let address = rig.guest.resolve("good.test").await.unwrap()[0];
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(rig.guest.connect(std::net::SocketAddrV4::new(address, 7)).await.unwrap());
    }
    for (number, stream) in (0_u32..).zip(&mut streams) {
        let bytes = number.to_be_bytes();
        assert_eq!(exchange(stream, &bytes).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_name_that_has_a_private_address_has_none() {
    let rig = Rig::start(r#"{"rules":[{"allow":"inner.test"}]}"#).await;
    assert_eq!(rig.guest.resolve("inner.test").await, Err(ResponseCode::NXDomain));
    rig.refusal("address").await;
}
