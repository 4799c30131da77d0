//! What changes: policies, servers that are killed, neighbours that come and go.

use std::time::{Duration, Instant};

use courier_tests::rig::journal::Event;
use courier_tests::sandbox::Sandbox;
use courier_tests::suite::Test;
use courier_tests::{tests, wait};
use serde_json::{Value, json};

use crate::world::{PROMPT, World};

pub(crate) const TESTS: &[Test<World>] = tests![
    a_sandbox_without_a_policy_reaches_nothing,
    a_policy_that_is_too_broad_or_not_understood_is_refused,
    names_below_a_wildcard_carry_only_few_bytes_out,
    a_neighbour_is_neither_seen_nor_of_use,
    a_tightened_policy_closes_open_connections_at_once,
    a_widened_policy_counts_at_once,
    a_killed_server_leaves_no_gap,
];

/// From the answer of a call that tightens a policy to the last byte of an open connection: the
/// second that is promised, and what a busy machine needs to tell the test of it.
const CLOSED: Duration = Duration::from_millis(1_500);
/// Bytes of names that one minute's budget below a wildcard lets out, and the burst before it.
const BUDGET: usize = 2 * 2048 + 512;

/// What every way out of these tests tries.
const TRIES: &[&str] = &[
    "dns(CANARY+'.denied.test')",
    "dns('allowed.test')",
    "dial('93.184.216.10', 80)",
    "hello(CANARY+'.denied.test', address='93.184.216.10')",
    "udp('93.184.216.10', 443)",
];

#[track_caller]
fn assert_nothing_gets_out(world: &World, sandbox: &Sandbox<'_>) {
    for action in TRIES {
        let place = world.rig.place();
        let attempt = world.attempt(sandbox, "user", action);
        assert_eq!(attempt.outcome["reached"], false, "{action}: {}", attempt.outcome);
        let packets = world.rig.packets(&place);
        assert!(packets.is_empty(), "{action}: {packets:?}");
    }
}

fn a_sandbox_without_a_policy_reaches_nothing(world: &World) {
    for action in TRIES {
        let place = world.rig.place();
        world.outside(action);
        assert!(!world.rig.packets(&place).is_empty(), "the control sends packets: {action}");
    }
    for body in [
        json!({"template": "base", "timeout_ms": 120_000}),
        json!({"template": "base", "timeout_ms": 120_000, "egress": {}}),
        json!({"template": "base", "timeout_ms": 120_000, "egress": {"rules": []}}),
    ] {
        let sandbox = world.create_from(&body);
        assert_nothing_gets_out(world, &sandbox);
        sandbox.kill();
    }
}

fn a_policy_that_is_too_broad_or_not_understood_is_refused(world: &World) {
    let sandbox = world.sandbox(&json!({"rules": [{"allow": "allowed.test"}]}));
    let target = format!("/v1/sandboxes/{}/egress", sandbox.id);
    let put = |policy: &Value| world.server.call("PUT", &target, Some(policy));
    let control = put(&json!({"rules": [{"allow": "*.allowed.test", "ports": [443]}]}));
    assert!(matches!(control.status, 200 | 204), "the control: {}", control.text());
    for policy in [
        json!({"rules": [{"allow": "*"}]}),
        json!({"rules": [{"allow": "*.com"}]}),
        json!({"rules": [{"allow": "*."}]}),
        json!({"rules": [{"allow": ""}]}),
        json!({"rules": [{"allow": "a b.test"}]}),
        json!({"rules": [{"allow": "allowed.test/path"}]}),
        json!({"rules": [{"allow": "https://allowed.test"}]}),
        json!({"rules": [{"allow": "allowed.test:443"}]}),
        json!({"rules": [{"allow": "user@allowed.test"}]}),
        json!({"rules": [{"allow": "al*wed.test"}]}),
        json!({"rules": [{"allow": "0x7f.1"}]}),
        json!({"rules": [{"allow": "2852039166"}]}),
        json!({"rules": [{"allow": "169.254.169.254"}]}),
        json!({"rules": [{"allow": "127.0.0.1"}]}),
        json!({"rules": [{"allow": "10.0.0.1/8"}]}),
        json!({"rules": [{"allow": "::1"}]}),
        json!({"rules": [{"allow": "allowed.test", "port": [80]}]}),
        json!({"rules": [{"allow": "allowed.test", "ports": [0]}]}),
        json!({"rules": [{"allow": "allowed.test", "ports": [70_000]}]}),
        json!({"rules": [{"allow": "allowed.test", "protocols": ["quic"]}]}),
        json!({"rules": [{"allow": "allowed.test", "deny": "denied.test"}]}),
        json!({"rules": [{"allow": "allowed.test", "paths": ["open/*"]}]}),
        json!({"rules": [{"allow": "allowed.test", "paths": ["/open/../closed"]}]}),
        json!({"rules": [{}]}),
        json!([]),
        json!([[{"allow": "internet"}]]),
        json!({"rules": [["internet"]]}),
        json!({"rule": []}),
        json!({"presets": ["no-such-preset"]}),
        json!({"tunnels": ["no-such-tunnel"]}),
    ] {
        let answer = put(&policy);
        assert_eq!(answer.status, 400, "{policy}: {}", answer.text());
        let body = json!({"template": "base", "timeout_ms": 60_000, "egress": policy});
        let answer = world.server.call("POST", "/v1/sandboxes", Some(&body));
        assert_eq!(answer.status, 400, "{policy}: {}", answer.text());
    }
    sandbox.kill();
}

