//! Tokens that guests hold: bound to one sandbox and one secret, and dead with either.

use courier_protocol::node::{Secrets as _, SecretsError};
use courier_types::SandboxId;
use serde_json::{Value, json};

use crate::world::World;

/// A sandbox that holds a token for secret `a`, and uses it at a host where `policy` says so.
async fn holder(world: &World, policy: Value, value: Value) -> (String, String) {
    let body = json!({"egress": policy, "env": {"TOKEN": value, "PLAIN": "p"}});
    let answer = world.post("/v1/sandboxes", body).await.ok(201).json();
    let id = answer["id"].as_str().unwrap().to_owned();
    let env = world.node.spec(&id).env;
    assert_eq!(env["PLAIN"], "p");
    (id, env["TOKEN"].clone())
}

fn placeholder() -> Value {
    json!({"credentials": [{"host": "a.test", "secret": "a", "as": {"placeholder": {}}}]})
}

async fn exchange(
    world: &World,
    sandbox: &str,
    token: &str,
) -> Result<(String, Vec<u8>), SecretsError> {
    let sandbox: SandboxId = sandbox.parse().unwrap();
    let (name, value) = world.secrets().await.token(&sandbox, token).await?;
    Ok((name.to_string(), value.expose().to_vec()))
}

async fn introspect(world: &World, token: &str) -> Value {
    world.post("/v1/tokens/introspect", json!({"token": token})).await.ok(200).json()
}

async fn world_with_secret() -> World {
    let world = World::new().await;
    world.post("/secrets", json!({"name": "a", "value": "the value"})).await.ok(201);
    world
}

#[tokio::test]
async fn a_token_is_exchanged_in_its_own_sandbox_only_and_while_its_policy_says_so() {
    let world = world_with_secret().await;
    let (id, token) = holder(&world, placeholder(), json!({"secret": "A"})).await;
    let value = || Ok::<_, SecretsError>(("a".to_owned(), b"the value".to_vec()));
    assert_eq!(exchange(&world, &id, &token).await.ok(), value().ok());
    let (sibling, other) = holder(&world, placeholder(), json!({"secret": "a"})).await;
    assert_ne!(other, token);
    for (sandbox, token) in [(&sibling, &token), (&id, &other)] {
        let refused = exchange(&world, sandbox, token).await;
        assert!(matches!(refused, Err(SecretsError::NoToken)), "{refused:?}");
    }
    for text in ["", "cct_", &token[1..], &format!("{token}x"), "the value"] {
        assert!(matches!(exchange(&world, &id, text).await, Err(SecretsError::NoToken)), "{text}");
    }
    world.put(&format!("/v1/sandboxes/{id}/egress"), json!({})).await.ok(200);
    assert!(matches!(exchange(&world, &id, &token).await, Err(SecretsError::NoToken)));
}

#[tokio::test]
async fn a_token_dies_with_its_sandbox_and_with_its_secret() {
    let world = world_with_secret().await;
    let (id, token) =
        holder(&world, placeholder(), json!({"secret": "a", "ttl_seconds": 60})).await;
    let (sibling, other) = holder(&world, placeholder(), json!({"secret": "a"})).await;
    let answer = introspect(&world, &token).await;
    assert_eq!(answer["active"], true);
    assert_eq!((&answer["sandbox"], &answer["secret"]), (&json!(id), &json!("a")));
    assert!(answer["expires_at"].is_string());
    world.call("DELETE", &format!("/v1/sandboxes/{id}"), None).await.ok(200);
    assert_eq!(introspect(&world, &token).await, json!({"active": false}));
    assert!(exchange(&world, &id, &token).await.is_err());
    assert_eq!(introspect(&world, &other).await["active"], true);
    world.call("DELETE", "/secrets/a", None).await.ok(204);
    // Another secret of that name is another secret.
    world.post("/secrets", json!({"name": "a", "value": "new"})).await.ok(201);
    assert_eq!(introspect(&world, &other).await, json!({"active": false}));
    assert!(exchange(&world, &sibling, &other).await.is_err());
}

#[tokio::test]
async fn another_project_learns_nothing_of_a_token() {
    let world = world_with_secret().await;
    let (_id, token) = holder(&world, json!({}), json!({"secret": "a"})).await;
    let foreign = world.of_another_project().await;
    assert_eq!(introspect(&foreign, &token).await, json!({"active": false}));
    let body = json!({"env": {"T": {"secret": "a"}}});
    foreign.post("/v1/sandboxes", body).await.error(400, "no secret a");
}

#[tokio::test]
async fn an_environment_that_asks_for_a_token_that_cannot_be_is_refused() {
    let world = world_with_secret().await;
    for (value, part) in [
        (json!({"secret": "none"}), "no secret none"),
        (json!({"secret": "a", "ttl_seconds": 0}), "1 to 86400"),
        (json!({"secret": "a", "ttl_seconds": 86_401}), "1 to 86400"),
        (json!({"secret": "a", "ttl": 5}), "`ttl`"),
        (json!({"secret": "a b"}), "secret"),
        (json!({}), "secret"),
        (json!(7), "a string"),
    ] {
        for path in ["/v1/sandboxes", "/v1/executions"] {
            let mut body = json!({"env": {"T": value.clone()}});
            if path == "/v1/executions" {
                body["code"] = json!("1");
                body["language"] = json!("sh");
            }
            world.post(path, body).await.error(400, part);
        }
    }
    let body = json!({"templateID": "base", "envVars": {"T": "${e2b.secrets.none}"}});
    world.post("/v2/sandboxes", body).await.error(400, "no secret none");
    let body = json!({"templateID": "base", "envVars": {"T": "${e2b.secrets.a b}"}});
    world.post("/v2/sandboxes", body).await.error(400, "envVars");
    assert!(world.node.alive().is_empty());
}

#[tokio::test]
async fn e2bs_wire_gives_a_token_where_a_value_is_a_placeholder_and_nothing_else() {
    let world = world_with_secret().await;
    let env = json!({"T": "${e2b.secrets.A}", "U": "x ${e2b.secrets.a}", "V": "${e2b.secrets.a"});
    let id = world.made(json!({"templateID": "base", "envVars": env})).await;
    let env = world.node.spec(&id).env;
    assert!(env["T"].starts_with("cct_"));
    assert_eq!(introspect(&world, &env["T"]).await["secret"], "a");
    assert_eq!((env["U"].as_str(), env["V"].as_str()), ("x ${e2b.secrets.a}", "${e2b.secrets.a"));
}

#[tokio::test]
async fn a_program_gets_its_token_and_no_more() {
    let world = world_with_secret().await;
    let body = json!({"code": "1", "language": "sh", "env": {"T": {"secret": "a"}}});
    let answer = world.post("/v1/executions", body).await.ok(200);
    assert!(!answer.text.contains("the value"));
    // Its sandbox is gone by now, and so is the token.
    let token = world.node.started_env().remove("T").unwrap();
    assert!(token.starts_with("cct_"));
    assert_eq!(introspect(&world, &token).await, json!({"active": false}));
}
