//! Builds, from the request to what comes of them.

use std::time::Duration;

use courier_protocol::node::{BuildSource, Step, StepKind};
use courier_server::{BuildEgress, Config};
use courier_types::{BuildConfig, Timestamp};
use serde_json::{Value, json};

use crate::fake_builder::Does;
use crate::world::{World, config};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(10);

/// A build that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) template: String,
    pub(crate) build: String,
}

impl Asked {
    pub(crate) async fn of(world: &World, body: Value) -> Self {
        let answer = world.post("/v3/templates", body).await.ok(202).json();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self { template: text("templateID"), build: text("buildID") }
    }

    pub(crate) async fn named(world: &World, name: &str) -> Self {
        Self::of(world, json!({"name": name})).await
    }

    pub(crate) fn path(&self) -> String {
        format!("/v2/templates/{}/builds/{}", self.template, self.build)
    }

    pub(crate) fn status_path(&self) -> String {
        format!("/templates/{}/builds/{}/status", self.template, self.build)
    }

    pub(crate) async fn start(&self, world: &World, body: Value) {
        world.post(&self.path(), body).await.ok(202);
    }

    pub(crate) async fn status(&self, world: &World) -> Value {
        world.get(&self.status_path()).await.ok(200).json()
    }

    /// Waits until the build is in that state.
    pub(crate) async fn wait(&self, world: &World, status: &str) -> Value {
        let waited = async {
            loop {
                let now = self.status(world).await;
                if now["status"] == status {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waited).await {
            Ok(now) => now,
            Err(_) => panic!("not {status}: {}", self.status(world).await),
        }
    }

    /// The whole log, as the SDKs poll it.
    async fn log(&self, world: &World) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let path = format!("{}?logsOffset={}", self.status_path(), all.len());
            let page = world.get(&path).await.ok(200).json();
            let entries = page["logEntries"].as_array().unwrap().clone();
            if entries.is_empty() {
                return all;
            }
            assert!(entries.len() <= 100);
            all.extend(entries);
        }
    }
}

/// A template of that name, built.
pub(crate) async fn built(world: &World, name: &str) -> Asked {
    let asked = Asked::named(world, name).await;
    asked.start(world, json!({"fromTemplate": "base"})).await;
    asked.wait(world, "ready").await;
    asked
}

fn run(command: &str) -> Value {
    json!({"type": "RUN", "args": [command], "force": false})
}

#[tokio::test]
async fn a_build_waits_is_made_and_makes_sandboxes() {
    let world = World::new().await;
    let body = json!({"name": "mine:v1", "tags": ["Stable"], "cpuCount": 3, "memoryMB": 1024,
        "teamID": "ignored"});
    let answer = world.post("/v3/templates", body).await.ok(202).json();
    assert_eq!(answer["names"], json!(["default/mine"]));
    assert_eq!((&answer["aliases"], &answer["public"]), (&json!(["mine"]), &json!(false)));
    assert_eq!(answer["tags"], json!(["v1", "stable"]));
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    let asked = Asked { template: text("templateID"), build: text("buildID") };
    let waiting = asked.status(&world).await;
    assert_eq!((&waiting["status"], &waiting["logs"]), (&json!("waiting"), &json!([])));
    assert_eq!(waiting["logEntries"], json!([]));
    world.builder.does(Does::Wait);
    let start = json!({"fromTemplate": "base", "startCmd": "serve", "readyCmd": "", "force": true,
        "steps": [run("echo"), {"type": "ENV", "args": ["A", "1"], "force": true, "gzip": true}]});
    world.post(&asked.path(), start.clone()).await.ok(202);
    assert_eq!(asked.status(&world).await["status"], "building");
    world.post(&asked.path(), start).await.error(400, "only one that waits");
    world.post("/v2/sandboxes", json!({"templateID": "mine:v1"})).await.error(404, "v1");
    world.builder.release();
    let ready = asked.wait(&world, "ready").await;
    assert!(ready["reason"].is_null(), "{ready}");
    let order = world.builder.last_order();
    assert_eq!(order.start.as_deref(), Some("serve"));
    assert_eq!((order.ready, order.force), (None, true));
    let echo = StepKind::Run { command: "echo".to_owned(), user: None };
    let env = StepKind::Env(vec![("A".to_owned(), "1".to_owned())]);
    assert_eq!(order.steps, [Step { kind: echo, force: false }, Step { kind: env, force: true }]);
    assert!(order.sandbox.access_token.is_some() && order.sandbox.network.traffic_token.is_some());
    let id = world.made(json!({"templateID": "mine:v1"})).await;
    let made = world.node.last_created();
    assert_eq!(made.id.as_str(), id);
    assert_eq!(made.build, asked.build);
    assert_eq!(made.config.start.as_deref(), Some("serve"));
    assert_eq!((made.limits.cpu_millis(), made.limits.memory_mib()), (3_000, 1_024));
    let listed = world.get("/templates/mine").await.ok(200).json();
    assert_eq!((&listed["spawnCount"], &listed["buildCount"]), (&json!(1), &json!(1)));
    assert_eq!(listed["builds"][0]["buildID"], asked.build);
    world.made(json!({"templateID": format!("mine:{}", asked.build)})).await;
    world.post("/v2/sandboxes", json!({"templateID": "mine"})).await.error(404, "stable, v1");
}

