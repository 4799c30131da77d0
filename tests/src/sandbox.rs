//! One sandbox, over E2B's wire, by hand.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::connect::{END, frame, read_frame};
use crate::http::{Answer, Request, Whole};
use crate::server::Server;

/// Port of the envd protocol.
pub const ENVD: &str = "49983";

/// A sandbox of a server.
#[derive(Debug)]
pub struct Sandbox<'a> {
    server: &'a Server,
    /// Its id.
    pub id: String,
    /// Its access token, if it has one.
    pub token: Option<String>,
}

/// How a command ended, with its output.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Its process id inside.
    pub pid: u64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// The end event; null when the stream had none.
    pub end: Value,
    /// The error in the end of the stream; null when there was none.
    pub error: Value,
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> i64 {
        self.end["exitCode"].as_i64().unwrap_or(0)
    }

    /// Standard output as text, without the last line's end.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Panics unless the command exited with 0.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        assert!(
            self.end.is_object() && self.code() == 0,
            "{self:?}\n{}\n{}",
            self.out(),
            self.err()
        );
        self
    }
}

impl<'a> Sandbox<'a> {
    /// From the answer of a create call.
    #[track_caller]
    #[must_use]
    pub fn from_answer(server: &'a Server, answer: &Whole) -> Self {
        let body = answer.json();
        let id = body["sandboxID"].as_str().expect("an answer has an id").to_owned();
        let token = body["envdAccessToken"].as_str().map(str::to_owned);
        Self { server, id, token }
    }

    /// From the answer of `POST /v1/sandboxes`.
    #[track_caller]
    #[must_use]
    pub fn from_v1(server: &'a Server, answer: &Whole) -> Self {
        let body = answer.json();
        let id = body["id"].as_str().expect("an answer has an id").to_owned();
        let token = body["access_token"].as_str().map(str::to_owned);
        Self { server, id, token }
    }

    /// A request to a port of it, with the headers that route it there.
    #[must_use]
    pub fn request(&self, method: &str, target: &str) -> Request {
        let request = Request::new(method, target)
            .header("E2b-Sandbox-Id", &self.id)
            .header("E2b-Sandbox-Port", ENVD);
        match &self.token {
            Some(token) => request.header("X-Access-Token", token),
            None => request,
        }
    }

    /// A unary call.
    #[track_caller]
    #[must_use]
    pub fn call(&self, method: &str, body: &Value) -> Whole {
        let request = self.request("POST", &format!("/{method}")).json(body);
        request.header("Connect-Protocol-Version", "1").send(self.server.address)
    }

    /// A call that answers with a stream, from one message.
    ///
    /// # Errors
    /// The connection failed.
    pub fn stream(&self, method: &str, message: &Value) -> std::io::Result<Answer> {
        self.stream_as("user", method, message)
    }

    fn stream_as(&self, user: &str, method: &str, message: &Value) -> std::io::Result<Answer> {
        let body = frame(0, message.to_string().as_bytes());
        let credentials = STANDARD.encode(format!("{user}:"));
        self.request("POST", &format!("/{method}"))
            .header("Connect-Protocol-Version", "1")
            .header("Authorization", &format!("Basic {credentials}"))
            .body("application/connect+json", body)
            .open(self.server.address)
    }

    /// Runs a shell command as `user` to its end.
    #[track_caller]
    #[must_use]
    pub fn sh(&self, script: &str) -> Outcome {
        self.sh_as("user", script).unwrap_or_else(|error| panic!("{script:?}: {error}"))
    }

    /// Runs a shell command as root (inside) to its end.
    #[track_caller]
    #[must_use]
    pub fn root(&self, script: &str) -> Outcome {
        self.sh_as("root", script).unwrap_or_else(|error| panic!("{script:?}: {error}"))
    }

    /// Runs a shell command to its end.
    ///
    /// # Errors
    /// The connection failed or was cut off.
    pub fn sh_as(&self, user: &str, script: &str) -> std::io::Result<Outcome> {
        let process = json!({"cmd": "/bin/bash", "args": ["-l", "-c", script]});
        let start = json!({"process": process, "stdin": false});
        let mut answer = self.stream_as(user, "process.Process/Start", &start)?;
        if answer.status != 200 {
            let whole = answer.whole()?;
            return Err(std::io::Error::other(format!("{}: {}", whole.status, whole.text())));
        }
        let mut outcome = Outcome::default();
        while let Some((flags, message)) = read_frame(&mut answer)? {
            if flags & END != 0 {
                outcome.error = message["error"].clone();
                break;
            }
            take_event(&message["event"], &mut outcome);
        }
        Ok(outcome)
    }

    /// Writes a file as `user`.
    #[track_caller]
    pub fn write(&self, path: &str, bytes: &[u8]) {
        let target = format!("/files?path={}&username=user", escape(path));
        let request = self.request("POST", &target).body("application/octet-stream", bytes);
        request.send(self.server.address).assert_status(200);
    }

    /// Reads a file as `user`.
    #[track_caller]
    #[must_use]
    pub fn read(&self, path: &str) -> Whole {
        let target = format!("/files?path={}&username=user", escape(path));
        self.request("GET", &target).send(self.server.address)
    }

    /// How long a trivial command takes now.
    #[track_caller]
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        let started = Instant::now();
        let outcome = self.sh("echo alive");
        assert_eq!(outcome.out(), "alive", "{outcome:?}");
        started.elapsed()
    }

    /// Asks the server about it.
    #[track_caller]
    #[must_use]
    pub fn info(&self) -> Whole {
        self.server.call("GET", &format!("/sandboxes/{}", self.id), None)
    }

    /// Asks the server about it, alive or ended, by the product's own API.
    #[track_caller]
    #[must_use]
    pub fn v1(&self) -> Whole {
        self.server.call("GET", &format!("/v1/sandboxes/{}", self.id), None)
    }

    /// Kills it; panics unless it was there.
    #[track_caller]
    pub fn kill(&self) {
        self.server.call("DELETE", &format!("/sandboxes/{}", self.id), None).assert_status(204);
    }
}

/// Takes one event of a command into its outcome.
pub fn take_event(event: &Value, outcome: &mut Outcome) {
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default());
    if let Some(pid) = event["start"]["pid"].as_u64() {
        outcome.pid = pid;
    }
    if let Ok(out) = bytes(&event["data"]["stdout"]) {
        outcome.stdout.extend(out);
    }
    if let Ok(err) = bytes(&event["data"]["stderr"]) {
        outcome.stderr.extend(err);
    }
    if event["end"].is_object() {
        outcome.end = event["end"].clone();
    }
}

/// Percent-encodes everything that could mean something in a query.
#[must_use]
pub fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
