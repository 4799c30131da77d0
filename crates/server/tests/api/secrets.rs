//! Secrets: stored encrypted, never given back, and given to the node at each use only.

use courier_protocol::node::{Secrets as _, SecretsError};
use courier_server::{Vault, VaultError};
use courier_types::SandboxId;
use serde_json::{Value, json};

use crate::fake_parts::MIRROR_PASSWORD;
use crate::network::memmem;
use crate::world::World;

const CANARY: &str = "canary-4711-of-the-secret";

async fn value(world: &World, sandbox: &str, name: &str) -> Result<String, SecretsError> {
    let sandbox: SandboxId = sandbox.parse().unwrap();
    let value = world.secrets().await.secret(&sandbox, &name.parse().unwrap()).await?;
    Ok(String::from_utf8(value.expose().to_vec()).unwrap())
}

/// A sandbox whose policy refers to that secret.
async fn user_of(world: &World, name: &str) -> String {
    let policy = json!({"credentials": [{"host": "a.test", "secret": name, "as": {"bearer": {}}}]});
    let answer = world.post("/v1/sandboxes", json!({"egress": policy})).await.ok(201).json();
    answer["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_python_and_javascript_clients_shapes_are_spoken() {
    let world = World::new().await;
    let body = json!({"name": "OpenAI", "value": CANARY, "metadata": {"team": "a"}});
    let made = world.post("/secrets", body.clone()).await.ok(201);
    let secret = made.json();
    assert_eq!(secret["name"], "openai");
    assert_eq!(secret["currentVersion"], 1);
    assert_eq!(secret["metadata"], json!({"team": "a"}));
    assert_eq!(secret["createdAt"], secret["updatedAt"]);
    let id = secret["secretID"].as_str().unwrap();
    assert!(id.starts_with("sec_"));
    world.post("/secrets", body).await.error(409, "openai");

    for key in [id, "openai", "OPENAI"] {
        assert_eq!(world.get(&format!("/secrets/{key}")).await.ok(200).json(), secret);
    }
    let updated =
        world.post(&format!("/secrets/{id}"), json!({"value": "two"})).await.ok(200).json();
    assert_eq!(
        (&updated["currentVersion"], &updated["metadata"]),
        (&json!(2), &json!({"team": "a"}))
    );
    let body = json!({"value": "three", "metadata": {}});
    let updated = world.post("/secrets/openai", body).await.ok(200).json();
    assert_eq!((&updated["currentVersion"], &updated["metadata"]), (&json!(3), &json!({})));

    world.call("DELETE", "/secrets/openai", None).await.ok(204);
    world.call("DELETE", "/secrets/openai", None).await.error(404, "not found");
    world.get(&format!("/secrets/{id}")).await.error(404, "not found");
    world.post(&format!("/secrets/{id}"), json!({"value": "x"})).await.error(404, "not found");
}

#[tokio::test]
async fn pages_go_on_to_the_last_one() {
    let world = World::new().await;
    for n in 0..5 {
        world.post("/secrets", json!({"name": format!("s{n}"), "value": "v"})).await.ok(201);
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let answer = world.get(&format!("/secrets?limit=2&nextToken={token}")).await.ok(200);
        let page = answer.json();
        names.extend(page.as_array().unwrap().iter().map(|secret| secret["name"].clone()));
        match answer.header("x-next-token") {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(names, ["s4", "s3", "s2", "s1", "s0"]);
    world.get("/secrets?limit=0").await.error(400, "limit");
    world.get("/secrets?nextToken=x").await.error(400, "Invalid next token");
    let page = world.get("/v1/secrets?limit=4").await.ok(200).json();
    let next = page["next_token"].as_str().unwrap();
    let page = world.get(&format!("/v1/secrets?next_token={next}")).await.ok(200).json();
    assert_eq!(page["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(page.get("next_token"), None);
}

#[tokio::test]
async fn our_own_api_has_the_same_secrets() {
    let world = World::new().await;
    let made =
        world.post("/v1/secrets", json!({"name": "db", "value": CANARY})).await.ok(201).json();
    assert_eq!((&made["name"], &made["version"]), (&json!("db"), &json!(1)));
    let put = json!({"value": "new", "metadata": {"k": "v"}});
    let put = world.put("/v1/secrets/db", put).await.ok(200).json();
    assert_eq!((&put["version"], &put["metadata"]), (&json!(2), &json!({"k": "v"})));
    assert_eq!(world.get("/v1/secrets/db").await.ok(200).json(), put);
    assert_eq!(world.get("/secrets/db").await.ok(200).json()["currentVersion"], 2);
    world.call("DELETE", "/v1/secrets/db", None).await.ok(204);
    world.get("/v1/secrets/db").await.error(404, "not found");
    world
        .post("/v1/secrets", json!({"name": "a", "value": "b", "valeu": 1}))
        .await
        .error(400, "`valeu`");
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_without_a_word_of_its_value() {
    let world = World::new().await;
    let long = format!("{CANARY}{}", "x".repeat(64 * 1024));
    let many: Value = (0..33).map(|n| (format!("k{n}"), json!("v"))).collect();
    for body in [
        json!({"name": "", "value": CANARY}),
        json!({"name": "a b", "value": CANARY}),
        json!({"name": "sec_a", "value": CANARY}),
        json!({"name": "preset.pypi", "value": CANARY}),
        json!({"name": "x".repeat(64), "value": CANARY}),
        json!({"name": "a", "value": ""}),
        json!({"name": "a", "value": long}),
        json!({"name": "a", "value": [CANARY]}),
        json!({"name": "a", "value": {"value": CANARY}}),
        json!({"name": "a", "value": CANARY, "metadata": many}),
        json!({"name": "a", "value": CANARY, "metadata": {"k": "v".repeat(1_025)}}),
        json!({"name": "a", "value": CANARY, "metadata": {"k".repeat(129): "v"}}),
        json!({"value": CANARY}),
        json!({"name": "a"}),
    ] {
        for path in ["/secrets", "/v1/secrets"] {
            let answer = world.post(path, body.clone()).await.ok(400);
            assert!(!answer.text.contains("canary"), "{}", answer.text);
        }
    }
    assert_eq!(world.get("/secrets").await.ok(200).json(), json!([]));
    let longest = "x".repeat(64 * 1024);
    world.post("/secrets", json!({"name": "a", "value": longest})).await.ok(201);
}

#[tokio::test]
async fn another_project_sees_and_changes_nothing() {
    let world = World::new().await;
    world.post("/secrets", json!({"name": "openai", "value": CANARY})).await.ok(201);
    let id = world.get("/secrets/openai").await.json()["secretID"].as_str().unwrap().to_owned();
    let foreign = world.of_another_project().await;
    assert_eq!(foreign.get("/secrets").await.ok(200).json(), json!([]));
    for key in [id.as_str(), "openai"] {
        foreign.get(&format!("/secrets/{key}")).await.error(404, "not found");
        foreign
            .post(&format!("/secrets/{key}"), json!({"value": "x"}))
            .await
            .error(404, "not found");
        foreign.call("DELETE", &format!("/secrets/{key}"), None).await.error(404, "not found");
    }
    foreign.post("/secrets", json!({"name": "openai", "value": "theirs"})).await.ok(201);
    let sandbox = user_of(&foreign, "openai").await;
    assert_eq!(value(&foreign, &sandbox, "openai").await.unwrap(), "theirs");
}

#[tokio::test]
async fn only_a_living_sandbox_whose_policy_refers_to_a_secret_uses_it() {
    let world = World::new().await;
    for name in ["openai", "other"] {
        world.post("/secrets", json!({"name": name, "value": CANARY})).await.ok(201);
    }
    let id = user_of(&world, "openai").await;
    assert_eq!(value(&world, &id, "openai").await.unwrap(), CANARY);
    let refused =
        async |name| matches!(value(&world, &id, name).await, Err(SecretsError::NoSecret { .. }));
    assert!(refused("other").await, "the policy does not refer to it");
    // A new value, a deletion and a new policy count from the next use on.
    world.post("/secrets/openai", json!({"value": "rotated"})).await.ok(200);
    assert_eq!(value(&world, &id, "openai").await.unwrap(), "rotated");
    let path = format!("/v1/sandboxes/{id}/egress");
    world.put(&path, json!({})).await.ok(200);
    assert!(refused("openai").await, "the policy no longer refers to it");
    let policy =
        json!({"credentials": [{"host": "a.test", "secret": "openai", "as": {"bearer": {}}}]});
    world.put(&path, policy).await.ok(200);
    assert_eq!(value(&world, &id, "openai").await.unwrap(), "rotated");
    world.call("DELETE", "/secrets/openai", None).await.ok(204);
    assert!(refused("openai").await, "it is gone");
    world.post("/secrets", json!({"name": "openai", "value": "again"})).await.ok(201);
    assert_eq!(value(&world, &id, "openai").await.unwrap(), "again");
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    assert!(refused("openai").await, "the sandbox is gone");
}

#[tokio::test]
async fn secrets_of_presets_come_from_the_operator_and_go_to_their_own_hosts_only() {
    let world = World::new().await;
    let policy = json!({"presets": ["pypi"]});
    let made = world.post("/v1/sandboxes", json!({"egress": policy})).await.ok(201).json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(value(&world, id, "preset.pypi").await.unwrap(), MIRROR_PASSWORD);
    let none = world.sandbox().await;
    assert!(value(&world, &none, "preset.pypi").await.is_err());
    for credential in [
        json!({"host": "evil.test", "secret": "preset.pypi", "as": {"bearer": {}}}),
        json!({"host": "evil.test", "as": {"header": {"name": "x", "value": "${secrets.Preset.pypi}"}}}),
    ] {
        let policy = json!({"presets": ["pypi"], "credentials": [credential]});
        let body = json!({"egress": policy.clone()});
        world.post("/v1/sandboxes", body).await.error(400, "belong to presets");
        world
            .put(&format!("/v1/sandboxes/{id}/egress"), policy)
            .await
            .error(400, "belong to presets");
    }
}

#[tokio::test]
async fn the_database_never_holds_what_was_stored_in_it() {
    let world = World::new().await;
    world.post("/secrets", json!({"name": "a", "value": CANARY})).await.ok(201);
    world.post("/secrets/a", json!({"value": format!("{CANARY}-2")})).await.ok(200);
    let body = json!({"templateID": "base", "envVars": {"KEY": CANARY, "T": "${e2b.secrets.a}"},
        "network": {"rules": {"a.test": [{"transform": {"headers": {"X": format!("k {CANARY}")}}}]}}});
    let id = world.made(body).await;
    let token = world.node.spec(&id).env["T"].clone();
    assert!(token.starts_with("cct_"));
    let database = world.database();
    assert!(memmem(&database, id.as_bytes()).is_some(), "the row itself is there");
    for needle in [CANARY, token.as_str(), "cct_"] {
        assert_eq!(memmem(&database, needle.as_bytes()), None, "{needle}");
    }
}

#[tokio::test]
async fn the_key_is_made_once_and_a_missing_or_wrong_one_is_told_and_never_replaced() {
    let world = World::new().await;
    let path = world.key_file();
    let key = std::fs::read(&path).unwrap();
    let open = async || Vault::open(&path, &world.store).await;
    open().await.unwrap();
    std::fs::rename(&path, path.with_extension("moved")).unwrap();
    let missing = open().await.unwrap_err();
    assert!(matches!(missing, VaultError::Missing { .. }), "{missing}");
    assert!(missing.to_string().contains(path.to_str().unwrap()), "{missing}");
    assert!(!path.exists(), "no new key takes its place");
    std::fs::rename(path.with_extension("moved"), &path).unwrap();
    let mut other = key.clone();
    other[0] = if key[0] == b'0' { b'1' } else { b'0' };
    std::fs::write(&path, &other).unwrap();
    let wrong = open().await.unwrap_err();
    assert!(matches!(wrong, VaultError::Wrong { .. }), "{wrong}");
    assert_eq!(std::fs::read(&path).unwrap(), other);
    std::fs::write(&path, &key).unwrap();
    open().await.unwrap();
}