#[tokio::test]
async fn a_failed_step_is_told_with_its_words_its_number_and_the_end_of_its_log() {
    let world = World::new().await;
    world.builder.does(Does::Fail(250));
    let asked = Asked::named(&world, "broken").await;
    asked.start(&world, json!({"steps": [run("true"), run("make")]})).await;
    let failed = asked.wait(&world, "error").await;
    assert_eq!(failed["reason"]["message"], "failed to run command 'make': exit status 2");
    assert_eq!(failed["reason"]["step"], "2");
    let last = failed["reason"]["logEntries"].as_array().unwrap();
    assert_eq!(last.len(), 20);
    assert_eq!(last[18]["message"], "line 249");
    assert_eq!((&last[19]["level"], &last[19]["step"]), (&json!("error"), &json!("2")));
    let log = asked.log(&world).await;
    assert_eq!(log.len(), 252);
    assert_eq!((&log[0]["message"], &log[0]["step"]), (&json!("the base"), &json!("base")));
    assert_eq!(log[0]["timestamp"], "1970-01-01T00:00:01Z");
    // With a level, the offset counts what that level shows.
    let path = asked.status_path();
    let grave = world.get(&format!("{path}?level=warn")).await.ok(200).json();
    assert_eq!(grave["logEntries"].as_array().unwrap().len(), 1);
    let after = world.get(&format!("{path}?level=warn&logsOffset=1")).await.ok(200).json();
    assert_eq!(after["logEntries"], json!([]));
    world.get(&format!("{path}?limit=101")).await.error(400, "limit");
    world.get(&format!("{path}?logsOffset=-1")).await.error(400, "");
    world.get("/templates/aliases/broken:default").await.error(404, "no build of it is ready");
    world.get("/templates/aliases/broken").await.ok(200);
}

