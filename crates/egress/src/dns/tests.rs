use std::net::SocketAddr;

use courier_types::egress::Layers;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::testing::{Entry, TestServer, at, flipping};
use super::*;
use crate::tunnel::{NoTunnels, TunnelError, TunnelStream};

/// A sandbox's DNS with all that is behind it.
struct Bench {
    dns: Dns,
    policy: watch::Sender<Arc<Compiled>>,
    resolver: watch::Sender<Resolver>,
    server: TestServer,
    pins: Arc<Pins>,
    flows: FlowLog,
}

fn compiled(policy: &str) -> Arc<Compiled> {
    let layers = format!(r#"[{{"source":"sandbox","policy":{policy}}}]"#);
    let layers: Layers = serde_json::from_str(&layers).unwrap();
    Arc::new(Compiled::new(&layers).unwrap())
}

async fn bench<const N: usize>(policy: &str, zone: [(&str, Entry); N]) -> Bench {
    bench_with(policy, TestServer::start(zone).await, Reach::default(), Arc::new(NoTunnels))
}

fn bench_with(policy: &str, server: TestServer, reach: Reach, tunnels: Arc<dyn Tunnels>) -> Bench {
    let (policy, policy_now) = watch::channel(compiled(policy));
    let (resolver, resolver_now) = watch::channel(server.resolver());
    let (pins, flows) = (Arc::new(Pins::default()), FlowLog::default());
    let dns = Dns::new(DnsSetup {
        sandbox: SandboxId::from_random([7; 20]),
        policy: policy_now,
        resolver: resolver_now,
        reach,
        pins: Arc::clone(&pins),
        tunnels,
        flows: flows.clone(),
    });
    Bench { dns, policy, resolver, server, pins, flows }
}

impl Bench {
    async fn ask_for(&self, name: &str, kind: RecordType) -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = self.dns.answer(&question.to_vec().unwrap()).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }

    /// The code and the addresses of the answer.
    async fn ask(&self, name: &str) -> (ResponseCode, Vec<String>) {
        let answer = self.ask_for(name, RecordType::A).await;
        let address = |data: &RData| match data {
            RData::A(address) => address.0.to_string(),
            other => panic!("{other:?}"),
        };
        let addresses = answer.answers.iter().map(|record| address(&record.data)).collect();
        (answer.metadata.response_code, addresses)
    }

    /// Fence and host of each refusal so far.
    fn refusals(&self) -> Vec<(String, Option<String>)> {
        let flows = self.flows.page(0, 10_000).flows;
        let refusal = |event| match event {
            FlowEvent::Refused { transport: Transport::Dns, host, refusal, .. } => {
                Some((refusal.fence, host.map(String::from)))
            }
            _other => None,
        };
        flows.into_iter().filter_map(|flow| refusal(flow.event)).collect()
    }

    fn pinned(&self, address: &str) -> Option<(Pinned, Vec<HostName>)> {
        self.pins.names(address.parse().unwrap())
    }

    #[track_caller]
    fn nothing_went_out(&self) {
        assert_eq!(self.server.asked(), [""; 0]);
    }
}

const ALLOWED: &str = r#"{"rules":[{"allow":"api.allowed.test"}]}"#;

