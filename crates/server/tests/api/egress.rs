//! Egress over our own API.

use courier_types::Timestamp;
use courier_types::egress::{Flow, FlowEvent, FlowRefusal, Transport};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::world::World;

async fn made(world: &World, body: Value) -> String {
    let answer = world.post("/v1/sandboxes", body).await.ok(201).json();
    answer["id"].as_str().unwrap().to_owned()
}

fn refused(seq: u64, host: &str) -> Flow {
    let event = FlowEvent::Refused {
        transport: Transport::Dns,
        host: Some(host.parse().unwrap()),
        address: None,
        protocol: None,
        method: None,
        path: None,
        refusal: FlowRefusal::new("policy", "no rule matches"),
        count: 1,
    };
    Flow { seq, at: Timestamp::from_micros(1), event }
}

#[tokio::test]
async fn a_policy_is_put_in_force_and_shown_as_it_is() {
    let world = World::new().await;
    let policy = json!({
        "rules": [{"allow": "api.example.com", "methods": ["GET"], "paths": ["/v1/*"]}],
        "credentials": [{"host": "api.example.com", "secret": "a", "as": {"bearer": {}}}],
        "tunnels": ["db"],
        "learn": true,
    });
    let id = made(&world, json!({"egress": policy})).await;
    let layers = json!([{"source": "sandbox", "policy": policy}]);
    assert_eq!(world.node.layers(&id), layers);
    let path = format!("/v1/sandboxes/{id}/egress");
    assert_eq!(world.get(&path).await.ok(200).json(), json!({"layers": layers}));
    let next = json!({"rules": [{"allow": "b.example.com"}]});
    let shown = world.put(&path, next.clone()).await.ok(200).json();
    assert_eq!(shown["layers"], json!([{"source": "sandbox", "policy": next}]));
    assert_eq!(world.node.layers(&id), shown["layers"]);
    let world = world.crash_and_restart().await;
    assert_eq!(world.get(&path).await.ok(200).json(), shown);
    world.call("DELETE", &format!("/v1/sandboxes/{id}"), None).await.ok(200);
    world.get(&path).await.error(404, "ended");
    world.put(&path, json!({})).await.error(404, "ended");
}

#[tokio::test]
async fn an_execution_has_the_policy_that_it_asks_for_and_none_otherwise() {
    let world = World::new().await;
    let program = |egress: Value| json!({"code": "1", "language": "sh", "egress": egress});
    world.post("/v1/executions", program(json!({"rules": [{"allow": "a.test"}]}))).await.ok(200);
    let seen = world.node.last_created().network.egress;
    let rules = json!([{"source": "sandbox", "policy": {"rules": [{"allow": "a.test"}]}}]);
    assert_eq!(serde_json::to_value(seen).unwrap(), rules);
    world.post("/v1/executions", program(json!(null))).await.ok(200);
    let seen = world.node.last_created().network.egress;
    assert_eq!(serde_json::to_value(seen).unwrap(), json!([{"source": "sandbox", "policy": {}}]));
    world.post("/v1/executions", program(json!({"rule": []}))).await.error(400, "`rule`");
}

#[tokio::test]
async fn a_policy_that_is_not_understood_is_refused_by_the_name_of_the_field() {
    let world = World::new().await;
    let id = world.sandbox().await;
    for (policy, part) in [
        (json!({"rule": []}), "`rule`"),
        (json!({"rules": [{"allow": "a.test", "port": 1}]}), "`port`"),
        (json!({"rules": [{"allow": "*"}]}), "internet"),
        (json!({"rules": [{"allow": "::1"}]}), "IPv6"),
        (json!({"rules": [{"allow": "169.254.169.254"}]}), "169.254.169.254"),
        (json!({"presets": ["nix"]}), "there is no preset nix; there are: pypi"),
        (json!({"tunnels": ["none"]}), "there is no tunnel none; there are: db"),
        (json!({"credentials": [{"host": "a.test", "as": {"bearer": {}}}]}), "secret"),
    ] {
        world.post("/v1/sandboxes", json!({"egress": policy})).await.error(400, part);
        world.put(&format!("/v1/sandboxes/{id}/egress"), policy).await.error(400, part);
    }
    assert_eq!(world.node.alive().len(), 1);
}