#[tokio::test]
async fn a_log_is_read_from_a_time_on_and_backwards() {
    let world = World::new().await;
    let asked = built(&world, "mine").await;
    let path = format!("/templates/{}/builds/{}/logs", asked.template, asked.build);
    let messages = async |query: &str| {
        let logs = world.get(&format!("{path}?{query}")).await.ok(200).json();
        let list = logs["logs"].as_array().unwrap().clone();
        list.iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(messages("").await, ["the base", "done"]);
    assert_eq!(messages("direction=backward").await, ["done", "the base"]);
    assert_eq!(messages("direction=backward&limit=1&level=info").await, ["done"]);
    assert_eq!(messages("cursor=1000").await, ["the base", "done"]);
    assert_eq!(messages("cursor=1001").await, Vec::<String>::new());
    assert_eq!(messages("cursor=999&direction=backward").await, Vec::<String>::new());
    assert_eq!(messages("cursor=1000&direction=backward").await, ["done", "the base"]);
    world.get(&format!("{path}?direction=up")).await.error(400, "");
}

#[tokio::test]
async fn a_node_that_fails_tells_its_log_and_not_the_client() {
    let world = World::new().await;
    for (does, message) in [
        (Does::Full, "no room for the build: memory"),
        (Does::Break, "the node failed; the server's log says why"),
        (Does::Panic, "the server failed; its log says why"),
    ] {
        world.builder.does(does);
        let asked = Asked::named(&world, "unlucky").await;
        asked.start(&world, json!({})).await;
        let failed = asked.wait(&world, "error").await;
        assert_eq!(failed["reason"], json!({"message": message}), "{does:?}");
        let log = asked.log(&world).await;
        assert_eq!(log.last().unwrap()["message"], message);
        assert_eq!(log.last().unwrap()["level"], "error");
    }
    assert!(world.builder.kept().is_empty());
}

#[tokio::test]
async fn a_cancelled_build_ends_at_once_and_keeps_its_tag_where_it_was() {
    let world = World::new().await;
    let first = built(&world, "mine").await;
    world.builder.does(Does::Wait);
    let second = Asked::named(&world, "mine").await;
    second.start(&world, json!({"fromTemplate": "base"})).await;
    second.wait(&world, "building").await;
    let cancel = format!("/v1/builds/{}/cancel", second.build);
    world.call("POST", &cancel, None).await.ok(204);
    let ended = second.status(&world).await;
    assert_eq!(
        (&ended["status"], &ended["reason"]["message"]),
        (&json!("error"), &json!("the build was cancelled"))
    );
    assert_eq!(world.builder.under_way(), 0);
    assert_eq!(world.builder.kept(), std::slice::from_ref(&first.build));
    world.call("POST", &cancel, None).await.error(409, "error");
    let tags = world.get("/templates/mine/tags").await.ok(200).json();
    assert_eq!(tags[0]["buildID"], first.build);
    // One that waits can be cancelled too, and is not started then.
    let third = Asked::named(&world, "mine").await;
    world.call("POST", &format!("/v1/builds/{}/cancel", third.build), None).await.ok(204);
    world.post(&third.path(), json!({})).await.error(400, "is error");
    for id in ["nope", "00000000-0000-4000-8000-000000000000"] {
        world.call("POST", &format!("/v1/builds/{id}/cancel"), None).await.error(404, id);
    }
    let id = second.build.clone();
    let world = world.of_another_project().await;
    world.call("POST", &format!("/v1/builds/{id}/cancel"), None).await.error(404, &id);
}

#[tokio::test]
async fn what_was_being_built_when_the_server_went_has_failed_and_what_waited_waits() {
    let world = World::new().await;
    world.builder.does(Does::Wait);
    let waiting = Asked::named(&world, "mine").await;
    let building = Asked::named(&world, "mine").await;
    building.start(&world, json!({})).await;
    building.wait(&world, "building").await;
    world.builder.plant("nobody-knows-it");
    let world = world.crash_and_restart().await;
    let ended = building.status(&world).await;
    assert_eq!(ended["status"], "error");
    let message = ended["reason"]["message"].as_str().unwrap();
    assert!(message.contains("server was stopped"), "{message}");
    assert_eq!(waiting.status(&world).await["status"], "waiting");
    assert!(world.builder.kept().is_empty());
    world.builder.does(Does::Work);
    waiting.start(&world, json!({})).await;
    waiting.wait(&world, "ready").await;
    let world = world.crash_and_restart().await;
    assert_eq!(world.builder.kept(), [waiting.build]);
}

#[tokio::test]
async fn a_server_that_drains_ends_builds_and_takes_no_new_ones() {
    let world = World::new().await;
    world.builder.does(Does::Wait);
    let (building, late) = (Asked::named(&world, "a").await, Asked::named(&world, "b").await);
    building.start(&world, json!({})).await;
    world.server.begin_drain();
    let ended = building.wait(&world, "error").await;
    assert!(ended["reason"]["message"].as_str().unwrap().contains("shut down"), "{ended}");
    world.post(&late.path(), json!({})).await.error(503, "shutting down");
}

#[tokio::test]
async fn only_so_many_builds_are_made_at_once_and_wait_at_all() {
    let world = World::with(Config { builds_at_once: 1, builds_max: 2, ..config() }).await;
    world.builder.does(Does::Wait);
    let mut asked = Vec::new();
    for number in 0..2 {
        let build = Asked::named(&world, &format!("t{number}")).await;
        build.start(&world, json!({})).await;
        build.wait(&world, "building").await;
        asked.push(build);
    }
    let third = Asked::named(&world, "t2").await;
    world.post(&third.path(), json!({})).await.error(429, "2 builds");
    assert_eq!(third.status(&world).await["status"], "waiting");
    // Of those that are never started, the newest are kept.
    let fourth = Asked::named(&world, "t3").await;
    Asked::named(&world, "t4").await;
    let dropped = third.status(&world).await;
    assert!(dropped["reason"]["message"].as_str().unwrap().contains("never started"), "{dropped}");
    assert_eq!(fourth.status(&world).await["status"], "waiting");
    assert_eq!(world.builder.orders(), 1);
    world.builder.release();
    for build in asked {
        build.wait(&world, "ready").await;
    }
}

#[tokio::test]
async fn of_two_builds_of_one_tag_the_newer_request_counts() {
    let world = World::new().await;
    world.builder.does(Does::Wait);
    let older = Asked::named(&world, "mine").await;
    older.start(&world, json!({})).await;
    older.wait(&world, "building").await;
    world.builder.does(Does::Work);
    let newer = built(&world, "mine").await;
    world.builder.release();
    older.wait(&world, "ready").await;
    let tags = world.get("/templates/mine/tags").await.ok(200).json();
    assert_eq!(tags.as_array().unwrap().len(), 1);
    assert_eq!(tags[0]["buildID"], newer.build);
}

#[tokio::test]
async fn a_build_starts_from_what_it_says_and_e2bs_own_images_are_ours() {
    let world = World::new().await;
    let order = async |body: Value| {
        let asked = Asked::named(&world, "mine").await;
        asked.start(&world, body).await;
        asked.wait(&world, "ready").await;
        world.builder.last_order()
    };
    let base = |source: &BuildSource| match source {
        BuildSource::Build { build, config } => {
            assert_eq!(*config, BuildConfig::default());
            build.clone()
        }
        BuildSource::Image { reference, login } => format!("{reference} {}", login.is_some()),
    };
    for body in [
        json!({}),
        json!({"fromImage": "e2bdev/base"}),
        json!({"fromImage": "docker.io/e2bdev/base:latest"}),
        json!({"fromImage": "e2bdev/code-interpreter@sha256:00"}),
        json!({"fromTemplate": "base:default"}),
    ] {
        assert_eq!(base(&order(body.clone()).await.source), "base-1", "{body}");
    }
    assert_eq!(base(&order(json!({"fromImage": "python:3"})).await.source), "python:3 false");
    assert_eq!(
        base(&order(json!({"fromImage": "e2bdev/desktop"})).await.source),
        "e2bdev/desktop false"
    );
    for (registry, user) in [
        (json!({"type": "registry", "username": "me", "password": "canary"}), "me"),
        (json!({"type": "gcp", "serviceAccountJson": "canary"}), "_json_key"),
    ] {
        let body = json!({"fromImage": "r.example/a", "fromImageRegistry": registry});
        let BuildSource::Image { login: Some(login), .. } = order(body).await.source else {
            panic!("no login for {user}");
        };
        assert_eq!((login.user.as_str(), login.password.expose()), (user, &b"canary"[..]));
    }
    let database = world.database();
    assert!(!database.windows(6).any(|bytes| bytes == b"canary"), "a password was written down");
}

#[tokio::test]
async fn what_is_wrong_with_a_build_is_said_and_it_waits_as_before() {
    let world = World::new().await;
    let asked = Asked::named(&world, "mine").await;
    let hash = "a".repeat(64);
    for (body, status, part) in [
        (json!({"fromImage": "a", "fromTemplate": "base"}), 400, "not both"),
        (json!({"fromImage": "a b"}), 400, "no reference"),
        (json!({"fromTemplate": "nope"}), 404, "nope"),
        (json!({"fromTemplate": "base:v9"}), 404, "its tags: default"),
        (json!({"fromTemplate": "a/b/c"}), 400, "Invalid"),
        (
            json!({"fromImage": "a", "fromImageRegistry": {"type": "aws", "awsRegion": "r"}}),
            400,
            "ecr get-login-password",
        ),
        (json!({"fromImageRegistry": {"type": "other"}}), 400, "other"),
        (json!({"startCmd": "a\u{0}"}), 400, "startCmd"),
        (json!({"steps": [run("a"), {"type": "VOLUME", "args": ["/a"]}]}), 400, "step 2 (VOLUME)"),
        (
            json!({"steps": [{"type": "COPY", "args": ["a", "b"], "filesHash": hash}]}),
            400,
            "step 1 (COPY): the files aaaa",
        ),
        (json!({"steps": [{"args": []}]}), 400, "type"),
        (json!({"steps": "RUN"}), 400, "sequence"),
    ] {
        world.post(&asked.path(), body.clone()).await.error(status, part);
    }
    assert_eq!(asked.status(&world).await["status"], "waiting");
    assert_eq!(world.builder.orders(), 0);
    for (body, part) in [
        (json!({}), "name"),
        (json!({"name": "a b"}), "Invalid"),
        (json!({"name": "other/mine"}), "namespace"),
        (json!({"name": "mine", "tags": ["a b"]}), "Invalid tag"),
        (json!({"name": "mine", "tags": ["00000000-0000-4000-8000-000000000000"]}), "Invalid tag"),
        (json!({"name": "mine", "cpuCount": 0}), "cpuCount"),
        (json!({"name": "mine", "memoryMB": 1}), "memory_mib"),
        (json!({"name": "mine", "cpuCount": -1}), "-1"),
    ] {
        world.post("/v3/templates", body.clone()).await.error(400, part);
    }
    let foreign = world.of_another_project().await;
    foreign.post(&asked.path(), json!({})).await.error(404, &asked.template);
    foreign.get(&asked.status_path()).await.error(404, &asked.template);
}

#[tokio::test]
async fn what_images_that_are_pushed_would_need_is_not_there_and_says_so() {
    let world = World::new().await;
    for path in ["/templates", "/v2/templates", "/templates/x", "/templates/x/builds/y"] {
        world.post(path, json!({})).await.error(501, "POST /v3/templates");
    }
}

#[tokio::test]
async fn the_steps_reach_what_the_operator_says_under_the_bound_of_the_base() {
    let world = World::new().await;
    let bound = json!({"rules": [{"allow": "api.test"}]});
    world.bounded(bound.clone()).await;
    let asked = Asked::named(&world, "mine").await;
    asked.start(&world, json!({"fromTemplate": "bounded"})).await;
    asked.wait(&world, "ready").await;
    let order = world.builder.last_order();
    let layers = serde_json::to_value(&order.sandbox.network.egress).unwrap();
    assert_eq!(layers[0]["policy"]["rules"], bound["rules"], "{layers}");
    assert_eq!(layers[1]["policy"]["rules"], json!([{"allow": "mirror.test"}]), "{layers}");
    assert!(order.sandbox.env.contains_key("PIP_INDEX_URL"));
    assert_eq!(order.sandbox.files.len(), 1);
    // What is made from such a base is bound as the base was.
    world.made(json!({"templateID": "mine"})).await;
    let made = serde_json::to_value(world.node.last_created().network.egress).unwrap();
    assert_eq!(made[0]["policy"]["rules"], bound["rules"]);
    let beyond = json!({"templateID": "mine", "network": {"allowOut": ["else.test"]}});
    world.post("/v2/sandboxes", beyond).await.error(400, "does not allow that much");

    let world = World::with(Config { build_egress: BuildEgress::Internet, ..config() }).await;
    built(&world, "mine").await;
    let layers = serde_json::to_value(&world.builder.last_order().sandbox.network.egress).unwrap();
    assert_eq!(layers[0]["policy"]["rules"], json!([{"allow": "internet"}]));
}

#[tokio::test]
async fn a_mirrors_password_is_given_to_a_build_while_it_is_made_and_not_after() {
    use courier_protocol::node::Secrets as _;
    let world = World::new().await;
    world.builder.does(Does::Wait);
    let asked = Asked::named(&world, "mine").await;
    asked.start(&world, json!({})).await;
    asked.wait(&world, "building").await;
    let waited = async {
        while world.builder.orders() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap();
    let sandbox = world.builder.last_order().sandbox.id;
    let (secrets, name) = (world.secrets().await, "preset.pypi".parse().unwrap());
    assert!(secrets.secret(&sandbox, &name).await.is_ok());
    world.builder.release();
    asked.wait(&world, "ready").await;
    assert!(secrets.secret(&sandbox, &name).await.is_err());
}

#[tokio::test]
async fn the_sweep_leaves_a_builds_sandbox_alone_and_ends_what_is_lost() {
    let world = World::with(Config { sweep_every: Duration::from_millis(20), ..config() }).await;
    world.builder.does(Does::Wait);
    let asked = Asked::named(&world, "mine").await;
    asked.start(&world, json!({})).await;
    let waited = async {
        while world.builder.orders() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap();
    let steps = world.builder.last_order().sandbox;
    world.node.plant(steps.clone());
    let stray = crate::restart::spec(7, Duration::from_mins(5));
    world.node.plant(stray);
    world.wait_for_alive(1).await;
    assert_eq!(world.node.alive(), [steps.id]);
    world.builder.release();
    asked.wait(&world, "ready").await;
    world.wait_for_alive(0).await;
}

#[tokio::test]
async fn superseded_builds_go_beyond_the_newest_ten_but_not_under_a_sandbox() {
    let world = World::with(Config { sweep_every: Duration::from_millis(50), ..config() }).await;
    let first = built(&world, "mine").await;
    world.made(json!({"templateID": "mine"})).await;
    let second = built(&world, "mine").await;
    for _ in 0..11 {
        built(&world, "mine").await;
    }
    let waited = async {
        while world.builder.kept().contains(&second.build) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap();
    assert!(world.builder.kept().contains(&first.build));
    // One that a sandbox runs from, one with a tag, and ten others.
    assert_eq!(world.builder.kept().len(), 12);
    let detail = world.get("/templates/mine").await.ok(200).json();
    assert_eq!(detail["builds"].as_array().unwrap().len(), 12);
    assert_eq!(detail["buildCount"], 13);
}

#[tokio::test]
async fn a_build_that_nobody_starts_or_makes_ends() {
    let world = World::with(Config { sweep_every: Duration::from_millis(20), ..config() }).await;
    let asked = Asked::named(&world, "mine").await;
    // A row of a server whose last word could not be written down.
    let id = asked.build.parse().unwrap();
    let started = courier_store::StartedBuild {
        sandbox_id: courier_types::SandboxId::from_random([5; 20]),
        secret_names: Vec::new(),
        egress: None,
    };
    let old = Timestamp::from_micros(1);
    assert!(world.store.start_build(&id, &started, 10, old).await.unwrap());
    let ended = asked.wait(&world, "error").await;
    assert!(ended["reason"]["message"].as_str().unwrap().contains("lost"), "{ended}");
}
