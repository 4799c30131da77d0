//! What Prometheus reads, after events that the test made.

use std::collections::BTreeMap;
use std::time::Duration;

use courier_types::{EndReason, ObservedState, SandboxId};
use http::Request;
use prometheus_parse::{Scrape, Value};
use serde_json::json;

use crate::builds::Asked;
use crate::fake_builder::Does;
use crate::fake_node::Creates;
use crate::world::{World, config};
use axum::body::Body;

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every series but histograms' buckets: `name{label="value",...}` to its value.
type Figures = BTreeMap<String, f64>;

async fn figures(world: &World) -> Figures {
    let answer = world.get("/metrics").await.ok(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let scrape = Scrape::parse(answer.text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let lines = answer.text.lines().filter(|line| !line.starts_with('#')).count();
    let mut figures = Figures::new();
    let mut counted = 0;
    for sample in scrape.samples {
        let labels: BTreeMap<&String, &String> = sample.labels.iter().collect();
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let name = match labels.as_slice() {
            [] => sample.metric,
            labels => format!("{}{{{}}}", sample.metric, labels.join(",")),
        };
        counted += match &sample.value {
            Value::Histogram(buckets) => buckets.len(),
            _ => 1,
        };
        match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                assert!(figures.insert(name.clone(), value).is_none(), "{name} comes twice");
            }
            Value::Histogram(_) | Value::Summary(_) => {}
        }
    }
    assert_eq!(counted, lines, "the parser understood every line");
    figures
}

#[track_caller]
fn assert_figures(figures: &Figures, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        assert_eq!(figures.get(*name), Some(value), "{name} in {figures:#?}");
    }
}

