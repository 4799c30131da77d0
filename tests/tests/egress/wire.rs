//! The same fence by the E2B wire, through a proxy of the owner's, and while it learns; and what
//! many connections and packets cost others.

use std::time::{Duration, Instant};

use courier_tests::rig::journal::Event;
use courier_tests::sandbox::Sandbox;
use courier_tests::suite::Test;
use courier_tests::{tests, wait};
use serde_json::{Value, json};

use crate::brokered::API;
use crate::probe::Inside;
use crate::world::{PROMPT, World};

pub(crate) const TESTS: &[Test<World>] = tests![
    what_the_e2b_wire_allows_is_all_that_is_reached,
    a_rule_of_the_e2b_wire_adds_a_secret,
    everything_goes_through_the_owner_s_proxy_or_nowhere,
    a_refusal_that_is_learnt_is_a_refusal,
    each_sandbox_has_a_certificate_authority_of_its_own,
    five_hundred_connections_work_at_once_and_more_hurt_nobody,
    a_flood_of_packets_leaves_a_neighbour_its_network,
];

/// A neighbour's request while another floods its own link; a quiet machine needs some 50 ms.
const NEIGHBOUR: Duration = Duration::from_secs(5);
/// Where the proxy of the owner's is.
const PROXY: &str = "93.184.216.30:1080";

fn get(url: &str) -> String {
    format!("get('{url}'+CANARY)")
}

#[track_caller]
fn reaches(world: &World, sandbox: &Sandbox<'_>, url: &str) -> bool {
    let place = world.rig.place();
    let attempt = world.attempt(sandbox, "user", &get(url));
    let reached = attempt.outcome["status"] == 200;
    assert_eq!(reached, world.canary_is_out(&attempt.canary, &place), "{url}: {}", attempt.outcome);
    reached
}

fn what_the_e2b_wire_allows_is_all_that_is_reached(world: &World) {
    let create = |order: Value| {
        let mut body = json!({"templateID": "base", "timeout": 300});
        for (name, value) in order.as_object().expect("an order has fields") {
            body[name] = value.clone();
        }
        world.create_by_e2b(&body)
    };
    let bare = create(json!({}));
    assert!(!reaches(world, &bare, "http://allowed.test/"), "the default is deny");
    bare.kill();
    let named =
        create(json!({"network": {"allowOut": ["allowed.test"], "denyOut": ["0.0.0.0/0"]}}));
    assert!(reaches(world, &named, "http://allowed.test/"));
    assert!(reaches(world, &named, "https://allowed.test/"));
    assert!(!reaches(world, &named, "http://denied.test/"));
    let target = format!("/sandboxes/{}/network", named.id);
    let update = json!({"allowOut": ["denied.test"], "denyOut": ["0.0.0.0/0"]});
    world.server.call("PUT", &target, Some(&update)).assert_status(204);
    assert!(reaches(world, &named, "http://denied.test/"));
    assert!(!reaches(world, &named, "http://allowed.test/"), "a replacement replaces");
    world.server.call("PUT", &target, Some(&json!({}))).assert_status(204);
    assert!(!reaches(world, &named, "http://denied.test/"), "what is left out is cleared");
    named.kill();
    let open = create(json!({"allow_internet_access": true}));
    assert!(reaches(world, &open, "http://denied.test/"));
    assert!(!reaches(world, &open, "http://10.0.0.5/"));
    open.kill();
    let shut = create(json!({
        "allow_internet_access": false, "network": {"allowOut": ["93.184.216.20"]},
    }));
    assert!(reaches(world, &shut, "http://93.184.216.20/"), "an allow beats a deny");
    assert!(!reaches(world, &shut, "http://93.184.216.21/"));
    shut.kill();
}

fn a_rule_of_the_e2b_wire_adds_a_secret(world: &World) {
    let value = world.value();
    world.store(API, &value);
    let transform = json!({"headers": {"X-Key": format!("k ${{e2b.secrets.{API}}}")}});
    let sandbox = world.create_by_e2b(&json!({
        "templateID": "base",
        "timeout": 300,
        "network": {
            "allowOut": ["brokered.test"],
            "denyOut": ["0.0.0.0/0"],
            "rules": {"brokered.test": [{"transform": transform}]},
        },
    }));
    let place = world.rig.place();
    let attempt = world.attempt(&sandbox, "user", &get("https://brokered.test/echo/raw?"));
    let sent = world.requests_for(&place, "brokered.test");
    let given: Vec<_> = sent.iter().map(|request| request.header("x-key")).collect();
    assert_eq!(given, [Some(format!("k {value}").as_str())], "{}", attempt.outcome);
    assert!(!attempt.outcome.to_string().contains(value.split('"').next().unwrap_or_default()));
    sandbox.kill();
}

