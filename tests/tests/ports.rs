//! Servers of the user's own inside real sandboxes, reached through their ports.

#![expect(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, which no test expects"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use courier_tests::environment::Environment;
use courier_tests::http::{Answer, Request};
use courier_tests::sandbox::Sandbox;
use courier_tests::server::{Options, Server, courier};
use courier_tests::{program, suite, tests, wait};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a large body: more than every window and buffer on its way together.
const BIG: usize = 100 * 1024 * 1024;

/// A sandbox in which the servers of `probes/ports.py` listen.
struct Served<'a> {
    server: &'a Server,
    sandbox: Sandbox<'a>,
    token: Option<String>,
}

impl<'a> Served<'a> {
    #[track_caller]
    fn start(server: &'a Server) -> Self {
        Self::with(server, &json!({}))
    }

    #[track_caller]
    fn with(server: &'a Server, network: &Value) -> Self {
        let body = json!({"templateID": "base", "timeout": 300, "network": network});
        let answer = server.call("POST", "/v2/sandboxes", Some(&body));
        let answer = answer.assert_status(201);
        let token = answer.json()["trafficAccessToken"].as_str().map(str::to_owned);
        let sandbox = Sandbox::from_answer(server, answer);
        let probe = server.environment.sources.join("probes/ports.py");
        sandbox.write("/tmp/ports.py", &std::fs::read(probe).expect("the probe is there"));
        let key = rcgen::generate_simple_self_signed(vec!["inside.test".to_owned()])
            .expect("a certificate can be made");
        let pem = format!("{}{}", key.cert.pem(), key.signing_key.serialize_pem());
        sandbox.write("/tmp/server.pem", pem.as_bytes());
        let script = "cd /tmp; setsid python3 ports.py server.pem > ready 2> failed < /dev/null & \
                      while ! grep -q ready /tmp/ready; do sleep 0.05; done";
        sandbox.sh(script).assert_ok();
        Self { server, sandbox, token }
    }

    fn request(&self, method: &str, port: u16, target: &str) -> Request {
        let host = format!("{port}-{}.sandboxes.test", self.sandbox.id);
        let request = Request::new(method, target).header("Host", &host);
        match &self.token {
            Some(token) => request.header("e2b-traffic-access-token", token),
            None => request,
        }
    }

    #[track_caller]
    fn open(&self, port: u16, target: &str) -> Answer {
        self.request("GET", port, target).open(self.server.address).expect("the server answers")
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `/big` is.
fn big() -> Vec<u8> {
    (0..=255_u8).cycle().take(BIG).collect()
}

#[track_caller]
fn read_until(answer: &mut Answer, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut piece = [0; 1024];
        let count = answer.read(&mut piece).expect("the answer goes on");
        assert!(count > 0, "the end came before {text:?}");
        seen.extend_from_slice(&piece[..count]);
    }
}

fn servers_on_either_loopback_are_reached_by_host_name_and_by_headers(server: &Server) {
    let served = Served::start(server);
    for port in [8080, 8081] {
        let answer = served.request("GET", port, "/").send(server.address);
        assert_eq!(answer.assert_status(200).text(), "hello");
        assert_eq!(answer.header("set-cookie"), None, "its domain is not the sandbox's own");
    }
    let by_headers = Request::new("GET", "/headers")
        .header("E2b-Sandbox-Id", &served.sandbox.id)
        .header("E2b-Sandbox-Port", "8080")
        .header("X-Access-Token", "secret")
        .header("X-Forwarded-For", "10.0.0.1")
        .send(server.address);
    let seen = by_headers.assert_status(200).text();
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: http\n"), "{seen}");
    assert!(!seen.contains("secret") && !seen.contains("e2b-"), "{seen}");
    served.sandbox.kill();
}

fn a_port_that_is_not_open_is_told_to_programs_and_to_people(server: &Server) {
    let sandbox = server.sandbox(60);
    let ask = |accept: &str| {
        let host = format!("9999-{}.sandboxes.test", sandbox.id);
        let request = Request::new("GET", "/").header("Host", &host).header("Accept", accept);
        request.send(server.address)
    };
    let answer = ask("*/*");
    answer.assert_error(502, "The sandbox is running but port is not open");
    assert_eq!(answer.json()["port"], 9999);
    assert_eq!(answer.json()["sandboxId"], json!(sandbox.id));
    let page = ask("text/html,application/xhtml+xml");
    assert!(page.assert_status(502).text().starts_with("<!doctype html>"), "{}", page.text());
    sandbox.kill();
    ask("*/*").assert_error(502, "The sandbox was not found");
}

fn hundred_megabytes_pass_whole_both_ways(server: &Server) {
    let served = Served::start(server);
    let expected = digest(&big());
    let down = served.request("GET", 8080, "/big").send(server.address);
    assert_eq!(digest(&down.assert_status(200).body), expected);
    let up = served.request("POST", 8080, "/").body("application/octet-stream", big());
    assert_eq!(up.send(server.address).assert_status(200).text(), expected);
    assert!(served.sandbox.heartbeat() < PATIENCE, "the guest daemon goes on");
    served.sandbox.kill();
}

fn a_client_that_speaks_http_2_is_answered_in_it(server: &Server) {
    let served = Served::start(server);
    let host = format!("Host: 8080-{}.sandboxes.test", served.sandbox.id);
    let get = |path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--http2-prior-knowledge", "--header", &host]);
        curl.args(["--write-out", "%{stderr}HTTP/%{http_version} %{http_code}"]);
        curl.arg(format!("http://{}{path}", server.address));
        program::run(&mut curl, b"", PATIENCE)
    };
    let hello = get("/");
    assert_eq!((hello.assert_code(0).out(), hello.err()), ("hello".into(), "HTTP/2 200".into()));
    let all = get("/big");
    assert_eq!((all.assert_code(0).stdout.len(), all.err()), (BIG, "HTTP/2 200".into()));
    assert!(all.stdout == big(), "it is not what the server sent");
}