fn names_below_a_wildcard_carry_only_few_bytes_out(world: &World) {
    // Names that got out after a place, in bytes.
    let carried = |place, canary: &str| -> usize {
        let asked = world.rig.events(place).into_iter().filter_map(|event| match event {
            Event::Question { name, .. } if name.to_lowercase().contains(canary) => Some(name),
            _other => None,
        });
        let names: std::collections::BTreeSet<String> = asked.collect();
        names.iter().map(|name| name.trim_end_matches(".wide.test.").len()).sum()
    };
    let place = world.rig.place();
    let control = world.outside("questions('wide.test', 150)");
    assert!(carried(&place, &control.canary) > BUDGET, "the control carries more");
    let sandbox = world.sandbox(&json!({"rules": [{"allow": "*.wide.test"}]}));
    let place = world.rig.place();
    let attempt = world.attempt(&sandbox, "user", "questions('wide.test', 150)");
    let out = carried(&place, &attempt.canary);
    assert!(out <= BUDGET, "{out} bytes got out; {}", attempt.outcome);
    world.assert_refused(&sandbox, 0, "budget", &attempt.outcome);
    sandbox.kill();
}

fn a_neighbour_is_neither_seen_nor_of_use(world: &World) {
    let one = world.sandbox(&json!({"rules": [{"allow": "allowed.test"}]}));
    let other =
        world.sandbox(&json!({"rules": [{"allow": "*.wide.test"}, {"allow": "192.0.0.0/24"}]}));
    let serve = "nohup python3 -m http.server 8000 >/dev/null 2>&1 &";
    one.sh(serve).assert_ok();
    let own = "each(*[dial(f'192.0.0.{n}', 8000) for n in range(2, 8)])";
    wait::until("the control reaches its own server", PROMPT, || {
        let attempt = world.attempt(&one, "user", "dial('192.0.0.2', 8000)");
        if attempt.outcome["reached"] == true { Ok(()) } else { Err(attempt.outcome.to_string()) }
    });
    let attempt = world.attempt(&other, "user", own);
    assert_eq!(attempt.outcome["reached"], false, "{}", attempt.outcome);
    // What one has resolved is no answer for the other, and its address no pin.
    let resolved = world.attempt(&one, "user", "get('http://allowed.test/')");
    assert_eq!(resolved.outcome["reached"], true, "{}", resolved.outcome);
    for action in ["dns('allowed.test')", "dial('93.184.216.10', 80)"] {
        let attempt = world.attempt(&other, "user", action);
        assert_eq!(attempt.outcome["reached"], false, "{action}: {}", attempt.outcome);
    }
    one.kill();
    other.kill();
}

/// Connections that stay busy, and the part of the policy that allows each.
const CONNECTIONS: &[(&str, &str)] = &[
    ("tcp", "beats('tcp.test', 9000)"),
    (
        "http",
        "beats('allowed.test', 80, request='GET /a HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n')",
    ),
    (
        "https",
        "beats('allowed.test', 443, True, \
         request='GET /a HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n')",
    ),
    (
        "opened https",
        "beats('bound.test', 443, True, \
         request='GET /open/a HTTP/1.1\\r\\nHost: bound.test\\r\\n\\r\\n')",
    ),
];