/// Waits until a series has a value.
async fn wait_for(world: &World, name: &str, value: f64) {
    let waited = async {
        while figures(world).await[name] != value {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waited).await.is_err() {
        panic!("{name} is {}, not {value}", figures(world).await[name]);
    }
}

#[tokio::test]
async fn a_new_server_tells_every_series_of_a_closed_list_at_zero() {
    let world = World::new().await;
    let figures = figures(&world).await;
    assert_figures(
        &figures,
        &[
            ("courier_build_info{isolation=\"fake\",technology=\"fake 1\",version=\"0.1.0\"}", 1.0),
            ("courier_sandboxes_created_total", 0.0),
            ("courier_sandbox_create_failures_total{cause=\"no_room\"}", 0.0),
            ("courier_sandboxes_ended_total{reason=\"memory\"}", 0.0),
            ("courier_template_builds_total{outcome=\"failed\"}", 0.0),
            ("courier_sandboxes{state=\"running\"}", 0.0),
            ("courier_sandboxes_reaped_total", 0.0),
            ("courier_node_sandboxes_max", 7.0),
            ("courier_node_memory_total_bytes", 4.0),
        ],
    );
    for positive in [
        "courier_data_disk_free_bytes",
        "courier_data_disk_size_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(figures[positive] > 0.0, "{positive}");
    }
}

#[tokio::test]
async fn creates_failures_and_ends_are_counted_once_each() {
    let world = World::new().await;
    let ids = [world.sandbox().await, world.sandbox().await, world.sandbox().await];
    for (creates, status) in [(Creates::Full, 503), (Creates::DoNotStart, 500)] {
        world.node.creates(creates);
        world.post("/v2/sandboxes", json!({"templateID": "base"})).await.ok(status);
    }
    world.call("DELETE", &format!("/sandboxes/{}", ids[0]), None).await.ok(204);
    world.call("DELETE", &format!("/sandboxes/{}", ids[0]), None).await.ok(404);
    world.node.end(&ids[1], EndReason::Memory, 5).await;
    world.node.tell(&ids[1], ObservedState::ended(EndReason::Memory), 6).await;
    let reported = "courier_sandboxes_ended_total{reason=\"memory\"}";
    wait_for(&world, reported, 1.0).await;

    let figures = figures(&world).await;
    assert_figures(
        &figures,
        &[
            ("courier_sandboxes_created_total", 3.0),
            ("courier_sandbox_create_duration_seconds_count", 3.0),
            ("courier_sandbox_create_failures_total{cause=\"no_room\"}", 1.0),
            ("courier_sandbox_create_failures_total{cause=\"not_started\"}", 1.0),
            ("courier_sandboxes_ended_total{reason=\"requested\"}", 1.0),
            ("courier_sandboxes_ended_total{reason=\"memory\"}", 1.0),
            ("courier_sandboxes_ended_total{reason=\"never_started\"}", 1.0),
            ("courier_sandboxes_ended_total{reason=\"crashed\"}", 1.0),
            ("courier_sandboxes{state=\"running\"}", 1.0),
            ("courier_node_sandboxes", 1.0),
            (
                "courier_http_requests_total{method=\"POST\",route=\"/v2/sandboxes\",status=\"201\"}",
                3.0,
            ),
            (
                "courier_http_requests_total{method=\"DELETE\",route=\"/sandboxes/:sandboxID\",status=\"404\"}",
                1.0,
            ),
        ],
    );
}

#[tokio::test]
async fn leaks_that_the_sweep_destroys_are_counted() {
    let world =
        World::with(courier_server::Config { sweep_every: Duration::from_millis(20), ..config() })
            .await;
    let mut stray = world.node.spec(&world.sandbox().await);
    stray.id = SandboxId::from_random([9; 20]);
    world.node.plant(stray);
    wait_for(&world, "courier_sandboxes_reaped_total", 1.0).await;
}

#[tokio::test]
async fn builds_are_counted_by_their_outcome() {
    let world = World::new().await;
    for (does, status) in [(Does::Work, "ready"), (Does::Fail(1), "error")] {
        world.builder.does(does);
        let asked = Asked::named(&world, "counted").await;
        asked.start(&world, json!({"steps": [{"type": "RUN", "args": ["true"]}, {"type": "RUN", "args": ["make"]}]})).await;
        asked.wait(&world, status).await;
    }
    assert_figures(
        &figures(&world).await,
        &[
            ("courier_template_builds_total{outcome=\"ready\"}", 1.0),
            ("courier_template_builds_total{outcome=\"failed\"}", 1.0),
            ("courier_template_build_duration_seconds_count{outcome=\"ready\"}", 1.0),
            ("courier_template_builds_total{outcome=\"broken\"}", 0.0),
        ],
    );
}

#[tokio::test]
async fn nothing_that_a_client_invents_becomes_a_label() {
    let world = World::new().await;
    for n in 0..20 {
        world.get(&format!("/nowhere/{n}")).await.ok(404);
        world.call(&format!("METHOD{n}"), "/v2/sandboxes", None).await.ok(405);
        world.get(&format!("/sandboxes/i{n}")).await;
    }
    let figures = figures(&world).await;
    let timed = "courier_http_request_duration_seconds_count{method=\"other\"";
    assert!(!figures.keys().any(|name| name.starts_with(timed)), "what no route has is not timed");
    let of_requests: Vec<&String> =
        figures.keys().filter(|name| name.starts_with("courier_http_requests_total")).collect();
    assert!(of_requests.len() <= 3, "{of_requests:?}");
    assert_figures(
        &figures,
        &[
            ("courier_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}", 20.0),
            (
                "courier_http_requests_total{method=\"other\",route=\"/v2/sandboxes\",status=\"405\"}",
                20.0,
            ),
        ],
    );
}

#[tokio::test]
async fn nobody_reads_the_figures_without_a_key() {
    let world = World::new().await;
    let request = || Request::builder().uri("/metrics");
    world.send(request().body(Body::empty()).unwrap()).await.error(401, "API key");
    let bearer = request().header("Authorization", format!("Bearer {}", world.key));
    world.send(bearer.body(Body::empty()).unwrap()).await.ok(200);
}
