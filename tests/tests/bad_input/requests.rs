//! Requests of the control plane and of the file API.

use courier_tests::http::{Request, Send, raw};
use courier_tests::sandbox::escape;
use serde_json::{Value, json};

use crate::World;

/// Larger than any body of the control plane may be.
const TOO_LARGE: usize = 64 << 20;

pub(crate) fn an_unknown_template_language_or_sandbox_is_named_in_the_answer(world: &World) {
    let server = &world.server;
    let create = |template: &str| {
        server.call("POST", "/v2/sandboxes", Some(&json!({"templateID": template, "timeout": 60})))
    };
    create("no-such-template").assert_error(404, "no-such-template");
    for malformed in ["", "UPPER case", "../base", "a/b/c", "base:", "base\u{0}"] {
        let answer = create(malformed);
        assert!(matches!(answer.status, 400 | 404), "{malformed:?}: {}", answer.text());
    }
    let execute = json!({"language": "cobol", "code": "x"});
    let answer = server.call("POST", "/v1/executions", Some(&execute));
    answer.assert_error(400, "python");
    for id in ["i00000000000000000000", "debug_sandbox_id", "..%2f..%2fetc", "i%00"] {
        for (method, path) in [
            ("GET", format!("/sandboxes/{id}")),
            ("DELETE", format!("/sandboxes/{id}")),
            ("GET", format!("/v1/sandboxes/{id}")),
        ] {
            let answer = server.call(method, &path, None);
            assert!(matches!(answer.status, 400 | 404), "{method} {path}: {}", answer.text());
            assert_eq!(answer.json()["code"], u64::from(answer.status), "{method} {path}");
        }
    }
    let unknown = server.call("GET", "/not/there", None);
    unknown.assert_error(404, "");
}

pub(crate) fn a_limit_or_timeout_out_of_range_is_told_with_the_range(world: &World) {
    for (limits, part) in [
        (json!({"memory_mib": 1}), "64"),
        (json!({"memory_mib": 99_999_999_u64}), "1048576"),
        (json!({"pids": 0}), "16"),
        (json!({"disk_mib": 1}), "16"),
        (json!({"cpu_millis": 1}), "100"),
        (json!({"open_files": 1}), "64"),
    ] {
        let body = json!({"language": "python", "code": "print(1)", "limits": limits});
        world.server.call("POST", "/v1/executions", Some(&body)).assert_error(400, part);
    }
    for timeout in [json!(0), json!(-1), json!(1e18)] {
        let body = json!({"templateID": "base", "timeout": timeout});
        let answer = world.server.call("POST", "/v2/sandboxes", Some(&body));
        answer.assert_error(400, "timeout");
    }
    let body = json!({"language": "python", "code": "1", "timeout_ms": 0});
    world.server.call("POST", "/v1/executions", Some(&body)).assert_error(400, "timeout");
    for query in ["limit=0", "limit=101", "limit=x", "nextToken=x", "order=up", "state=happy"] {
        let answer = world.server.call("GET", &format!("/v2/sandboxes?{query}"), None);
        answer.assert_error(400, "");
    }
}

pub(crate) fn a_body_that_is_no_json_no_text_or_has_unknown_fields_is_refused(world: &World) {
    let deep = "[".repeat(100_000);
    let twice = br#"{"language":"python","language":"bash","code":"1"}"#;
    for body in [
        &b""[..],
        b"not json",
        b"{",
        b"[]",
        b"null",
        b"{\"code\": \"\xff\xfe\"}",
        b"{\"timeout\": 1e999}",
        deep.as_bytes(),
        twice,
    ] {
        for path in ["/v2/sandboxes", "/v1/executions", "/v1/sandboxes"] {
            let request = world.server.request("POST", path).body("application/json", body);
            let answer = request.send(world.server.address);
            let shown: String = String::from_utf8_lossy(body).chars().take(30).collect();
            assert!(matches!(answer.status, 400 | 422), "{path} {shown:?}: {}", answer.text());
        }
    }
    let unknown = json!({"language": "python", "code": "1", "memory": 5});
    world.server.call("POST", "/v1/executions", Some(&unknown)).assert_error(400, "memory");
    let request = world.server.request("POST", "/v1/executions").body("text/plain", "x");
    let answer = request.send(world.server.address);
    assert!(matches!(answer.status, 400 | 415), "{}", answer.text());
}