fn a_tightened_policy_closes_open_connections_at_once(world: &World) {
    let sandbox = world.sandbox(&crate::world::policy());
    let ended = std::thread::scope(|scope| {
        let beating = CONNECTIONS.iter().map(|(kind, action)| {
            let sandbox = &sandbox;
            let running = scope.spawn(move || {
                let attempt = world.attempt(sandbox, "user", action);
                (Instant::now(), attempt.outcome)
            });
            (kind, running)
        });
        let beating: Vec<_> = beating.collect();
        wait::until("every connection is busy", PROMPT * 2, || {
            let commands = sandbox.sh("pgrep -fc '^python3 /tmp/egress.py beats'").out();
            // The control: they go on while nothing changes.
            if commands == CONNECTIONS.len().to_string() { Ok(()) } else { Err(commands) }
        });
        wait::pause(Duration::from_secs(1));
        for (kind, running) in &beating {
            assert!(!running.is_finished(), "the control: {kind} stays open");
        }
        let target = format!("/v1/sandboxes/{}/egress", sandbox.id);
        let answer = world.server.call("PUT", &target, Some(&json!({"rules": []})));
        assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
        let tightened = Instant::now();
        let place = world.rig.place();
        let ended: Vec<_> = beating
            .into_iter()
            .map(|(kind, running)| (*kind, running.join().expect("an attempt does not panic")))
            .collect();
        (tightened, place, ended)
    });
    let (tightened, place, ended) = ended;
    for (kind, (at, outcome)) in ended {
        assert!(outcome["beats"].as_u64().is_some_and(|beats| beats > 3), "{kind}: {outcome}");
        assert_eq!(outcome["ended"], true, "{kind}: {outcome}");
        let took = at.saturating_duration_since(tightened);
        assert!(took < CLOSED, "{kind}: closed after {took:?}: {outcome}");
    }
    assert_nothing_gets_out(world, &sandbox);
    let later = world.rig.requests(&place);
    assert!(later.len() < 4, "requests after the policy was tightened: {later:?}");
    sandbox.kill();
}

fn a_widened_policy_counts_at_once(world: &World) {
    let sandbox = world.sandbox(&json!({}));
    let get = "get('https://allowed.test/')";
    assert_eq!(world.attempt(&sandbox, "user", get).outcome["reached"], false);
    let target = format!("/v1/sandboxes/{}/egress", sandbox.id);
    let policy = json!({"rules": [{"allow": "allowed.test"}]});
    let answer = world.server.call("PUT", &target, Some(&policy));
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    let attempt = world.attempt(&sandbox, "user", get);
    assert_eq!(attempt.outcome["reached"], true, "{}", attempt.outcome);
    sandbox.kill();
}

/// Tries both, over and over, until told to stop.
const LOOP: &str = "nohup sh -c 'while [ ! -e /tmp/stop ]; do \
    curl -s -m 2 http://allowed.test/CANARY-allowed >/dev/null; \
    curl -s -m 2 http://93.184.216.20/CANARY-denied >/dev/null; \
    curl -s -m 2 http://CANARY.denied.test/ >/dev/null; done' >/dev/null 2>&1 &";

fn a_killed_server_leaves_no_gap(world: &World) {
    let sandbox = world.sandbox(&crate::world::policy());
    let canary = world.canary();
    let control = world.outside(&format!("run('curl -sS -m 2 http://93.184.216.20/{canary}')"));
    assert_eq!(control.outcome["reached"], true, "the control: {}", control.outcome);
    let allowed = format!("/{canary}-allowed");
    let works = |place| {
        wait::until("the sandbox reaches what it may", PROMPT * 2, || {
            let requests = world.rig.requests(place);
            let found = requests.iter().any(|request| request.path == allowed);
            if found { Ok(()) } else { Err(format!("{requests:?}")) }
        });
    };
    let before = world.rig.place();
    sandbox.sh(&LOOP.replace("CANARY", &canary)).assert_ok();
    works(&before);
    world.server.kill_9();
    let dead = world.rig.place();
    wait::pause(Duration::from_secs(2));
    assert!(world.rig.packets(&dead).is_empty(), "{:?}", world.rig.packets(&dead));
    let restarted = world.rig.place();
    world.server.restart();
    works(&restarted);
    sandbox.sh("touch /tmp/stop").assert_ok();
    let denied = format!("{canary}-denied");
    assert!(!world.told(&before).contains(&denied), "{}", world.told(&before));
    assert!(!world.told(&before).contains(&format!("{canary}.denied")));
    let address: std::net::IpAddr = "93.184.216.20".parse().expect("an address");
    assert!(!world.rig.packets(&before).iter().any(|packet| packet.to == address));
    sandbox.kill();
}