fn server_sent_events_come_one_by_one(server: &Server) {
    let served = Served::start(server);
    let mut answer = served.open(8080, "/events");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    for number in 0..3 {
        // The next event is made only when the one before has been seen here.
        served.sandbox.sh(&format!("touch /tmp/event-{number}")).assert_ok();
        read_until(&mut answer, &format!("data: {number}"));
    }
    served.sandbox.kill();
}

fn a_websocket_says_back_what_it_hears(server: &Server) {
    let served = Served::start(server);
    let mut client = TcpStream::connect(server.address).expect("the server listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: 8082-{}.sandboxes.test\r\nConnection: Upgrade\r\nUpgrade: \
         websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        served.sandbox.id
    );
    client.write_all(request.as_bytes()).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("the server answers");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    for text in ["one", "and two"] {
        let length = u8::try_from(text.len()).expect("it is short");
        // A masked text frame whose mask is zero.
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        client.write_all(&frame).expect("the server reads");
        let mut echo = vec![0; 2 + text.len()];
        client.read_exact(&mut echo).expect("the server says it back");
        assert_eq!(echo, [&[0x81, length], text.as_bytes()].concat());
    }
    served.sandbox.kill();
}

fn a_kill_aborts_an_answer_in_flight(server: &Server) {
    let served = Served::start(server);
    let mut answer = served.open(8080, "/endless");
    read_until(&mut answer, "xxx");
    served.sandbox.kill();
    assert!(answer.whole().is_err(), "the answer ended as if it were complete");
}

fn a_client_that_goes_away_is_noticed_inside(server: &Server) {
    let served = Served::start(server);
    let mut answer = served.open(8080, "/endless");
    read_until(&mut answer, "xxx");
    drop(answer);
    let script =
        "for i in $(seq 200); do [ -e /tmp/client-gone ] && exit 0; sleep 0.1; done; exit 1";
    served.sandbox.sh(script).assert_ok();
    served.sandbox.kill();
}

fn a_port_that_speaks_tls_is_spoken_to_in_tls(server: &Server) {
    let served = Served::with(server, &json!({"httpsPorts": [8443]}));
    let answer = served.request("GET", 8443, "/").send(server.address);
    assert_eq!(answer.assert_status(200).text(), "hello");
    served.sandbox.kill();
}

fn ports_that_are_not_public_want_the_traffic_token(server: &Server) {
    let mut served = Served::with(server, &json!({"allowPublicTraffic": false}));
    let seen = served.request("GET", 8080, "/headers").send(server.address);
    let token = served.token.take().expect("a sandbox that is not public has a token");
    assert!(!seen.assert_status(200).text().contains(&token), "{}", seen.text());
    served.request("GET", 8080, "/").send(server.address).assert_error(403, "is missing");
    served.sandbox.kill();
}

fn a_port_is_opened_on_this_machine_by_the_command_line(server: &Server) {
    let served = Served::start(server);
    let mut command = courier(&server.environment, &server.data);
    command.args(["sandbox", "open", &served.sandbox.id, "8080"]);
    let opened = program::start(&mut command, b"");
    let (_at, url) = opened.line(PATIENCE);
    let address = url.strip_prefix("http://").expect("it prints a URL").parse();
    let address = address.expect("the URL has an address");
    let answer = Request::new("GET", "/").send(address);
    assert_eq!(answer.assert_status(200).text(), "hello");
    let seen = Request::new("GET", "/headers").send(address).text();
    assert!(!seen.contains("x-forwarded"), "bytes go through as they are: {seen}");
    served.sandbox.kill();
    wait::until("the command says that the sandbox has ended", PATIENCE, || {
        match Request::new("GET", "/").open(address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let ended = opened.wait(PATIENCE);
    assert_ne!(ended.code, Some(0));
    assert!(ended.err().contains(&served.sandbox.id), "{}", ended.err());
}

fn main() -> ExitCode {
    suite::run(
        |environment: Environment| Server::start(&environment, Options::default()),
        tests![
            servers_on_either_loopback_are_reached_by_host_name_and_by_headers,
            a_port_that_is_not_open_is_told_to_programs_and_to_people,
            hundred_megabytes_pass_whole_both_ways,
            a_client_that_speaks_http_2_is_answered_in_it,
            server_sent_events_come_one_by_one,
            a_websocket_says_back_what_it_hears,
            a_kill_aborts_an_answer_in_flight,
            a_client_that_goes_away_is_noticed_inside,
            a_port_that_speaks_tls_is_spoken_to_in_tls,
            ports_that_are_not_public_want_the_traffic_token,
            a_port_is_opened_on_this_machine_by_the_command_line,
        ],
    )
}
