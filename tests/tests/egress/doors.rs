//! The API of policies, flows and secrets: who may call it, and what it tells.

use courier_tests::http::Request;
use courier_tests::suite::Test;
use courier_tests::tests;
use serde_json::{Value, json};

use crate::brokered::API;
use crate::world::World;

pub(crate) const TESTS: &[Test<World>] = tests![
    only_a_key_opens_policies_flows_and_secrets,
    nothing_that_a_sandbox_holds_opens_policies_flows_and_secrets,
    what_is_not_there_is_told_alike_for_every_id,
    a_changed_token_is_worth_nothing,
    a_secret_that_is_too_large_or_malformed_is_refused,
    the_value_of_a_secret_is_never_told,
    an_error_tells_nothing_of_the_host,
    a_proxy_of_the_sandbox_s_owner_is_no_way_inside,
];

/// Calls of the new endpoints, for a sandbox.
fn calls(id: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let policy = Some(json!({"rules": []}));
    vec![
        ("GET", format!("/v1/sandboxes/{id}/egress"), None),
        ("PUT", format!("/v1/sandboxes/{id}/egress"), policy),
        ("GET", format!("/v1/sandboxes/{id}/egress/flows"), None),
        ("GET", format!("/v1/sandboxes/{id}/egress/proposal"), None),
        (
            "POST",
            format!("/v1/sandboxes/{id}/egress/explain"),
            Some(json!({"host": "allowed.test"})),
        ),
        ("PUT", format!("/sandboxes/{id}/network"), Some(json!({"allowOut": []}))),
        ("GET", "/secrets".to_owned(), None),
        ("POST", "/secrets".to_owned(), Some(json!({"name": "one", "value": "v"}))),
        ("GET", format!("/secrets/{API}"), None),
        ("POST", format!("/secrets/{API}"), Some(json!({"value": "v"}))),
        ("DELETE", format!("/secrets/{API}"), None),
        ("GET", "/v1/secrets".to_owned(), None),
        ("GET", "/v1/tunnels".to_owned(), None),
        ("POST", "/v1/tokens/introspect".to_owned(), Some(json!({"token": "cct_x"}))),
    ]
}

fn status(
    world: &World,
    method: &str,
    target: &str,
    body: Option<&Value>,
    key: &[(&str, &str)],
) -> u16 {
    let request = Request::new(method, target);
    let request = key.iter().fold(request, |request, (name, value)| request.header(name, value));
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    request.send(world.server.address).status
}

fn only_a_key_opens_policies_flows_and_secrets(world: &World) {
    world.store(API, &world.value());
    let sandbox = world.sandbox(&json!({}));
    for (method, target, body) in calls(&sandbox.id) {
        for key in [&[][..], &[("X-API-Key", "e2b_0000000000000000000000000000000000000000")]] {
            let status = status(world, method, &target, body.as_ref(), key);
            assert_eq!(status, 401, "{method} {target}");
        }
    }
    // The control: the key opens one that changes nothing.
    let answer = world.server.call("GET", &format!("/v1/sandboxes/{}/egress", sandbox.id), None);
    answer.assert_status(200);
    sandbox.kill();
}

fn nothing_that_a_sandbox_holds_opens_policies_flows_and_secrets(world: &World) {
    world.store(API, &world.value());
    let sandbox = world.brokered();
    let token = sandbox.sh("printenv TOKEN").out();
    let access = sandbox.token.clone().unwrap_or_default();
    for (method, target, body) in calls(&sandbox.id) {
        for value in [&token, &access] {
            let bearer = format!("Bearer {value}");
            for key in [
                ("X-API-Key", value.as_str()),
                ("Authorization", &bearer),
                ("X-Access-Token", value),
            ] {
                let status = status(world, method, &target, body.as_ref(), &[key]);
                assert_eq!(status, 401, "{method} {target} with {}", key.0);
            }
        }
    }
    sandbox.kill();
}

fn what_is_not_there_is_told_alike_for_every_id(world: &World) {
    let (one, other) = ("i00000000000000000000", "zzzzzzzzzzzzzzzzzzzzz");
    for ((method, target, body), (_method, alike, _body)) in
        calls(one).into_iter().zip(calls(other))
    {
        if target == alike {
            continue;
        }
        let answer = world.server.call(method, &target, body.as_ref());
        assert_eq!(answer.status, 404, "{method} {target}: {}", answer.text());
        let alike = world.server.call(method, &alike, body.as_ref());
        assert_eq!(alike.text().replace(other, one), answer.text(), "{method} {target}");
    }
    // The control: the same calls find a sandbox that is there.
    let sandbox = world.sandbox(&json!({}));
    for (method, target, body) in calls(&sandbox.id) {
        if target.contains(&sandbox.id) {
            let answer = world.server.call(method, &target, body.as_ref());
            assert!(answer.status < 300, "{method} {target}: {}", answer.text());
        }
    }
    sandbox.kill();
    world.server.call("GET", "/secrets/no-such-secret", None).assert_status(404);
}

