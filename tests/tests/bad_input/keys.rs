//! Keys, tokens and signatures.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use courier_tests::http::{Request, Whole};
use courier_tests::sandbox::Sandbox;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::World;

pub(crate) fn a_missing_wrong_or_malformed_key_is_refused_everywhere(world: &World) {
    let right = &world.server.key;
    let wrong = format!("e2b_{}", "0".repeat(40));
    let cut: String = right.chars().take(right.len() - 1).collect();
    let long = format!("{right}0");
    let keys = [None, Some(""), Some("x"), Some(&*wrong), Some(&*cut), Some(&*long)];
    for (method, path) in [
        ("GET", "/v2/sandboxes"),
        ("POST", "/v2/sandboxes"),
        ("GET", "/sandboxes/i00000000000000000000"),
        ("DELETE", "/sandboxes/i00000000000000000000"),
        ("POST", "/v1/executions"),
        ("GET", "/v1/sandboxes"),
    ] {
        for key in keys {
            let mut request = Request::new(method, path);
            if let Some(key) = key {
                request = request.header("X-API-Key", key);
            }
            let body = json!({"templateID": "base", "language": "python", "code": "1"});
            request.json(&body).send(world.server.address).assert_error(401, "key");
        }
    }
    world.server.call("GET", "/v2/sandboxes", None).assert_status(200);
}

pub(crate) fn a_token_opens_only_its_own_sandbox(world: &World) {
    let (first, second) = (world.server.sandbox(120), world.server.sandbox(120));
    first.write("mine.txt", b"mine");
    let attempt = |sandbox: &Sandbox<'_>, token: Option<&str>| {
        let request = Request::new("POST", "/process.Process/List")
            .header("E2b-Sandbox-Id", &sandbox.id)
            .header("E2b-Sandbox-Port", "49983")
            .header("Connect-Protocol-Version", "1")
            .json(&json!({}));
        let request = match token {
            Some(token) => request.header("X-Access-Token", token),
            None => request,
        };
        request.send(world.server.address)
    };
    attempt(&first, first.token.as_deref()).assert_status(200);
    for token in [None, Some(""), Some("x"), second.token.as_deref(), Some(&world.server.key)] {
        attempt(&first, token).assert_error(401, "unauthorized");
    }
    // A token dies with its sandbox.
    first.kill();
    attempt(&first, first.token.as_deref()).assert_error(502, "was not found");
    attempt(&second, second.token.as_deref()).assert_status(200);
    second.kill();
}

/// `GET /files` with a signature made by hand, without any other credential.
fn download(world: &World, sandbox: &Sandbox<'_>, path: &str, query: &str) -> Whole {
    Request::new("GET", &format!("/files?path={path}&username=user{query}"))
        .header("E2b-Sandbox-Id", &sandbox.id)
        .header("E2b-Sandbox-Port", "49983")
        .send(world.server.address)
}

fn signature(token: &str, path: &str, operation: &str, expiration: Option<u64>) -> String {
    let expiration = expiration.map(|at| format!(":{at}")).unwrap_or_default();
    let text = format!("{path}:{operation}:user:{token}{expiration}");
    format!("v1_{}", STANDARD_NO_PAD.encode(Sha256::digest(text.as_bytes())))
}

pub(crate) fn a_signature_opens_exactly_what_it_was_made_for(world: &World) {
    let sandbox = world.server.sandbox(120);
    let token = sandbox.token.clone().expect("v2 sandboxes are secured");
    sandbox.write("a.txt", b"content");
    let escape = |text: &str| text.replace('+', "%2B").replace('/', "%2F");
    let query = |signature: &str, expiration: Option<u64>| {
        let expiration = expiration.map(|at| format!("&signature_expiration={at}"));
        format!("&signature={}{}", escape(signature), expiration.unwrap_or_default())
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let good = signature(&token, "a.txt", "read", None);
    assert_eq!(download(world, &sandbox, "a.txt", &query(&good, None)).text(), "content");
    let later = Some(now + 60);
    let timed = signature(&token, "a.txt", "read", later);
    assert_eq!(download(world, &sandbox, "a.txt", &query(&timed, later)).text(), "content");
    let expired = Some(now - 10);
    let late = signature(&token, "a.txt", "read", expired);
    let answer = download(world, &sandbox, "a.txt", &query(&late, expired));
    assert_eq!(answer.json(), json!({"code": 401, "message": "signature is already expired"}));
    let write = signature(&token, "a.txt", "write", None);
    let foreign = signature("another token", "a.txt", "read", None);
    for (path, query) in [
        ("a.txt", String::new()),
        ("b.txt", query(&good, None)),
        ("./a.txt", query(&good, None)),
        ("a.txt", query(&good, later)),
        ("a.txt", query(&timed, Some(now + 61))),
        ("a.txt", query(&timed, None)),
        ("a.txt", query(&write, None)),
        ("a.txt", query(&foreign, None)),
        ("a.txt", query(&good.to_uppercase(), None)),
        ("a.txt", query("v1_", None)),
        ("a.txt", query("", None)),
        ("a.txt", format!("{}&signature_expiration=soon", query(&good, None))),
    ] {
        let answer = download(world, &sandbox, path, &query);
        assert!(matches!(answer.status, 400 | 401), "{path} {query}: {}", answer.text());
    }
    // A signature is for files only.
    let list = Request::new("POST", &format!("/process.Process/List?{}", query(&good, None)))
        .header("E2b-Sandbox-Id", &sandbox.id)
        .header("E2b-Sandbox-Port", "49983")
        .json(&json!({}));
    list.send(world.server.address).assert_error(401, "unauthorized");
    sandbox.kill();
}

pub(crate) fn paths_that_are_the_host_s_own_business_are_refused_from_outside(world: &World) {
    let sandbox = world.server.sandbox(120);
    for path in
        ["/init", "/freeze", "/unfreeze", "/upgrade", "/collapse", "//init", "/./init", "/%69nit"]
    {
        let body = json!({"accessToken": "stolen", "envVars": {"A": "b"}});
        let answer = sandbox.request("POST", path).json(&body).send(world.server.address);
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    assert_eq!(sandbox.sh("echo \"[$A]\"").out(), "[]");
    let only_id = Request::new("GET", "/health").header("E2b-Sandbox-Id", &sandbox.id);
    assert_eq!(only_id.send(world.server.address).status, 400, "one header of two");
    for port in ["0", "65536", "x", "-1", ""] {
        let request = Request::new("GET", "/health")
            .header("E2b-Sandbox-Id", &sandbox.id)
            .header("E2b-Sandbox-Port", port);
        let status = request.send(world.server.address).status;
        assert_eq!(status, 400, "port {port:?}");
    }
    sandbox.kill();
}