pub(crate) fn a_body_that_is_too_large_or_cut_off_is_refused(world: &World) {
    let body = json!({"language": "python", "code": "x".repeat(TOO_LARGE)});
    let request = world.server.request("POST", "/v1/executions").json(&body);
    // The server may hang up as soon as it has seen enough.
    match request.open(world.server.address).and_then(|answer| answer.whole()) {
        Ok(answer) => drop(answer.assert_status(413)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    let short = world.server.request("POST", "/v2/sandboxes").header("Content-Length", "1000");
    let bytes = [&short.bytes(world.server.address)[..], b"{\"templateID\": \"base\""].concat();
    let before = world.server.running();
    let answer = raw(world.server.address, &bytes, Send::Shutdown).expect("it answers or closes");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(world.server.running(), before);
}

pub(crate) fn a_malformed_request_line_or_header_is_refused(world: &World) {
    let address = world.server.address;
    let endless = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(2 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100_000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(2 << 20));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"POST /v2/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /v2/sandboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nBad Header\r\n\r\n",
        endless.as_bytes(),
        many.as_bytes(),
        long.as_bytes(),
    ] {
        let answer = raw(address, bytes, Send::Shutdown).expect("it answers or closes");
        let shown = String::from_utf8_lossy(&answer).into_owned();
        assert!(shown.is_empty() || shown.starts_with("HTTP/1.1 4"), "{shown}");
    }
}

pub(crate) fn a_file_path_that_cannot_be_is_refused(world: &World) {
    let sandbox = world.server.sandbox(120);
    for path in [String::new(), "x".repeat(300), "a/".repeat(5_000), "a\u{0}b".to_owned()] {
        let target = format!("/files?path={}&username=user", escape(&path));
        let answer = sandbox.request("POST", &target).body("application/octet-stream", "x");
        let answer = answer.send(world.server.address);
        assert!(
            (400..500).contains(&answer.status),
            "{path:.20}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(answer.json()["code"], u64::from(answer.status));
    }
    let rpc =
        |method: &str, body: Value| sandbox.call(&format!("filesystem.Filesystem/{method}"), &body);
    let stat = rpc("Stat", json!({"path": "/not/there"}));
    stat.assert_status(404);
    assert_eq!(stat.json()["code"], "not_found");
    let list = rpc("ListDir", json!({"path": "/etc/passwd", "depth": 1}));
    assert_eq!((list.status, list.json()["code"].clone()), (400, "invalid_argument".into()));
    let made = rpc("MakeDir", json!({"path": "/etc/passwd"}));
    assert_eq!((made.status, made.json()["code"].clone()), (400, "invalid_argument".into()));
    let user = sandbox.request("GET", "/files?path=x&username=nobody-known");
    user.send(world.server.address).assert_error(401, "nobody-known");
    sandbox.kill();
}

pub(crate) fn an_upload_that_is_malformed_is_refused(world: &World) {
    let sandbox = world.server.sandbox(120);
    let form = |text: &str| text.replace('\n', "\r\n");
    let part = "--b\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\n\nx\n";
    for (kind, body) in [
        ("multipart/form-data", form(part)),
        ("multipart/form-data; boundary=b", String::new()),
        ("multipart/form-data; boundary=b", form(part)),
        ("multipart/form-data; boundary=b", form("--b\nno colon here\n\nx\n--b--\n")),
        ("multipart/form-data; boundary=b", form(&format!("{part}{part}--b--\n"))),
        ("multipart/form-data; boundary=b", format!("--b\r\n{}", "A: b\r\n".repeat(50_000))),
    ] {
        let request = sandbox.request("POST", "/files?username=user").body(kind, body.clone());
        let answer = request.send(world.server.address);
        assert!((400..500).contains(&answer.status), "{kind} {body:.40}: {}", answer.text());
    }
    let whole = form(&format!("{part}--b--\n"));
    let request = sandbox.request("POST", "/files?username=user");
    let answer = request.body("multipart/form-data; boundary=b", whole).send(world.server.address);
    answer.assert_status(200);
    assert_eq!(sandbox.read("a.txt").text(), "x", "the control: a good form is taken");
    let gzip = sandbox
        .request("POST", "/files?path=z&username=user")
        .header("Content-Encoding", "gzip")
        .body("application/octet-stream", "this is not gzip");
    let answer = gzip.send(world.server.address);
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    assert_eq!(sandbox.sh("echo alive").out(), "alive");
    sandbox.kill();
}

pub(crate) fn after_all_that_the_server_still_works(world: &World) {
    let health = Request::new("GET", "/health").send(world.server.address);
    assert!((200..300).contains(&health.status));
    let sandbox = world.server.sandbox(60);
    assert_eq!(sandbox.sh("echo alive").out(), "alive");
    sandbox.kill();
    let document = Request::new("GET", "/openapi.json").send(world.server.address);
    let document = document.assert_status(200).json();
    assert!(document["paths"]["/v1/executions"]["post"].is_object(), "{document}");
}
