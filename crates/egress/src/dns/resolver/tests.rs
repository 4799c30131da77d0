use super::*;
use crate::dns::testing::{Entry, TestServer, at};

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_name_resolves_to_all_its_addresses() {
    let server = TestServer::start([("a.test", at(["203.0.113.1", "203.0.113.2"]))]).await;
    let answer = server.resolver().addresses(&name("A.Test")).await.unwrap();
    assert_eq!(answer.addresses, [[203, 0, 113, 1], [203, 0, 113, 2]].map(Ipv4Addr::from));
    assert!(answer.ttl <= Duration::from_secs(60), "{:?}", answer.ttl);
    assert_eq!(server.asked(), ["a.test"]);
}

#[tokio::test]
async fn of_a_long_answer_only_so_many_addresses_are_looked_at() {
    let many = (1..=75).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect();
    let server = TestServer::start([("a.test", Entry::Addresses(vec![many], 60))]).await;
    let answer = server.resolver().addresses(&name("a.test")).await.unwrap();
    assert_eq!(answer.addresses.len(), ADDRESSES_MAX);
}

#[tokio::test]
async fn an_alias_is_followed_to_its_addresses() {
    let zone = [("a.test", Entry::Alias("b.test")), ("b.test", at(["203.0.113.1"]))];
    let server = TestServer::start(zone).await;
    let answer = server.resolver().addresses(&name("a.test")).await.unwrap();
    assert_eq!(answer.addresses, [Ipv4Addr::new(203, 0, 113, 1)]);
}

#[tokio::test]
async fn nothing_is_kept_so_that_no_sandbox_sees_what_another_asked() {
    let server = TestServer::start([("a.test", at(["203.0.113.1"]))]).await;
    let resolver = server.resolver();
    for _ in 0..2 {
        resolver.addresses(&name("a.test")).await.unwrap();
        resolver.addresses(&name("missing.test")).await.unwrap_err();
    }
    assert_eq!(server.asked(), ["a.test", "missing.test", "a.test", "missing.test"]);
}

#[tokio::test]
async fn a_missing_name_a_name_without_address_and_a_failure_are_told_apart() {
    let zone =
        [("empty.test", Entry::Addresses(vec![vec![]], 60)), ("failing.test", Entry::Failure)];
    let resolver = TestServer::start(zone).await.resolver();
    let missing = resolver.addresses(&name("missing.test")).await;
    assert!(matches!(missing, Err(ResolveError::NoName)), "{missing:?}");
    let empty = resolver.addresses(&name("empty.test")).await;
    assert!(matches!(empty, Err(ResolveError::NoAddress)), "{empty:?}");
    let failing = resolver.addresses(&name("failing.test")).await;
    assert!(matches!(failing, Err(ResolveError::Failed(_))), "{failing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_within_the_deadline() {
    let resolver = TestServer::start([("a.test", Entry::Silence)]).await.resolver();
    let since = tokio::time::Instant::now();
    let silent = resolver.addresses(&name("a.test")).await;
    assert!(matches!(silent, Err(ResolveError::Timeout | ResolveError::Failed(_))), "{silent:?}");
    assert!(since.elapsed() <= DEADLINE, "{:?}", since.elapsed());
}

#[tokio::test]
async fn servers_of_a_sandboxs_own_must_be_within_reach() {
    let addresses = ["127.0.0.1", "169.254.169.254", "10.0.0.53", "192.0.0.1"];
    for address in addresses.map(|text| text.parse::<Ipv4Addr>().unwrap()) {
        let refused =
            Resolver::guarded(&[Ipv4Addr::new(203, 0, 113, 1), address], Reach::default());
        assert!(matches!(refused, Err(ResolverError::Reach(_))), "{address}: {refused:?}");
    }
    Resolver::guarded(&[Ipv4Addr::new(203, 0, 113, 1)], Reach::default()).unwrap();
}

#[tokio::test]
async fn no_servers_and_too_many_are_errors() {
    let server = SocketAddr::from(([203, 0, 113, 1], 53));
    for count in [0, SERVERS_MAX + 1] {
        let refused = Resolver::with_servers(&vec![server; count]);
        assert!(matches!(refused, Err(ResolverError::Servers { .. })), "{count}: {refused:?}");
    }
}
