//! A policy that is replaced while connections are open.

use std::time::{Duration, Instant};

use courier_types::egress::FlowEvent;

use super::rig::{Rig, exchange, public_ca, read_to_end, spec};

const BOTH: &str = r#"{"rules":[{"allow":"good.test"},{"allow":"other.test"},{"allow":"good.test","ports":[7],"protocols":["tcp"]}]}"#;

#[tokio::test]
async fn what_a_new_policy_does_not_allow_is_closed_within_a_second_and_nothing_else() {
    let rig = Rig::start(BOTH).await;
    let public = public_ca();
    let mut good = rig.tls("good.test", 443, "good.test", public.pem()).await.unwrap();
    let mut other = rig.tls("other.test", 443, "other.test", public.pem()).await.unwrap();
    let mut tcp = rig.guest.connect_to("good.test", 7).await.unwrap();
    exchange(&mut good, b"a").await.unwrap();
    exchange(&mut other, b"a").await.unwrap();
    exchange(&mut tcp, b"a").await.unwrap();
    let replaced = Instant::now();
    rig.set(r#"{"rules":[{"allow":"other.test"}]}"#);
    assert!(read_to_end(&mut good).await.is_err() && read_to_end(&mut tcp).await.is_err());
    assert!(replaced.elapsed() < Duration::from_secs(1), "{:?}", replaced.elapsed());
    assert_eq!(exchange(&mut other, b"b").await.unwrap(), b"b");
    rig.flow("two closed", |event| *event == FlowEvent::Policy { closed: 2 }).await;
    rig.flow("why", |event| {
        matches!(event, FlowEvent::Connection { error: Some(why), .. } if why.contains("policy"))
    })
    .await;
    assert!(rig.guest.resolve("good.test").await.is_err());
}

#[tokio::test]
async fn what_has_to_be_opened_now_does_not_stay_unopened() {
    let rig = Rig::start(BOTH).await;
    let mut good = rig.tls("good.test", 443, "good.test", public_ca().pem()).await.unwrap();
    exchange(&mut good, b"a").await.unwrap();
    rig.set(r#"{"rules":[{"allow":"good.test","methods":["GET"]}]}"#);
    assert!(read_to_end(&mut good).await.is_err());
}

#[tokio::test]
async fn another_proxy_closes_what_went_through_the_old_one() {
    let rig = Rig::start(BOTH).await;
    let mut good = rig.tls("good.test", 443, "good.test", public_ca().pem()).await.unwrap();
    exchange(&mut good, b"a").await.unwrap();
    let mut other = spec(BOTH, &rig.outside);
    other.upstream_proxy = None;
    rig.network.set(&other).unwrap();
    assert!(read_to_end(&mut good).await.is_err());
}

#[tokio::test]
async fn a_spec_that_is_refused_changes_nothing() {
    let rig = Rig::start(BOTH).await;
    let mut good = rig.tls("good.test", 443, "good.test", public_ca().pem()).await.unwrap();
    let mut refused = spec(r#"{"presets":["pypi"]}"#, &rig.outside);
    assert!(rig.network.set(&refused).is_err());
    assert!(rig.network.host.check(&refused).is_err());
    refused = spec("{}", &rig.outside);
    assert!(rig.network.host.check(&refused).is_ok());
    refused.upstream_proxy.as_mut().unwrap().address = "nowhere".to_owned();
    assert!(rig.network.set(&refused).is_err());
    assert!(rig.network.host.check(&refused).is_err());
    assert_eq!(exchange(&mut good, b"a").await.unwrap(), b"a");
    assert!(rig.guest.resolve("good.test").await.is_ok());
}
