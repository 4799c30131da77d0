//! Networks over E2B's API, in the shapes that the SDKs send and read.

use courier_server::{Config, EgressDefault};
use serde_json::{Value, json};

use crate::world::{World, config};

async fn made(world: &World, network: Value) -> String {
    world.made(json!({"templateID": "base", "network": network})).await
}

fn sandbox_layer(rules: Value) -> Value {
    json!([{"source": "sandbox", "policy": {"rules": rules}}])
}

#[tokio::test]
async fn nothing_said_reaches_nothing_unless_the_operator_chose_otherwise() {
    let world = World::new().await;
    let id = world.sandbox().await;
    assert_eq!(world.node.layers(&id), json!([{"source": "sandbox", "policy": {}}]));
    let detail = world.get(&format!("/sandboxes/{id}")).await.ok(200).json();
    assert_eq!(detail["allowInternetAccess"], Value::Null);
    assert_eq!(detail.get("network"), None);

    let open = Config { egress_default: EgressDefault::Internet, ..config() };
    let world = World::with(open).await;
    let id = world.sandbox().await;
    assert_eq!(world.node.layers(&id), sandbox_layer(json!([{"allow": "internet"}])));
    let denied = json!({"templateID": "base", "allow_internet_access": false});
    let id = world.made(denied).await;
    assert_eq!(world.node.layers(&id), json!([{"source": "sandbox", "policy": {}}]));
    // Denying something does not deny the rest, where the operator chose E2B's default.
    let id = made(&world, json!({"denyOut": ["9.9.9.9"]})).await;
    let rules = json!([{"deny": "9.9.9.9"}, {"allow": "internet"}]);
    assert_eq!(world.node.layers(&id), sandbox_layer(rules));
}

#[tokio::test]
async fn what_sdks_ask_for_becomes_rules() {
    let world = World::new().await;
    let internet = world.made(json!({"templateID": "base", "allow_internet_access": true})).await;
    assert_eq!(world.node.layers(&internet), sandbox_layer(json!([{"allow": "internet"}])));
    let id =
        made(&world, json!({"allowOut": ["api.example.com", "8.8.8.8"], "denyOut": ["0.0.0.0/0"]}))
            .await;
    let rules = json!([{"allow": "api.example.com"}, {"allow": "8.8.8.8"}, {"deny": "internet"}]);
    assert_eq!(world.node.layers(&id), sandbox_layer(rules));
    // Without 0.0.0.0/0 too: what nobody allows is denied here anyway.
    let id = made(&world, json!({"allowOut": ["api.example.com"]})).await;
    assert_eq!(world.node.layers(&id), sandbox_layer(json!([{"allow": "api.example.com"}])));
}

#[tokio::test]
async fn a_sandbox_shows_its_network_again_but_never_the_password() {
    let world = World::new().await;
    let network = json!({
        "allowOut": ["api.example.com"],
        "denyOut": ["0.0.0.0/0"],
        "egressProxy": {"address": "proxy.example.com:1080", "username": "u",
            "password": "canary-of-the-proxy", "tls": {"enabled": true}},
        "dnsServers": ["9.9.9.9"],
        "maskRequestHost": "${PORT}-app.example.com",
        "httpsPorts": [8443],
        "rules": {"api.example.com": [{"transform": {"headers": {"X-Key": "${e2b.secrets.k}"}}}]},
    });
    let id = made(&world, network.clone()).await;
    let spec = world.node.spec(&id).network;
    let proxy = spec.upstream_proxy.unwrap();
    assert_eq!(proxy.password.as_deref(), Some("canary-of-the-proxy"));
    assert_eq!(spec.dns_servers, [std::net::Ipv4Addr::new(9, 9, 9, 9)]);
    assert_eq!(spec.mask_request_host.as_deref(), Some("${PORT}-app.example.com"));
    assert_eq!(spec.https_ports, [8443]);
    assert_eq!(
        world.node.layers(&id)[0]["policy"]["credentials"],
        json!([{"host": "api.example.com", "as": {"header": {"name": "x-key", "value": "${secrets.k}"}}}])
    );
    let answer = world.get(&format!("/sandboxes/{id}")).await.ok(200);
    let mut shown = network;
    shown["egressProxy"].as_object_mut().unwrap().remove("password");
    assert_eq!(answer.json()["network"], shown);
    for path in [format!("/sandboxes/{id}"), format!("/v1/sandboxes/{id}/egress")] {
        assert!(!world.get(&path).await.ok(200).text.contains("canary"), "{path}");
    }
    assert!(memmem(&world.database(), b"canary-of-the-proxy").is_none());
}

