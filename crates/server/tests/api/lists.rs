//! Lists: filters, order, pages; templates, metrics, logs.

use serde_json::{Value, json};

use crate::world::World;

async fn ids(world: &World, query: &str) -> Vec<String> {
    let list = world.get(&format!("/v2/sandboxes{query}")).await.ok(200).json();
    ids_of(&list)
}

fn ids_of(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item["sandboxID"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pages_of_one_visit_every_sandbox_once_in_strict_order() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(world.sandbox().await);
    }
    for (order, expected) in [("asc", made.clone()), ("desc", made.iter().rev().cloned().collect())]
    {
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("/v2/sandboxes?limit=1&order={order}&nextToken={token}");
            let page = world.get(&path).await.ok(200);
            assert_eq!(page.header("x-total-running"), Some("4"));
            seen.extend(ids_of(&page.json()));
            match page.header("x-next-token") {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{order}");
        let other = if order == "asc" { "desc" } else { "asc" };
        let page = world.get(&format!("/v2/sandboxes?limit=1&order={order}")).await;
        let token = page.header("x-next-token").unwrap().to_owned();
        let path = format!("/v2/sandboxes?order={other}&nextToken={token}");
        world.get(&path).await.error(400, "Invalid next token");
    }
}

#[tokio::test]
async fn the_metadata_filter_is_read_as_the_sdks_encode_it() {
    let world = World::new().await;
    let body = json!({"templateID": "base", "metadata": {"a": "b c", "ü": "&="}});
    let made = world.post("/v2/sandboxes", body).await.ok(201).json();
    let id = made["sandboxID"].as_str().unwrap();
    world.sandbox().await;
    for query in
        ["?metadata=a%3Db%252520c", "?metadata=a%3Db%252520c%26%2525C3%2525BC%3D%252526%25253D"]
    {
        assert_eq!(ids(&world, query).await, [id], "{query}");
        let list = world.get(&format!("/sandboxes{query}")).await.ok(200).json();
        assert_eq!(ids_of(&list), [id], "{query}");
    }
    assert!(ids(&world, "?metadata=a%3Db").await.is_empty());
    world.get("/v2/sandboxes?metadata=a%3D%2525zz").await.error(400, "percent");
}

#[tokio::test]
async fn states_templates_and_times_filter() {
    let world = World::new().await;
    let first = world.sandbox().await;
    let second = world.sandbox().await;
    assert_eq!(ids(&world, "?state=paused").await.len(), 0);
    assert_eq!(ids(&world, "?state=running,paused").await.len(), 2);
    assert_eq!(ids(&world, "?template=base").await.len(), 2);
    assert_eq!(ids(&world, "?template=unknown").await.len(), 0);
    let detail = world.get(&format!("/sandboxes/{second}")).await.ok(200).json();
    let after = detail["startedAt"].as_str().unwrap();
    assert_eq!(ids(&world, &format!("?startedAfter={after}")).await, [second]);
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "nextToken=x",
        "order=up",
        "state=happy",
        "startedAfter=now",
        "template=base:v1",
    ] {
        world.get(&format!("/v2/sandboxes?{query}")).await.error(400, "");
    }
    world.call("DELETE", &format!("/sandboxes/{first}"), None).await.ok(204);
    assert_eq!(ids(&world, "").await.len(), 1);
}

#[tokio::test]
async fn our_own_list_shows_ended_ones_too_in_pages() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.sandbox().await);
    }
    world.call("DELETE", &format!("/sandboxes/{}", made[1]), None).await.ok(204);
    let mut seen = Vec::new();
    let mut path = "/v1/sandboxes?limit=2".to_owned();
    loop {
        let page = world.get(&path).await.ok(200).json();
        for item in page["sandboxes"].as_array().unwrap() {
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        match page["next_token"].as_str() {
            Some(token) => path = format!("/v1/sandboxes?limit=2&next_token={token}"),
            None => break,
        }
    }
    made.reverse();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn templates_are_listed_and_found_by_their_names() {
    let world = World::new().await;
    world.sandbox().await;
    let list = world.get("/templates").await.ok(200).json();
    assert_eq!(list[0]["aliases"], json!(["base", "code-interpreter-v1"]));
    assert_eq!((&list[0]["spawnCount"], &list[0]["buildStatus"]), (&json!(1), &json!("ready")));
    assert_eq!(world.get("/v2/templates?limit=1").await.ok(200).json(), list);
    let id = list[0]["templateID"].as_str().unwrap();
    for name in ["base", "base:default", "default%2Fbase", id] {
        let found = world.get(&format!("/templates/aliases/{name}")).await.ok(200).json();
        assert_eq!(found, json!({"templateID": id, "public": true}), "{name}");
        world.get(&format!("/templates/{name}")).await.ok(200);
    }
    world.get("/templates/aliases/nope").await.error(404, "nope");
    world.get("/templates/aliases/..%2F..").await.error(400, "Invalid");
}

#[tokio::test]
async fn metrics_come_from_the_node_and_a_range_cuts_them() {
    let world = World::new().await;
    let id = world.sandbox().await;
    let path = format!("/sandboxes/{id}/metrics");
    let waited = async {
        loop {
            let samples = world.get(&path).await.ok(200).json();
            if let Some(sample) = samples.as_array().unwrap().first() {
                return sample.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let sample = tokio::time::timeout(std::time::Duration::from_secs(20), waited).await.unwrap();
    assert_eq!(sample["memUsed"], 1);
    assert_eq!(sample["memTotal"], 512 * 1024 * 1024);
    assert!(sample["timestamp"].is_string() && sample["cpuUsedPct"].is_number());
    let before = format!("{path}?start=0&end=1");
    assert_eq!(world.get(&before).await.ok(200).json(), json!([]));
    world.get(&format!("{path}?start=2&end=1")).await.error(400, "start");
    let many = world.get(&format!("/sandboxes/metrics?sandbox_ids={id},i0")).await.ok(200).json();
    assert_eq!(many["sandboxes"][&id]["memUsed"], 1);
    assert_eq!(many["sandboxes"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn the_log_tells_a_sandboxs_life_and_filters() {
    let world = World::new().await;
    let id = world.sandbox().await;
    world.call("DELETE", &format!("/sandboxes/{id}"), None).await.ok(204);
    let log = world.get(&format!("/sandboxes/{id}/logs")).await.ok(200).json();
    let messages: Vec<&str> = log["logEntries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["sandbox created", "sandbox running", "sandbox ended"]);
    let line: Value = serde_json::from_str(log["logs"][2]["line"].as_str().unwrap()).unwrap();
    assert_eq!(line["fields"]["reason"], "requested");
    let count = async |query: &str| {
        let path = format!("/v2/sandboxes/{id}/logs{query}");
        world.get(&path).await.ok(200).json()["logs"].as_array().unwrap().len()
    };
    assert_eq!(count("?limit=1&direction=backward").await, 1);
    assert_eq!(count("?search=running").await, 1);
    assert_eq!(count("?level=warn").await, 0);
    assert_eq!(count("?cursor=0&direction=backward").await, 0);
    assert_eq!(count("?cursor=0").await, 3);
    world.get(&format!("/v2/sandboxes/{id}/logs?direction=up")).await.error(400, "");
}
