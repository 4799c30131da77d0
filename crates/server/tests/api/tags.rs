//! Tags move; builds do not change.

use serde_json::{Value, json};

use crate::builds::{Asked, built};
use crate::world::World;

async fn tags(world: &World, name: &str) -> Vec<(String, String)> {
    let list = world.get(&format!("/templates/{name}/tags")).await.ok(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tags = list.as_array().unwrap().iter();
    tags.map(|tag| {
        assert!(tag["createdAt"].is_string());
        (text(&tag["tag"]), text(&tag["buildID"]))
    })
    .collect()
}

#[tokio::test]
async fn a_tag_names_the_build_that_it_was_given_and_moves() {
    let world = World::new().await;
    let first = built(&world, "mine").await.build;
    let body = json!({"target": "mine", "tags": ["Production", "v1.0", "v1.0"]});
    let answer = world.post("/templates/tags", body).await.ok(201).json();
    assert_eq!(answer, json!({"tags": ["production", "v1.0"], "buildID": first}));
    let second = built(&world, "mine").await.build;
    let pair = |tag: &str, build: &String| (tag.to_owned(), build.clone());
    let before = [pair("default", &second), pair("production", &first), pair("v1.0", &first)];
    assert_eq!(tags(&world, "mine").await, before);
    world.made(json!({"templateID": "mine:production"})).await;
    assert_eq!(world.node.last_created().build, first);
    let body = json!({"target": "mine:default", "tags": ["production"]});
    world.post("/templates/tags", body).await.ok(201);
    world.made(json!({"templateID": "default/mine:production"})).await;
    assert_eq!(world.node.last_created().build, second);
    // The default can be moved back, to what another tag or an id names.
    let body = json!({"target": format!("mine:{first}"), "tags": ["default"]});
    world.post("/templates/tags", body).await.ok(201);
    world.made(json!({"templateID": "mine"})).await;
    assert_eq!(world.node.last_created().build, first);
    let body = json!({"name": "mine", "tags": ["production", "v1.0", "unknown"]});
    world.call("DELETE", "/templates/tags", Some(&body)).await.ok(204);
    assert_eq!(tags(&world, "mine").await, [pair("default", &first)]);
}

#[tokio::test]
async fn a_running_sandbox_stays_what_it_was_when_its_tag_moves() {
    let world = World::new().await;
    let first = built(&world, "mine").await.build;
    let id = world.made(json!({"templateID": "mine"})).await;
    built(&world, "mine").await;
    let world = world.crash_and_restart().await;
    assert_eq!(world.node.adopted(&id).build, first);
}

#[tokio::test]
async fn what_is_wrong_with_tags_is_said_and_nothing_moves() {
    let world = World::new().await;
    let build = built(&world, "mine").await.build;
    let asked = Asked::named(&world, "unbuilt").await;
    for (body, status, part) in [
        (json!({"target": "mine", "tags": ["a", "a b"]}), 400, "Invalid tag"),
        (json!({"target": "mine", "tags": [build]}), 400, "Invalid tag"),
        (json!({"target": "mine", "tags": []}), 400, "empty"),
        (json!({"target": "mine:v9", "tags": ["a"]}), 404, "v9"),
        (json!({"target": "nope", "tags": ["a"]}), 404, "nope"),
        (json!({"target": "unbuilt", "tags": ["a"]}), 404, "unbuilt"),
        (json!({"target": format!("unbuilt:{}", asked.build), "tags": ["a"]}), 404, "unbuilt"),
        (json!({"target": format!("unbuilt:{build}"), "tags": ["a"]}), 404, "unbuilt"),
        (json!({"target": "base", "tags": ["a"]}), 403, "installation"),
        (json!({"target": "other/mine", "tags": ["a"]}), 400, "namespace"),
        (json!({"target": "a b", "tags": ["a"]}), 400, "Invalid"),
        (json!({"target": "mine"}), 400, "tags"),
    ] {
        world.post("/templates/tags", body.clone()).await.error(status, part);
    }
    for (body, status, part) in [
        (json!({"name": "mine", "tags": ["default"]}), 400, "default"),
        (json!({"name": "mine:default", "tags": ["a"]}), 400, "no tag"),
        (json!({"name": "base", "tags": ["a"]}), 403, "installation"),
        (json!({"name": "nope", "tags": ["a"]}), 404, "nope"),
    ] {
        world.call("DELETE", "/templates/tags", Some(&body)).await.error(status, part);
    }
    let many: Vec<String> = (0..256).map(|number| format!("t{number}")).collect();
    let body = json!({"target": "mine", "tags": many});
    world.post("/templates/tags", body).await.error(400, "256 tags");
    assert_eq!(tags(&world, "mine").await.len(), 1);
    world.get("/templates/nope/tags").await.error(404, "nope");
}
