//! Volumes: rows and node agree, whatever fails and whenever the server dies.

use serde_json::json;

use crate::builds::built;
use crate::fake_volumes::Fails;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_made_told_about_mounted_and_deleted() {
    let world = World::new().await;
    let made = world.post("/volumes", json!({"name": "data", "sizeMB": 64})).await.ok(201).json();
    let id = made["volumeID"].as_str().unwrap().to_owned();
    assert_eq!(world.node.volumes.sizes(), [64]);
    let told = world.get(&format!("/volumes/{id}")).await.ok(200).json();
    assert_eq!(told, made, "the token can be asked for again");
    let listed = world.get("/volumes").await.ok(200).json();
    assert_eq!(listed, json!([{"volumeID": id, "name": "data", "sizeMB": 64}]));
    let mounts = json!([{"name": "data", "path": "/data"}]);
    let body = json!({"templateID": "base", "volumeMounts": mounts});
    let sandbox = world.post("/v2/sandboxes", body).await.ok(201).json();
    let sandbox = sandbox["sandboxID"].as_str().unwrap().to_owned();
    let spec = world.node.last_created();
    assert_eq!((spec.volumes.len(), spec.volumes[0].volume.as_str()), (1, id.as_str()));
    let detail = world.get(&format!("/sandboxes/{sandbox}")).await.ok(200).json();
    assert_eq!(detail["volumeMounts"], mounts);
    let listed = world.get("/v2/sandboxes").await.ok(200).json();
    assert_eq!(listed[0]["volumeMounts"], mounts);
    let path = format!("/volumes/{id}");
    let delete = || world.call("DELETE", &path, None);
    delete().await.error(409, &sandbox);
    world.call("DELETE", &format!("/sandboxes/{sandbox}"), None).await.ok(204);
    delete().await.ok(204);
    delete().await.error(404, "not found");
    assert_eq!(world.node.volumes.sizes().len(), 0);
    let again = json!({"templateID": "base", "volumeMounts": mounts});
    world.post("/v2/sandboxes", again).await.error(404, "data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_was_not_made_leaves_nothing_and_its_name_is_free() {
    let world = World::new().await;
    world.node.volumes.fail(Fails::Make);
    world.post("/volumes", json!({"name": "data"})).await.ok(500);
    assert_eq!(world.node.volumes.sizes().len(), 0);
    assert_eq!(world.get("/volumes").await.ok(200).json(), json!([]));
    world.node.volumes.fail(Fails::Nothing);
    world.post("/volumes", json!({"name": "data"})).await.ok(201);
    world.post("/volumes", json!({"name": "data"})).await.error(409, "already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_failed_is_finished_by_the_next_start() {
    let world = World::new().await;
    let made = world.post("/volumes", json!({"name": "data"})).await.ok(201).json();
    let kept = world.post("/volumes", json!({"name": "kept"})).await.ok(201).json();
    let path = format!("/volumes/{}", made["volumeID"].as_str().unwrap());
    world.node.volumes.fail(Fails::Delete);
    world.call("DELETE", &path, None).await.ok(500);
    world.get(&path).await.error(404, "not found");
    assert_eq!(world.node.volumes.sizes().len(), 2);
    world.node.volumes.fail(Fails::Nothing);
    let world = world.crash_and_restart().await;
    assert_eq!(world.node.volumes.sizes().len(), 1);
    let kept_path = format!("/volumes/{}", kept["volumeID"].as_str().unwrap());
    assert_eq!(world.get(&kept_path).await.ok(200).json(), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_project_neither_sees_nor_gets_nor_deletes_it() {
    let world = World::new().await;
    let made = world.post("/volumes", json!({"name": "data"})).await.ok(201).json();
    let path = format!("/volumes/{}", made["volumeID"].as_str().unwrap());
    let world = world.of_another_project().await;
    assert_eq!(world.get("/volumes").await.ok(200).json(), json!([]));
    world.get(&path).await.error(404, "not found");
    world.call("DELETE", &path, None).await.error(404, "not found");
    let mounts = json!([{"name": "data", "path": "/data"}]);
    let body = json!({"templateID": "base", "volumeMounts": mounts});
    world.post("/v2/sandboxes", body).await.error(404, "data");
    // Names are the project's own.
    world.post("/volumes", json!({"name": "data"})).await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_wants_the_volumes_own_token() {
    let world = World::new().await;
    let made = world.post("/volumes", json!({"name": "data"})).await.ok(201).json();
    let id = made["volumeID"].as_str().unwrap();
    for what in ["path", "dir", "file"] {
        let path = format!("/volumecontent/{id}/{what}?path=/");
        // An API key opens sandboxes, not this.
        world.get(&path).await.error(401, "token");
        let request = http::Request::get(&path)
            .header("authorization", "Bearer 0000")
            .body(axum::body::Body::empty())
            .unwrap();
        world.send(request).await.error(401, "token");
    }
    // Nor is anything of a stranger's body looked at.
    let path = format!("/volumecontent/{id}/path?path=/");
    world.call("PATCH", &path, Some(&json!("no metadata"))).await.error(401, "token");
    assert_eq!(world.node.alive().len(), 0, "nothing was made for strangers");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_reached_by_the_installations_base_and_not_by_the_projects_own() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let installed = world.node.last_created().build;
    world.call("DELETE", &format!("/sandboxes/{sandbox}"), None).await.ok(204);
    let own = built(&world, "base").await;
    world.sandbox().await;
    assert_eq!(world.node.last_created().build, own.build, "the project's own goes first");
    let made = world.post("/volumes", json!({"name": "data"})).await.ok(201).json();
    let (id, token) = (made["volumeID"].as_str().unwrap(), made["token"].as_str().unwrap());
    let request = http::Request::get(format!("/volumecontent/{id}/path?path=/"))
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .unwrap();
    // Nobody answers in there; how it was made is what counts.
    world.send(request).await;
    let spec = world.node.last_created();
    assert_eq!((spec.build, spec.volumes.len()), (installed, 1));
}
