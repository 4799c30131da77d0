//! A sandbox's lifecycle log, by both versions of the wire.

use std::time::{Duration, Instant};

use courier_types::EndReason;
use serde_json::Value;

use crate::world::World;

/// Times in milliseconds and messages, as an answer has them.
fn entries(answer: &Value, list: &str) -> Vec<(i64, String)> {
    let entries = answer[list].as_array().unwrap().iter();
    let at = |entry: &Value| {
        let time: jiff::Timestamp = entry["timestamp"].as_str().unwrap().parse().unwrap();
        time.as_millisecond()
    };
    entries.map(|entry| (at(entry), entry["message"].as_str().unwrap().to_owned())).collect()
}

async fn asked(world: &World, id: &str, query: &str) -> Vec<(i64, String)> {
    let answer = world.get(&format!("/v2/sandboxes/{id}/logs{query}")).await.ok(200).json();
    entries(&answer, "logs")
}

fn messages(entries: &[(i64, String)]) -> Vec<&str> {
    entries.iter().map(|(_at, message)| message.as_str()).collect()
}

/// A sandbox that ended in a later millisecond than it began to run in.
async fn ended(world: &World) -> String {
    let id = world.sandbox().await;
    let running = Instant::now();
    while running.elapsed() < Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    world.node.end(&id, EndReason::Memory, 5).await;
    world.wait_for_state(&id, "error").await;
    id
}

#[tokio::test]
async fn a_log_is_read_from_a_cursor_in_either_direction_and_by_level_and_text() {
    let world = World::new().await;
    let id = ended(&world).await;
    let whole = asked(&world, &id, "").await;
    assert_eq!(messages(&whole), ["sandbox created", "sandbox running", "sandbox ended"]);
    assert!(whole.is_sorted(), "oldest first");
    let end = whole[2].0;

    let backward = asked(&world, &id, "?direction=backward").await;
    assert_eq!(messages(&backward), ["sandbox ended", "sandbox running", "sandbox created"]);
    let later = asked(&world, &id, &format!("?cursor={end}")).await;
    assert_eq!(messages(&later), ["sandbox ended"], "the cursor's own moment is included");
    let earlier = asked(&world, &id, &format!("?direction=backward&cursor={}", end - 1)).await;
    assert_eq!(messages(&earlier), ["sandbox running", "sandbox created"]);
    assert_eq!(messages(&asked(&world, &id, "?limit=1").await), ["sandbox created"]);
    let newest = asked(&world, &id, "?limit=1&direction=backward").await;
    assert_eq!(messages(&newest), ["sandbox ended"]);
    assert_eq!(messages(&asked(&world, &id, "?level=warn").await), ["sandbox ended"]);
    assert_eq!(messages(&asked(&world, &id, "?search=run").await), ["sandbox running"]);
    assert!(asked(&world, &id, "?search=nothing").await.is_empty());
    for wrong in ["direction=up", "level=loud", "cursor=now", "limit=-1"] {
        world.get(&format!("/v2/sandboxes/{id}/logs?{wrong}")).await.error(400, "");
    }
}

#[tokio::test]
async fn the_first_version_has_every_entry_as_a_line_of_json_too() {
    let world = World::new().await;
    let id = ended(&world).await;
    let answer = world.get(&format!("/sandboxes/{id}/logs")).await.ok(200).json();
    let whole = entries(&answer, "logEntries");
    assert_eq!(messages(&whole), ["sandbox created", "sandbox running", "sandbox ended"]);
    for (line, entry) in
        answer["logs"].as_array().unwrap().iter().zip(answer["logEntries"].as_array().unwrap())
    {
        let inside: Value = serde_json::from_str(line["line"].as_str().unwrap()).unwrap();
        assert_eq!((&inside, &line["timestamp"]), (entry, &entry["timestamp"]));
    }
    let path = format!("/sandboxes/{id}/logs?start={}&limit=1", whole[2].0);
    let late = world.get(&path).await.ok(200).json();
    assert_eq!(messages(&entries(&late, "logEntries")), ["sandbox ended"]);
}
