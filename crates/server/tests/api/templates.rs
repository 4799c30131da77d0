//! Whose templates are whose, and how they go.

use serde_json::json;

use crate::builds::{Asked, built};
use crate::fake_builder::Does;
use crate::world::World;

#[tokio::test]
async fn a_template_in_use_is_not_deleted_and_says_who_uses_it() {
    let world = World::new().await;
    let asked = built(&world, "mine").await;
    let id = world.made(json!({"templateID": "mine"})).await;
    let delete = async |name: &str| world.call("DELETE", &format!("/templates/{name}"), None).await;
    delete("mine").await.error(400, &id);
    world.get("/templates/mine").await.ok(200);
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    delete("mine:default").await.error(400, "without a tag");
    delete(&asked.template).await.ok(204);
    delete(&asked.template).await.error(404, &asked.template);
    assert!(world.builder.kept().is_empty());
    world.get("/templates/mine").await.error(404, "mine");
    world.get("/templates/aliases/mine").await.error(404, "mine");
    world.get(&asked.status_path()).await.error(404, &asked.template);
    world.post("/v2/sandboxes", json!({"templateID": "mine"})).await.error(404, "mine");
    delete("base").await.error(403, "installation");
    delete("nope").await.error(404, "nope");
    // The name is free again.
    assert_ne!(built(&world, "mine").await.template, asked.template);
}

#[tokio::test]
async fn deleting_a_template_cancels_what_is_built_of_it() {
    let world = World::new().await;
    world.builder.does(Does::Wait);
    let asked = Asked::named(&world, "mine").await;
    asked.start(&world, json!({})).await;
    asked.wait(&world, "building").await;
    world.call("DELETE", "/templates/mine", None).await.ok(204);
    assert_eq!(world.builder.under_way(), 0);
    assert!(world.builder.kept().is_empty());
}

#[tokio::test]
async fn what_the_node_does_not_remove_is_removed_at_the_next_start() {
    let world = World::new().await;
    let asked = built(&world, "mine").await;
    world.builder.removes_fail(true);
    world.call("DELETE", "/templates/mine", None).await.ok(204);
    assert_eq!(world.builder.kept(), [asked.build]);
    let world = world.crash_and_restart().await;
    assert!(world.builder.kept().is_empty());
}

#[tokio::test]
async fn names_are_a_projects_own_and_what_is_public_is_found_by_its_namespace() {
    let world = World::new().await;
    let asked = built(&world, "mine").await;
    let other = world.of_another_project().await;
    for name in ["mine", "default%2Fmine", &asked.template] {
        other.get(&format!("/templates/aliases/{name}")).await.error(404, "not found");
    }
    // Both may have a template of that name, and even one of the installation's.
    let theirs = built(&other, "mine").await;
    assert_ne!(theirs.template, asked.template);
    let base = built(&other, "base").await;
    other.made(json!({"templateID": "base"})).await;
    assert_eq!(other.node.last_created().build, base.build);
    let world = other.of_the_first_project().await;
    world.made(json!({"templateID": "base"})).await;
    assert_eq!(world.node.last_created().build, "base-1");
    let body = json!({"public": true});
    let names = world.call("PATCH", "/v2/templates/mine", Some(&body)).await.ok(200).json();
    assert_eq!(names, json!({"names": ["default/mine"]}));
    world.call("PATCH", "/v2/templates/base", Some(&body)).await.error(403, "installation");
    let other = world.of_another_project().await;
    for name in ["default/mine", "default/mine:default", &asked.template] {
        other.made(json!({"templateID": name})).await;
        assert_eq!(other.node.last_created().build, asked.build, "{name}");
    }
    let found = other.get("/templates/aliases/default%2Fmine").await.ok(200).json();
    assert_eq!(found, json!({"templateID": asked.template, "public": true}));
    let path = format!("/templates/{}", asked.template);
    other.call("DELETE", &path, None).await.error(403, "another project");
    other.get(&asked.status_path()).await.error(403, "another project");
    let listed = other.get("/templates").await.ok(200).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|t| t["names"].clone()).collect();
    assert_eq!(
        names,
        [json!(["base", "code-interpreter-v1"]), json!(["other/mine"]), json!(["other/base"])]
    );
}

#[tokio::test]
async fn what_a_reference_means_is_told_whole() {
    let world = World::new().await;
    let asked = Asked::of(&world, json!({"name": "python-3.12", "tags": ["default", "v1"]})).await;
    asked.start(&world, json!({"startCmd": "serve", "readyCmd": "test -f /tmp/up"})).await;
    asked.wait(&world, "ready").await;
    let detail = world.get("/v1/templates/python-3.12:v1").await.ok(200).json();
    assert_eq!(detail["build_id"], asked.build);
    assert_eq!(detail["tags"], json!(["default", "v1"]));
    assert_eq!(detail["size_bytes"], 4_096);
    let config = json!({"user": "user", "workdir": "/home/user", "env": {}, "start": "serve",
        "ready": "test -f /tmp/up"});
    assert_eq!(detail["config"], config);
    assert_eq!(detail["limits"]["memory_mib"], 512);
    world.get("/v1/templates/python-3.12:v2").await.error(404, "v2");
}