#[tokio::test]
async fn an_allowed_name_is_answered_pinned_and_logged() {
    let bench = bench(ALLOWED, [("api.allowed.test", at(["203.0.113.1", "203.0.113.2"]))]).await;
    let answer = bench.ask_for("API.Allowed.Test.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(answer.queries[0].name().to_ascii(), "API.Allowed.Test.");
    assert_eq!(answer.answers.len(), 2);
    assert!(answer.answers.iter().all(|record| record.ttl == ANSWER_TTL_SECONDS));
    assert_eq!(bench.server.asked(), ["api.allowed.test"], "in its one form");
    let name: HostName = "api.allowed.test".parse().unwrap();
    assert_eq!(bench.pinned("203.0.113.2"), Some((Pinned::Real, vec![name.clone()])));
    assert_eq!(bench.pinned("203.0.113.3"), None);
    let flows = bench.flows.page(0, 10).flows;
    let FlowEvent::Dns { host, record, answers, .. } = &flows[0].event else {
        panic!("{flows:?}");
    };
    assert_eq!((host, record.as_str(), *answers), (&name, "A", 2));
}

#[tokio::test]
async fn a_name_that_no_rule_allows_is_not_there_and_nothing_goes_out() {
    let bench = bench(ALLOWED, [("other.test", at(["203.0.113.1"]))]).await;
    for (name, kind) in [
        ("other.test.", RecordType::A),
        ("other.test.", RecordType::AAAA),
        ("secret.api.allowed.test.", RecordType::A),
        ("evil-api.allowed.test.", RecordType::A),
        ("api.allowed.test.evil.test.", RecordType::A),
        ("allowed.test.", RecordType::A),
    ] {
        let answer = bench.ask_for(name, kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name} {kind}");
    }
    bench.nothing_went_out();
    let refusals = bench.refusals();
    assert!(refusals.iter().all(|(fence, _)| fence == "policy"), "{refusals:?}");
    assert_eq!(refusals[0].1.as_deref(), Some("other.test"));
}

#[tokio::test]
async fn only_addresses_are_answered_and_no_other_type_goes_out() {
    let bench = bench(ALLOWED, [("api.allowed.test", at(["203.0.113.1"]))]).await;
    for (kind, code) in [
        (RecordType::AAAA, ResponseCode::NoError),
        (RecordType::HTTPS, ResponseCode::NoError),
        (RecordType::SVCB, ResponseCode::NoError),
        (RecordType::TXT, ResponseCode::Refused),
        (RecordType::MX, ResponseCode::Refused),
        (RecordType::CNAME, ResponseCode::Refused),
        (RecordType::NULL, ResponseCode::Refused),
        (RecordType::ANY, ResponseCode::Refused),
        (RecordType::AXFR, ResponseCode::Refused),
        (RecordType::PTR, ResponseCode::NXDomain),
        (RecordType::Unknown(65_280), ResponseCode::Refused),
    ] {
        let answer = bench.ask_for("api.allowed.test.", kind).await;
        assert_eq!(answer.metadata.response_code, code, "{kind}");
        assert!(answer.answers.is_empty() && answer.additionals.is_empty(), "{kind}");
    }
    bench.nothing_went_out();
    bench.ask("api.allowed.test.").await;
    assert_eq!(bench.server.asked_types(), [RecordType::A]);
}

#[tokio::test]
async fn what_is_no_host_name_or_a_local_one_never_goes_out() {
    let bench =
        bench(r#"{"rules":[{"allow":"internet"}]}"#, [("a.test", at(["203.0.113.1"]))]).await;
    for name in [
        ".",
        "*.test.",
        "127.0.0.1.",
        "0x7f.1.",
        "localhost.",
        "x.localhost.",
        "printer.local.",
        "metadata.google.internal.",
        "tunnel.internal.",
        "hidden.onion.",
        "router.home.arpa.",
        "metadata.",
    ] {
        assert_eq!(bench.ask(name).await, (ResponseCode::NXDomain, vec![]), "{name}");
    }
    bench.nothing_went_out();
    assert_eq!(bench.ask("a.test.").await.0, ResponseCode::NoError);
}

#[tokio::test]
async fn whatever_a_name_resolves_to_only_what_is_within_reach_is_given_out() {
    let zone = [
        ("mixed.test", at(["10.0.0.1", "203.0.113.1", "127.0.0.1", "169.254.169.254"])),
        ("inside.test", at(["192.168.0.1", "100.64.0.1", "0.0.0.0", "198.18.0.1", "192.0.0.1"])),
    ];
    let bench = bench(r#"{"rules":[{"allow":"mixed.test"},{"allow":"inside.test"}]}"#, zone).await;
    assert_eq!(bench.ask("mixed.test.").await.1, ["203.0.113.1"]);
    assert_eq!(bench.ask("inside.test.").await, (ResponseCode::NXDomain, vec![]));
    for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.0.1", "198.18.0.1"] {
        assert_eq!(bench.pinned(address), None, "{address}");
    }
    assert_eq!(bench.refusals(), [("address".to_owned(), Some("inside.test".to_owned()))]);
}

#[tokio::test]
async fn a_name_that_rebinds_gains_nothing() {
    let flips = flipping([&["203.0.113.1"], &["169.254.169.254"], &["10.0.0.1", "203.0.113.2"]]);
    let bench = bench(ALLOWED, [("api.allowed.test", flips)]).await;
    assert_eq!(bench.ask("api.allowed.test.").await.1, ["203.0.113.1"]);
    assert_eq!(bench.ask("api.allowed.test.").await, (ResponseCode::NXDomain, vec![]));
    assert_eq!(bench.ask("api.allowed.test.").await.1, ["203.0.113.2"]);
    assert_eq!(bench.pinned("169.254.169.254"), None);
    assert_eq!(bench.pinned("10.0.0.1"), None);
}

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl_and_one_without_is_not() {
    let zone = [
        ("kept.test", at(["203.0.113.1"])),
        ("flips.test", flipping([&["203.0.113.2"], &["203.0.113.3"]])),
    ];
    let bench = bench(r#"{"rules":[{"allow":"internet"}]}"#, zone).await;
    for _ in 0..2 {
        assert_eq!(bench.ask("kept.test.").await.1, ["203.0.113.1"]);
    }
    assert_eq!(bench.ask("flips.test.").await.1, ["203.0.113.2"]);
    assert_eq!(bench.ask("flips.test.").await.1, ["203.0.113.3"]);
    assert_eq!(bench.server.asked(), ["kept.test", "flips.test", "flips.test"]);
    bench.policy.send_replace(Arc::new(Compiled::deny_all()));
    assert_eq!(bench.ask("kept.test.").await.0, ResponseCode::NXDomain, "the policy comes first");
}

#[tokio::test]
async fn another_resolver_knows_nothing_of_what_the_last_one_said() {
    let bench = bench(ALLOWED, [("api.allowed.test", at(["203.0.113.1"]))]).await;
    assert_eq!(bench.ask("api.allowed.test.").await.1, ["203.0.113.1"]);
    let other = TestServer::start([("api.allowed.test", at(["203.0.113.2"]))]).await;
    bench.resolver.send_replace(other.resolver());
    for _ in 0..2 {
        assert_eq!(bench.ask("api.allowed.test.").await.1, ["203.0.113.2"]);
    }
    assert_eq!(other.asked(), ["api.allowed.test"]);
}

#[tokio::test]
async fn an_answer_has_at_most_eight_addresses_and_only_those_are_pinned() {
    let many: Vec<Ipv4Addr> = (1..=20).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect();
    let bench = bench(ALLOWED, [("api.allowed.test", Entry::Addresses(vec![many], 60))]).await;
    assert_eq!(bench.ask("api.allowed.test.").await.1.len(), ADDRESSES_MAX);
    assert!(bench.pinned("203.0.113.8").is_some());
    assert_eq!(bench.pinned("203.0.113.9"), None);
}

#[tokio::test]
async fn a_host_of_the_nodes_own_configuration_may_be_private_and_local() {
    let zone = [("mirror.internal", at(["10.0.0.1", "127.0.0.1"]))];
    let hosts = vec![("mirror.internal".parse().unwrap(), 443)];
    let reach = Reach::default().with_hosts(hosts);
    let policy = r#"{"rules":[{"allow":"mirror.internal"}]}"#;
    let bench = bench_with(policy, TestServer::start(zone).await, reach, Arc::new(NoTunnels));
    assert_eq!(bench.ask("mirror.internal.").await.1, ["10.0.0.1"]);
}

#[tokio::test]
async fn in_learn_mode_a_refused_name_has_an_address_that_is_never_dialled() {
    let policy = r#"{"rules":[{"allow":"api.allowed.test"}],"learn":true}"#;
    let bench = bench(policy, [("api.allowed.test", at(["203.0.113.1"]))]).await;
    let (code, addresses) = bench.ask("other.test.").await;
    assert_eq!(code, ResponseCode::NoError);
    let name: HostName = "other.test".parse().unwrap();
    assert_eq!(bench.pinned(&addresses[0]), Some((Pinned::Learn, vec![name])));
    let absent = bench.ask_for("other.test.", RecordType::AAAA).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NoError);
    assert!(absent.answers.is_empty());
    bench.nothing_went_out();
    assert_eq!(bench.refusals()[0], ("policy".to_owned(), Some("other.test".to_owned())));
    assert_eq!(bench.ask("api.allowed.test.").await.1, ["203.0.113.1"]);
}

/// A tunnel `db`, and no other.
#[derive(Debug)]
struct OneTunnel;

#[async_trait::async_trait]
impl Tunnels for OneTunnel {
    fn port(&self, _sandbox: &SandboxId, name: &TunnelName) -> Option<u16> {
        (name.as_str() == "db").then_some(5_432)
    }

    async fn open(
        &self,
        _sandbox: &SandboxId,
        name: &TunnelName,
    ) -> Result<Box<dyn TunnelStream>, TunnelError> {
        Err(TunnelError::Unknown { name: name.clone() })
    }
}

#[tokio::test]
async fn a_tunnel_has_a_name_where_the_policy_names_it_and_it_is_there() {
    let server = TestServer::start([]).await;
    let policy = r#"{"rules":[{"allow":"internet"}],"tunnels":["db","gone"]}"#;
    let bench = bench_with(policy, server, Reach::default(), Arc::new(OneTunnel));
    let (_, addresses) = bench.ask("DB.tunnel.internal.").await;
    let names = vec!["db.tunnel.internal".parse().unwrap()];
    let tunnel = Pinned::Tunnel("db".parse().unwrap());
    assert_eq!(bench.pinned(&addresses[0]), Some((tunnel, names)));
    assert_eq!(bench.ask("db.tunnel.internal.").await.1, addresses, "it stays");
    for name in ["gone.tunnel.internal.", "x.db.tunnel.internal.", "other.tunnel.internal."] {
        assert_eq!(bench.ask(name).await, (ResponseCode::NXDomain, vec![]), "{name}");
    }
    bench.policy.send_replace(compiled(r#"{"rules":[{"allow":"internet"}]}"#));
    assert_eq!(bench.ask("db.tunnel.internal.").await.0, ResponseCode::NXDomain);
    bench.nothing_went_out();
}

#[tokio::test]
async fn a_replaced_policy_counts_from_the_next_question() {
    let bench = bench(ALLOWED, [("api.allowed.test", at(["203.0.113.1"]))]).await;
    assert_eq!(bench.ask("api.allowed.test.").await.0, ResponseCode::NoError);
    bench.policy.send_replace(Arc::new(Compiled::deny_all()));
    assert_eq!(bench.ask("api.allowed.test.").await.0, ResponseCode::NXDomain);
}

#[tokio::test]
async fn bytes_in_names_below_a_wildcard_are_capped_and_told_once() {
    let policy = r#"{"rules":[{"allow":"*.allowed.test"},{"allow":"api.test"}]}"#;
    let bench = bench(policy, [("api.test", at(["203.0.113.1"]))]).await;
    let mut failed = 0;
    for n in 0..150 {
        let name = format!("{n:0>50}.allowed.test.");
        failed += u32::from(bench.ask(&name).await.0 == ResponseCode::ServFail);
    }
    assert!(failed > 100, "{failed}");
    let out: usize =
        bench.server.asked().iter().map(|name| name.len() - "allowed.test".len()).sum();
    assert!((900..=2_048).contains(&out), "{out}");
    assert_eq!(bench.refusals().len(), 1);
    assert_eq!(bench.refusals()[0].0, "budget");
    assert_eq!(bench.ask("api.test.").await.0, ResponseCode::NoError, "costs nothing");
}

#[tokio::test]
async fn too_many_questions_fail_and_are_told_once() {
    let bench = bench(ALLOWED, []).await;
    let mut failed = 0;
    for _ in 0..1_000 {
        failed += u32::from(bench.ask("other.test.").await.0 == ResponseCode::ServFail);
    }
    assert!(failed > 0, "{failed}");
    let budget = bench.refusals().into_iter().filter(|(fence, _)| fence == "budget");
    assert_eq!(budget.collect::<Vec<_>>(), [("budget".to_owned(), None)]);
}

#[tokio::test]
async fn upstream_trouble_is_told_as_such() {
    let policy = r#"{"rules":[{"allow":"internet"}]}"#;
    let zone =
        [("failing.test", Entry::Failure), ("empty.test", Entry::Addresses(vec![vec![]], 9))];
    let bench = bench(policy, zone).await;
    for (name, code) in [
        ("failing.test.", ResponseCode::ServFail),
        ("empty.test.", ResponseCode::NoError),
        ("missing.test.", ResponseCode::NXDomain),
    ] {
        assert_eq!(bench.ask(name).await, (code, vec![]), "{name}");
    }
}

#[tokio::test]
async fn a_dead_resolver_means_no_answer_but_a_failure() {
    let bench = bench(ALLOWED, []).await;
    let gone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at: SocketAddr = gone.local_addr().unwrap();
    drop(gone);
    bench.resolver.send_replace(Resolver::with_servers(&[at]).unwrap());
    assert_eq!(bench.ask("api.allowed.test.").await, (ResponseCode::ServFail, vec![]));
}

#[tokio::test]
async fn garbage_is_logged_and_never_goes_out() {
    let bench = bench(ALLOWED, []).await;
    assert_eq!(bench.dns.answer(b"").await, None);
    assert_eq!(bench.dns.answer(&[0xff; 600]).await, None);
    assert!(bench.dns.answer(&[0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0]).await.is_some());
    assert_eq!(bench.refusals()[0], ("protocol".to_owned(), None));
    bench.nothing_went_out();
}