#[tokio::test]
async fn a_create_narrows_its_template_and_never_widens_it() {
    let world = World::new().await;
    let bound = json!({"rules": [{"deny": "evil.example.com"}, {"allow": "*.example.com"}], "presets": ["pypi"]});
    world.bounded(bound).await;
    let body = |egress: Value| json!({"template": "bounded", "egress": egress});
    for (policy, part) in [
        (json!({"rules": [{"allow": "example.org"}]}), "example.org"),
        (json!({"rules": [{"allow": "*.example.com"}]}), "*.example.com"),
        (
            json!({"rules": [{"allow": "a.example.com", "ports": [8443], "protocols": ["https"]}]}),
            "8443",
        ),
        (json!({"rules": [{"allow": "internet"}]}), "internet"),
        (json!({"tunnels": ["db"]}), "db"),
    ] {
        let answer = world.post("/v1/sandboxes", body(policy)).await;
        answer.error(400, "template does not allow").error(400, part);
    }
    assert!(world.node.alive().is_empty());
    for policy in
        [json!({}), json!({"rules": [{"allow": "a.example.com"}]}), json!({"presets": ["pypi"]})]
    {
        let id = made(&world, body(policy)).await;
        assert_eq!(world.node.layers(&id)[0]["source"], "template");
        let layers = world.node.layers(&id);
        // A policy of one's own takes the place of the sandbox's layer, and of nothing else.
        let path = format!("/v1/sandboxes/{id}/egress");
        world.put(&path, json!({"rules": [{"allow": "internet"}]})).await.error(400, "internet");
        world.put(&path, json!({"rules": [{"allow": "b.example.com"}]})).await.ok(200);
        assert_eq!(world.node.layers(&id)[0], layers[0]);
        assert_eq!(
            world.node.layers(&id)[1]["policy"]["rules"],
            json!([{"allow": "b.example.com"}])
        );
        world.call("DELETE", &format!("/v1/sandboxes/{id}"), None).await.ok(200);
    }
}

#[tokio::test]
async fn a_preset_brings_rules_credentials_environment_and_files() {
    let world = World::new().await;
    let policy = json!({"rules": [{"allow": "a.test"}], "presets": ["pypi"]});
    let id = made(&world, json!({"egress": policy, "env": {"A": "1"}})).await;
    let spec = world.node.spec(&id);
    assert_eq!(spec.env["PIP_INDEX_URL"], "https://mirror.test/simple");
    assert_eq!(spec.env["A"], "1");
    assert_eq!(spec.files[0].path, "/etc/pip.conf");
    assert_eq!(
        world.node.layers(&id)[0]["policy"],
        json!({
            "rules": [{"allow": "a.test"}, {"allow": "mirror.test"}],
            "credentials": [{"host": "mirror.test", "secret": "preset.pypi", "as": {"basic": {"username": "ci"}}}],
        })
    );
    // What the sandbox itself says comes first.
    let own = json!({"egress": {"presets": ["pypi"]}, "env": {"PIP_INDEX_URL": "mine"}});
    let id = made(&world, own).await;
    assert_eq!(world.node.spec(&id).env["PIP_INDEX_URL"], "mine");
    // A template's preset is there without a word in the create.
    world.bounded(json!({"presets": ["pypi"]})).await;
    let id = made(&world, json!({"template": "bounded"})).await;
    assert_eq!(world.node.spec(&id).files[0].path, "/etc/pip.conf");
}