fn a_changed_token_is_worth_nothing(world: &World) {
    world.store(API, &world.value());
    let sandbox = world.brokered();
    let token = sandbox.sh("printenv TOKEN").out();
    let active = |token: &str| {
        let answer = world.introspect(token);
        answer.status == 200 && answer.json()["active"] == true
    };
    assert!(active(&token), "the control");
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        let byte = changed.get_mut(at).expect("within the token");
        *byte = if *byte == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("still text");
        assert!(changed == token || !active(&changed), "{at}");
    }
    for other in
        ["", "cct_", &token.to_uppercase(), &format!("{token}A"), &token.replace("cct_", "")]
    {
        assert!(!active(other), "{other:?}");
    }
    sandbox.kill();
}

fn a_secret_that_is_too_large_or_malformed_is_refused(world: &World) {
    let create = |body: &Value| world.server.call("POST", "/secrets", Some(body)).status;
    for body in [
        json!({"name": "large", "value": "x".repeat(64 * 1024 + 1)}),
        json!({"name": "huge", "value": "x".repeat(4 << 20)}),
        json!({"name": "", "value": "x"}),
        json!({"name": "a/b", "value": "x"}),
        json!({"name": "../a", "value": "x"}),
        json!({"name": "a\u{0}b", "value": "x"}),
        json!({"name": "x".repeat(300), "value": "x"}),
        json!({"name": "number", "value": 7}),
        json!({"value": "x"}),
    ] {
        let status = create(&body);
        assert!(matches!(status, 400 | 413 | 422), "{status}: {:.80}", body.to_string());
    }
    let name = format!("fits-{}", world.canary());
    let fits = json!({"name": name, "value": "x".repeat(64 * 1024)});
    assert_eq!(create(&fits), 201, "the control");
    assert_eq!(create(&fits), 409);
    world.server.call("DELETE", &format!("/secrets/{name}"), None).assert_status(204);
}

fn the_value_of_a_secret_is_never_told(world: &World) {
    let value = world.value();
    let part = value.split('"').next().expect("a text has a first part").to_owned();
    world.store(API, &value);
    let sandbox = world.brokered();
    world.attempt(&sandbox, "user", "get('https://brokered.test/echo/raw')");
    for (method, target, body) in [
        ("GET", "/secrets".to_owned(), None),
        ("GET", format!("/secrets/{API}"), None),
        ("GET", "/v1/secrets".to_owned(), None),
        ("POST", "/secrets".to_owned(), Some(json!({"name": API, "value": value}))),
        ("GET", format!("/sandboxes/{}", sandbox.id), None),
        ("GET", format!("/v1/sandboxes/{}", sandbox.id), None),
        ("GET", format!("/v1/sandboxes/{}/egress", sandbox.id), None),
        ("GET", format!("/v1/sandboxes/{}/egress/flows?limit=1000", sandbox.id), None),
        (
            "POST",
            format!("/v1/sandboxes/{}/egress/explain", sandbox.id),
            Some(json!({"host": "brokered.test"})),
        ),
    ] {
        let answer = world.server.call(method, &target, body.as_ref());
        assert!(!answer.text().contains(&part), "{method} {target}: {}", answer.text());
    }
    let listed = world.server.call("GET", "/secrets", None).text();
    assert!(listed.contains(API), "the control: its name is told: {listed}");
    sandbox.kill();
}

fn an_error_tells_nothing_of_the_host(world: &World) {
    world.store(API, &world.value());
    let sandbox = world.brokered();
    let data = world.server.data.display().to_string();
    let mut texts = Vec::new();
    for action in [
        "get('https://brokered.test/x')",
        "get('https://denied.test/')",
        "get('https://bound.test/closed')",
        "get('https://expired.brokered.test/')",
        "raw('allowed.test', 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')",
    ] {
        texts.push(world.attempt(&sandbox, "user", action).outcome.to_string());
    }
    for (method, target, _body) in calls("%00") {
        texts.push(world.server.call(method, &target, Some(&json!({"x": [1]}))).text());
    }
    for text in texts {
        for part in [data.as_str(), "/src/", ".rs:", "panicked", "sqlite", "SQLITE"] {
            assert!(!text.contains(part), "{part}: {text}");
        }
    }
    sandbox.kill();
}

fn a_proxy_of_the_sandbox_s_owner_is_no_way_inside(world: &World) {
    for address in ["127.0.0.1:1080", "169.254.169.254:1080", "10.0.0.5:1080", "93.184.217.2:7777"]
    {
        let body = json!({
            "templateID": "base", "timeout": 120, "allow_internet_access": true,
            "network": {"egressProxy": {"address": address}},
        });
        let answer = world.server.call("POST", "/v2/sandboxes", Some(&body));
        if answer.status != 201 {
            assert_eq!(answer.status, 400, "{address}: {}", answer.text());
            continue;
        }
        let sandbox = courier_tests::sandbox::Sandbox::from_answer(&world.server, &answer);
        let place = world.rig.place();
        let _refused = sandbox.sh("curl -sS -m 3 http://denied.test/");
        assert_eq!(world.rig.host_service_calls(&place), 0, "{address}");
        let packets = world.rig.packets(&place);
        let inside = packets.iter().find(|packet| address.starts_with(&packet.to.to_string()));
        assert!(inside.is_none(), "{address}: {inside:?}");
        sandbox.kill();
    }
}