/// Where a needle is in a hay.
pub(crate) fn memmem(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

#[tokio::test]
async fn ports_that_are_not_public_have_a_token_that_create_and_connect_tell() {
    let world = World::new().await;
    let body = json!({"templateID": "base", "network": {"allowPublicTraffic": false}});
    let answer = world.post("/v2/sandboxes", body).await.ok(201).json();
    let (id, token) = (answer["sandboxID"].as_str().unwrap(), &answer["trafficAccessToken"]);
    let spec = world.node.spec(id).network.traffic_token.unwrap();
    assert_eq!(token.as_str().unwrap(), spec.expose());
    let connected = world.post(&format!("/v2/sandboxes/{id}/connect"), json!({})).await.ok(200);
    assert_eq!(connected.json()["trafficAccessToken"], *token);
    let open = world.post("/v2/sandboxes", json!({"templateID": "base"})).await.ok(201).json();
    assert_eq!(open.get("trafficAccessToken"), None);
}

#[tokio::test]
async fn a_replacement_replaces_all_and_clears_what_it_does_not_say() {
    let world = World::new().await;
    let id = made(
        &world,
        json!({
            "allowOut": ["api.example.com"], "allowPublicTraffic": false, "dnsServers": ["9.9.9.9"],
            "egressProxy": {"address": "proxy.example.com:1080"},
        }),
    )
    .await;
    let token = world.node.spec(&id).network.traffic_token;
    let path = format!("/sandboxes/{id}/network");
    world
        .put(&path, json!({"allowOut": ["b.example.com"], "allow_internet_access": false}))
        .await
        .ok(204);
    let spec = world.node.spec(&id).network;
    assert_eq!(world.node.layers(&id), sandbox_layer(json!([{"allow": "b.example.com"}])));
    assert_eq!((spec.upstream_proxy, spec.dns_servers), (None, Vec::new()));
    assert_eq!(spec.traffic_token, token, "what a replacement cannot say stays");
    let detail = world.get(&format!("/sandboxes/{id}")).await.ok(200).json();
    assert_eq!(
        detail["network"],
        json!({"allowPublicTraffic": false, "allowOut": ["b.example.com"]})
    );
    assert_eq!(detail["allowInternetAccess"], false);
    // It holds for a restarted server, too.
    let world = world.crash_and_restart().await;
    assert_eq!(world.get(&format!("/sandboxes/{id}")).await.ok(200).json(), detail);
    world.put(&path, json!({})).await.ok(204);
    assert_eq!(world.node.layers(&id), json!([{"source": "sandbox", "policy": {}}]));
}

#[tokio::test]
async fn a_restarted_server_hands_the_same_network_to_the_node() {
    let world = World::new().await;
    let id = made(&world, json!({"allowOut": ["api.example.com"]})).await;
    let before = world.node.spec(&id);
    let world = world.crash_and_restart().await;
    let adopted = world.node.adopted(&id);
    assert_eq!(adopted.network, before.network);
    assert_eq!((adopted.env, adopted.files), (before.env, before.files));
}

#[tokio::test]
async fn what_the_node_refuses_does_not_stay_written() {
    let world = World::new().await;
    let id = made(&world, json!({"allowOut": ["api.example.com"]})).await;
    let path = format!("/sandboxes/{id}/network");
    world.node.networks_fail(true);
    world.put(&path, json!({"allowOut": ["b.example.com"]})).await.error(500, "log");
    world.node.networks_fail(false);
    let shown = world.get(&format!("/v1/sandboxes/{id}/egress")).await.ok(200).json();
    assert_eq!(shown["layers"], sandbox_layer(json!([{"allow": "api.example.com"}])));
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_made() {
    let world = World::new().await;
    let rules = |name: &str, value: &str| json!({"rules": {"a.test": [{"transform": {"headers": {name: value}}}]}});
    for (network, status, part) in [
        (json!({"allowOut": ["::1"]}), 400, "no IPv6"),
        (json!({"allowOut": ["http://a.test"]}), 400, "allowOut"),
        (json!({"denyOut": ["a.test"]}), 400, "names are not supported"),
        (json!({"dnsServers": ["a.test"]}), 400, "dnsServers"),
        (json!({"httpsPorts": [49983]}), 400, "49983"),
        (json!({"maskRequestHost": "a\r\nX: y"}), 400, "maskRequestHost"),
        (json!({"egressProxy": {"address": "a.test"}}), 400, "egressProxy"),
        (json!({"allowOut": ["127.0.0.1"]}), 400, "127.0.0.1"),
        (rules("Host", "x"), 400, "Host"),
        (rules("X", "${e2b.identity.tokens.aws}"), 501, "not in this version"),
        (rules("X", "${e2b.secrets.preset.pypi}"), 400, "belong to presets"),
    ] {
        let body = json!({"templateID": "base", "network": network});
        world.post("/v2/sandboxes", body).await.error(status, part);
    }
    assert!(world.node.alive().is_empty());
    let id = world.sandbox().await;
    let path = format!("/sandboxes/{id}/network");
    world.put(&path, json!({"allowOut": ["::1"]})).await.error(400, "no IPv6");
    world.put("/sandboxes/i00000000000000000000/network", json!({})).await.error(404, "not found");
}

#[tokio::test]
async fn a_template_bounds_what_is_asked() {
    let world = World::new().await;
    world.bounded(json!({"rules": [{"allow": "*.example.com"}, {"allow": "8.8.8.0/24"}], "tunnels": ["db"]})).await;
    let create = |network: Value| json!({"templateID": "bounded", "network": network});
    let id = world.made(json!({"templateID": "bounded"})).await;
    let template = json!({"source": "template", "policy": {"rules": [
        {"allow": "*.example.com"}, {"allow": "8.8.8.0/24"}], "tunnels": ["db"]}});
    assert_eq!(world.node.layers(&id), json!([template]));

    let id =
        world.made(create(json!({"allowOut": ["a.example.com"], "denyOut": ["0.0.0.0/0"]}))).await;
    let own = json!({"rules": [{"allow": "a.example.com"}, {"deny": "internet"}, {"allow": "internet"}], "tunnels": ["db"]});
    assert_eq!(world.node.layers(&id), json!([template, {"source": "sandbox", "policy": own}]));

    for network in [json!({"allowOut": ["example.org"]}), json!({"allowOut": ["8.8.0.0/16"]})] {
        world.post("/v2/sandboxes", create(network)).await.error(400, "template does not allow");
    }
    let all = json!({"templateID": "bounded", "allow_internet_access": true});
    world.post("/v2/sandboxes", all).await.error(400, "internet");
    // A replacement is bounded like the create.
    let path = format!("/sandboxes/{id}/network");
    world.put(&path, json!({"allowOut": ["example.org"]})).await.error(400, "example.org");
    world.put(&path, json!({"allow_internet_access": true})).await.error(400, "internet");
    assert_eq!(world.node.layers(&id)[1]["policy"], own);
    world.put(&path, json!({})).await.ok(204);
    assert_eq!(world.node.layers(&id), json!([template]));
}

#[tokio::test]
async fn no_proxy_or_resolver_leads_around_a_template() {
    let world = World::new().await;
    let proxy = json!({"allow": "proxy.example.com", "ports": [1080], "protocols": ["tcp"]});
    world.bounded(json!({"rules": [{"allow": "api.example.com"}, proxy]})).await;
    let create = |network: Value| json!({"templateID": "bounded", "network": network});
    let beyond = [
        json!({"egressProxy": {"address": "proxy.example.org:1080"}}),
        json!({"egressProxy": {"address": "proxy.example.com:1081"}}),
        json!({"egressProxy": {"address": "api.example.com:443"}}),
        json!({"egressProxy": {"address": "9.9.9.9:1080"}}),
        json!({"dnsServers": ["9.9.9.9"]}),
    ];
    let within = json!({"egressProxy": {"address": "proxy.example.com:1080"}});
    let id = world.made(create(within.clone())).await;
    for network in beyond {
        let refused = world.post("/v2/sandboxes", create(network.clone())).await;
        refused.error(400, "template does not allow");
        let refused = world.put(&format!("/sandboxes/{id}/network"), network).await;
        refused.error(400, "template does not allow");
    }
    world.put(&format!("/sandboxes/{id}/network"), within).await.ok(204);
    // Where the template allows everything, there is nothing to lead around.
    world.bounded(json!({"rules": [{"allow": "internet"}]})).await;
    world.made(create(json!({"dnsServers": ["9.9.9.9"]}))).await;
}