#[tokio::test]
async fn a_template_whose_policy_cannot_be_put_in_force_makes_no_sandbox() {
    let world = World::new().await;
    world.bounded(json!({"presets": ["nix"]})).await;
    world.post("/v1/sandboxes", json!({"template": "bounded"})).await.error(500, "log");
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn tunnels_are_listed_with_where_they_are() {
    let world = World::new().await;
    let list = world.get("/v1/tunnels").await.ok(200).json();
    let tunnel = json!({"name": "db", "host": "db.tunnel.internal", "port": 5432,
        "kind": "node", "connected": true});
    assert_eq!(list, json!({"tunnels": [tunnel]}));
}

#[tokio::test]
async fn flows_come_as_pages_and_as_a_stream_that_says_what_it_missed_and_when_it_ends() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.node.flow((3..=5).map(|seq| refused(seq, "a.test")).collect());
    let path = format!("/v1/sandboxes/{id}/egress/flows");
    let page = world.get(&format!("{path}?limit=2")).await.ok(200).json();
    assert_eq!(page["missed"], 2);
    let numbers: Vec<&Value> =
        page["flows"].as_array().unwrap().iter().map(|f| &f["seq"]).collect();
    assert_eq!(numbers, [3, 4]);
    let page = world.get(&format!("{path}?after=4")).await.ok(200).json();
    assert_eq!((&page["missed"], &page["flows"][0]["seq"]), (&json!(0), &json!(5)));
    for query in ["limit=0", "limit=1001", "after=x", "of=1"] {
        world.get(&format!("{path}?{query}")).await.ok(400);
    }

    let request = world.request("GET", &format!("{path}?follow=true&limit=2"), None);
    let response = world.begin(request).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut body = response.into_body();
    let mut lines = Vec::new();
    while lines.len() < 5 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    let shape = |line: &Value| (line["event"].as_str().unwrap().to_owned(), line["seq"].as_u64());
    let refused = |seq| ("refused".to_owned(), Some(seq));
    let shapes: Vec<_> = lines.iter().take(4).map(shape).collect();
    assert_eq!(shapes, [("missed".to_owned(), None), refused(3), refused(4), refused(5)]);
    assert_eq!((&lines[0]["count"], &lines[4]), (&json!(2), &json!({"event": "alive"})));
    world.node.lose(&id);
    let rest = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(rest.lines().last(), Some(r#"{"event":"ended"}"#));
}

#[tokio::test]
async fn explanations_come_from_the_node() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let path = format!("/v1/sandboxes/{id}/egress/explain");
    let answer = world.post(&path, json!({"host": "a.test"})).await.ok(200).json();
    assert_eq!(
        (&answer["allowed"], &answer["steps"][0]["asked"]),
        (&json!(false), &json!("a.test"))
    );
    world.post(&path, json!({"host": "no name"})).await.error(400, "it is no name");
    world.post(&path, json!({"host": "a.test", "hosts": []})).await.error(400, "`hosts`");
}

#[tokio::test]
async fn what_was_refused_is_proposed_on_top_of_what_is_allowed() {
    let world = World::new().await;
    let id = made(&world, json!({"egress": {"rules": [{"allow": "a.test"}], "learn": true}})).await;
    world.node.flow(vec![refused(2, "b.test"), refused(3, "b.test")]);
    let path = format!("/v1/sandboxes/{id}/egress/proposal");
    let proposal = world.get(&path).await.ok(200).json();
    assert_eq!(proposal["missed"], 1);
    let rules = proposal["policy"]["rules"].to_string();
    assert!(rules.contains("a.test") && rules.contains("b.test"), "{rules}");
}

#[tokio::test]
async fn another_project_reaches_none_of_it() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let foreign = world.of_another_project().await;
    for (method, path, body) in [
        ("GET", "egress", None),
        ("PUT", "egress", Some(json!({"rules": [{"allow": "internet"}]}))),
        ("GET", "egress/flows", None),
        ("GET", "egress/flows?follow=true", None),
        ("POST", "egress/explain", Some(json!({"host": "a.test"}))),
        ("GET", "egress/proposal", None),
    ] {
        let path = format!("/v1/sandboxes/{id}/{path}");
        foreign.call(method, &path, body.as_ref()).await.error(404, "not found");
    }
    let path = format!("/sandboxes/{id}/network");
    foreign.put(&path, json!({"allow_internet_access": true})).await.error(404, "not found");
    assert_eq!(foreign.node.layers(&id), json!([{"source": "sandbox", "policy": {}}]));
}