fn everything_goes_through_the_owner_s_proxy_or_nowhere(world: &World) {
    let (user, password) = &world.rig.world.credentials;
    let through = |address: &str, password: &str| {
        world.create_by_e2b(&json!({
            "templateID": "base",
            "timeout": 300,
            "allow_internet_access": true,
            "network": {"egressProxy": {
                "address": address, "username": user, "password": password,
            }},
        }))
    };
    let place = world.rig.place();
    let sandbox = through(PROXY, password);
    for url in ["http://allowed.test/", "https://allowed.test/"] {
        assert!(reaches(world, &sandbox, url), "{url}");
    }
    let asked: Vec<String> = world
        .rig
        .events(&place)
        .into_iter()
        .filter_map(|event| match event {
            Event::Socks { user, target, .. } => Some(format!("{user} {target}")),
            _other => None,
        })
        .collect();
    let expected = [80, 443].map(|port| format!("{user} 93.184.216.10:{port}"));
    assert_eq!(asked, expected, "the proxy is told the address that was decided");
    let address: std::net::IpAddr = "93.184.216.10".parse().expect("an address");
    let direct = world.rig.packets(&place).into_iter().find(|packet| packet.to == address);
    assert!(direct.is_none(), "{direct:?}");
    for url in ["http://10.0.0.5/", "http://169.254.169.254/"] {
        let place = world.rig.place();
        world.attempt(&sandbox, "user", &get(url));
        let asked = world.told(&place);
        assert!(!asked.contains("\"socks\""), "{url}: {asked}");
    }
    let info = world.server.call("GET", &format!("/sandboxes/{}", sandbox.id), None).text();
    assert!(!info.contains(password), "{info}");
    sandbox.kill();
    // A wrong password, and nobody there: no other way is taken.
    for (address, password) in [(PROXY, "wrong"), ("93.184.216.30:1081", password.as_str())] {
        let sandbox = through(address, password);
        let place = world.rig.place();
        assert!(!reaches(world, &sandbox, "http://allowed.test/"), "{address}");
        let to: std::net::IpAddr = "93.184.216.10".parse().expect("an address");
        let direct = world.rig.packets(&place).into_iter().find(|packet| packet.to == to);
        assert!(direct.is_none(), "{direct:?}");
        sandbox.kill();
    }
}

fn a_refusal_that_is_learnt_is_a_refusal(world: &World) {
    let policy = json!({"rules": [{"allow": "allowed.test"}], "learn": true});
    let sandbox = world.sandbox(&policy);
    for action in [
        "get('https://denied.test/'+CANARY)",
        "get('http://other.denied.test/some/path/'+CANARY)",
        "raw('third.denied.test', CANARY, 9000)",
        "dial('93.184.216.20', 80)",
    ] {
        let place = world.rig.place();
        let attempt = world.attempt(&sandbox, "user", action);
        assert!(!world.canary_is_out(&attempt.canary, &place), "{action}: {}", attempt.outcome);
        let packets = world.rig.packets(&place);
        assert!(packets.is_empty(), "{action}: {packets:?}");
    }
    let target = format!("/v1/sandboxes/{}/egress/proposal", sandbox.id);
    wait::until("what was refused is proposed", PROMPT, || {
        let proposal = world.server.call("GET", &target, None);
        let text = proposal.assert_status(200).text();
        let all = ["denied.test", "other.denied.test", "third.denied.test"];
        if all.iter().all(|name| text.contains(&format!("\"{name}\""))) {
            Ok(())
        } else {
            Err(text)
        }
    });
    assert!(reaches(world, &sandbox, "https://allowed.test/"), "the control");
    sandbox.kill();
}

fn each_sandbox_has_a_certificate_authority_of_its_own(world: &World) {
    // Of the certificate that the opened host shows: who signed it.
    let issuer = "{'reached': True, 'got': base64.b64encode(secured('bound.test').getpeercert(True)\
        ).decode(), 'issuer': str(secured('bound.test').getpeercert()['issuer'])}";
    let (one, other) = (world.inside(Inside::Fenced), world.sandbox(&crate::world::policy()));
    let issuers = [&one, &other]
        .map(|sandbox| world.attempt(sandbox, "user", issuer).outcome["issuer"].clone());
    let [one, issuer] = issuers;
    assert!(one.is_string(), "{one}");
    assert_ne!(one, issuer);
    other.kill();
}

fn five_hundred_connections_work_at_once_and_more_hurt_nobody(world: &World) {
    let sandbox = world.sandbox(&crate::world::policy());
    let attempt = world.attempt(&sandbox, "user", "crowd('tcp.test', 9000, 500)");
    assert_eq!(attempt.outcome["answered"], 500, "{}", attempt.outcome);
    let crowd = world.attempt(&sandbox, "user", "crowd('tcp.test', 9000, 3000)");
    assert!(crowd.outcome["answered"].as_u64() >= Some(500), "{}", crowd.outcome);
    let neighbour = world.inside(Inside::Fenced);
    assert!(reaches(world, &neighbour, "http://allowed.test/"));
    // What they took is given back.
    wait::until("the crowd's own sandbox works again", PROMPT * 2, || {
        let attempt = world.attempt(&sandbox, "user", &get("http://allowed.test/"));
        if attempt.outcome["status"] == 200 { Ok(()) } else { Err(attempt.outcome.to_string()) }
    });
    sandbox.kill();
}

fn a_flood_of_packets_leaves_a_neighbour_its_network(world: &World) {
    let flooding = world.sandbox(&crate::world::policy());
    let neighbour = world.inside(Inside::Fenced);
    let place = world.rig.place();
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| world.attempt(&flooding, "user", "flood('93.184.216.20', 4.0)"));
        let mut beats = 0;
        while !flood.is_finished() {
            let started = Instant::now();
            assert!(reaches(world, &neighbour, "https://allowed.test/"));
            let took = started.elapsed();
            assert!(took < NEIGHBOUR, "the neighbour's request took {took:?}");
            beats += 1;
        }
        assert!(beats > 2, "{beats}");
        flood.join().expect("an attempt does not panic")
    });
    assert!(flood.outcome["sent"].as_u64() > Some(1000), "the control: {}", flood.outcome);
    let address: std::net::IpAddr = "93.184.216.20".parse().expect("an address");
    assert!(!world.rig.packets(&place).iter().any(|packet| packet.to == address));
    flooding.kill();
}
