//! Connect frames that lie.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use courier_tests::connect::{END, frame, lying_frame, read_frame};
use courier_tests::http::{Send, raw};
use courier_tests::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::World;

/// Streams that are opened and never continued.
const IDLE: usize = 64;

const STREAM: &str = "application/connect+json";

/// Sends a body to `Start` and gives the error that ends it.
fn error_of(world: &World, sandbox: &Sandbox<'_>, kind: &str, body: Vec<u8>) -> Value {
    let request = sandbox.request("POST", "/process.Process/Start").body(kind, body);
    let mut answer = request.open(world.server.address).expect("it answers");
    if answer.status != 200 {
        let whole = answer.whole().expect("an error is whole");
        return serde_json::from_slice(&whole.body).unwrap_or(json!({"status": whole.status}));
    }
    while let Some((flags, message)) = read_frame(&mut answer).expect("frames are whole") {
        if flags & END != 0 {
            return message["error"].clone();
        }
    }
    Value::Null
}

fn start() -> Vec<u8> {
    let process = json!({"cmd": "/bin/true", "args": []});
    json!({"process": process}).to_string().into_bytes()
}

#[track_caller]
fn assert_refused(world: &World, sandbox: &Sandbox<'_>, kind: &str, body: Vec<u8>) {
    let shown: String = String::from_utf8_lossy(&body).chars().take(40).collect();
    let error = error_of(world, sandbox, kind, body);
    assert!(!error.is_null(), "{kind} {shown:?} was taken");
}

pub(crate) fn a_frame_that_lies_about_its_length_is_an_error(world: &World) {
    let sandbox = world.server.sandbox(120);
    let good = error_of(world, &sandbox, STREAM, frame(0, &start()));
    assert_eq!(good, Value::Null, "the control: an honest frame is taken");
    let size = u32::try_from(start().len()).expect("small");
    for body in [
        lying_frame(0, size + 1, &start()),
        lying_frame(0, size - 1, &start()),
        lying_frame(0, u32::MAX, &start()),
        lying_frame(0, 0, b""),
        vec![0],
        vec![0, 0, 0],
        Vec::new(),
    ] {
        assert_refused(world, &sandbox, STREAM, body);
    }
    assert_eq!(sandbox.sh("echo alive").out(), "alive");
    sandbox.kill();
}

pub(crate) fn a_frame_with_unknown_flags_or_no_json_is_an_error(world: &World) {
    let sandbox = world.server.sandbox(120);
    for flags in [0x01, 0x04, 0x80, 0xff] {
        assert_refused(world, &sandbox, STREAM, frame(flags, &start()));
    }
    for payload in [&b"not json"[..], b"{", b"[]", b"\xff\xfe", b"{\"process\": 5}", b"null"] {
        assert_refused(world, &sandbox, STREAM, frame(0, payload));
    }
    let deep = format!("{{\"process\":{}", "[".repeat(50_000));
    assert_refused(world, &sandbox, STREAM, frame(0, deep.as_bytes()));
    assert_refused(world, &sandbox, STREAM, frame(0, b"{\"process\": {\"cmd\": \"a\\u0000b\"}}"));
    assert_refused(world, &sandbox, "application/connect+proto", frame(0, &[0xff; 64]));
    assert_eq!(sandbox.sh("echo alive").out(), "alive");
    sandbox.kill();
}

pub(crate) fn an_endless_frame_is_refused_before_it_is_read(world: &World) {
    let sandbox = world.server.sandbox(120);
    let request = sandbox
        .request("POST", "/process.Process/Start")
        .header("Transfer-Encoding", "chunked")
        .header("Content-Type", STREAM);
    let mut bytes = request.bytes(world.server.address);
    bytes.extend(format!("{:x}\r\n", 1 << 30).bytes());
    bytes.extend(lying_frame(0, 1 << 30, b""));
    bytes.extend(vec![b'x'; 32 << 20]);
    let answer = raw(world.server.address, &bytes, Send::Shutdown).expect("it answers or closes");
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.is_empty() || text.contains("error") || text.starts_with("HTTP/1.1 4"), "{text}");
    assert_eq!(sandbox.sh("echo alive").out(), "alive");
    sandbox.kill();
}

pub(crate) fn a_stream_that_never_comes_costs_nobody_anything(world: &World) {
    let sandbox = world.server.sandbox(120);
    let request = sandbox
        .request("POST", "/process.Process/Start")
        .header("Content-Type", STREAM)
        .header("Content-Length", "100000");
    let head = request.bytes(world.server.address);
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|_| {
            let mut stream = TcpStream::connect(world.server.address).expect("it accepts");
            stream.write_all(&head).expect("it reads");
            stream
        })
        .collect();
    assert!(sandbox.heartbeat() < Duration::from_secs(5), "beside {} idle streams", idle.len());
    drop(idle);
    assert!(sandbox.heartbeat() < Duration::from_secs(5));
    sandbox.kill();
}

pub(crate) fn an_unknown_method_type_or_codec_is_an_error(world: &World) {
    let sandbox = world.server.sandbox(120);
    sandbox.call("process.Process/Explode", &json!({})).assert_status(501);
    let get = sandbox.request("GET", "/process.Process/List").send(world.server.address);
    assert!(matches!(get.status, 404 | 405 | 415), "{}", get.status);
    for kind in ["text/html", "application/connect+yaml", "application/json; charset=utf-7", ""] {
        let request =
            sandbox.request("POST", "/process.Process/Start").body(kind, frame(0, &start()));
        let status = request.send(world.server.address).status;
        assert!((400..500).contains(&status), "{kind:?}: {status}");
    }
    for body in [json!({"process": {"pid": -1}}), json!({"process": {"pid": "x"}}), json!(5)] {
        let answer = sandbox.call("process.Process/SendSignal", &body);
        assert!((400..500).contains(&answer.status), "{body}: {}", answer.text());
    }
    let unknown_field = sandbox.call("process.Process/List", &json!({"unknown": {"field": 1}}));
    unknown_field.assert_status(200);
    sandbox.kill();
}
