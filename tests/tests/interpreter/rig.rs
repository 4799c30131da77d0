//! A server with template `code-interpreter-v1`, and a client of the code interpreter in one sandbox.

use std::io::{BufRead as _, BufReader};
use std::sync::OnceLock;
use std::time::Duration;

use courier_tests::dns::Dns;
use courier_tests::environment::Environment;
use courier_tests::http::{Answer, Request, Whole};
use courier_tests::program;
use courier_tests::sandbox::Sandbox;
use courier_tests::sdk::Mode;
use courier_tests::server::{Options, Server, courier, free_port};
use serde_json::{Value, json};

/// The template's name.
pub(crate) const TEMPLATE: &str = "code-interpreter-v1";
/// The interpreter's port.
const PORT: &str = "49999";
/// A build from nothing takes two or three minutes; one that is there already takes none.
const BUILD: Duration = Duration::from_secs(1200);

/// What the tests share.
pub(crate) struct World {
    pub(crate) server: Server,
    dns: OnceLock<Dns>,
    domain: String,
}

impl World {
    pub(crate) fn make(environment: Environment) -> Self {
        let folder = environment.folder();
        let mut build = courier(&environment, &folder.path().join("data"));
        build.args(["template", "build", TEMPLATE]);
        program::run(&mut build, b"", BUILD).assert_code(0);
        let domain = format!("courier.test:{}", free_port());
        let arguments = vec!["--domain".to_owned(), domain.clone()];
        let server = Server::start(&environment, Options { arguments, ..Options::default() });
        Self { server, dns: OnceLock::new(), domain }
    }

    pub(crate) fn domain(&self) -> Mode<'_> {
        Mode::Domain { dns: self.dns.get_or_init(Dns::start), domain: &self.domain }
    }

    /// A new sandbox.
    #[track_caller]
    pub(crate) fn interpreter(&self) -> Interpreter<'_> {
        self.interpreter_with(&json!({}))
    }

    /// A new sandbox, with more said about it.
    #[track_caller]
    pub(crate) fn interpreter_with(&self, more: &Value) -> Interpreter<'_> {
        let mut body = json!({"templateID": TEMPLATE, "timeout": 300});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let answer = self.server.call("POST", "/v2/sandboxes", Some(&body));
        let sandbox = Sandbox::from_answer(&self.server, answer.assert_status(201));
        Interpreter { server: &self.server, sandbox }
    }
}

/// The code interpreter of one sandbox, which ends with it.
pub(crate) struct Interpreter<'a> {
    server: &'a Server,
    pub(crate) sandbox: Sandbox<'a>,
}

impl Interpreter<'_> {
    fn asked(&self, method: &str, path: &str, body: Option<&Value>) -> Request {
        let request = Request::new(method, path)
            .header("E2b-Sandbox-Id", &self.sandbox.id)
            .header("E2b-Sandbox-Port", PORT);
        body.map_or_else(|| request.clone(), |body| request.clone().json(body))
    }

    /// Sends a request and reads the whole answer.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Whole {
        self.asked(method, path, body).send(self.server.address)
    }

    /// Runs code and returns its events.
    #[track_caller]
    pub(crate) fn execute(&self, body: &Value) -> Vec<Value> {
        let answer = self.request("POST", "/execute", Some(body));
        let text = answer.assert_status(200).text();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Starts code, and waits until it has written to standard output.
    #[track_caller]
    pub(crate) fn begin(&self, body: &Value) -> Running {
        let answer = self.asked("POST", "/execute", Some(body)).open(self.server.address);
        let mut running = Running(BufReader::new(answer.expect("the interpreter answers")));
        while running.event()["type"] != "stdout" {}
        running
    }

    /// Runs Python code and returns the text of its value.
    #[track_caller]
    pub(crate) fn python(&self, code: &str) -> String {
        text(&self.execute(&json!({"code": code})))
    }
}

impl Drop for Interpreter<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.sandbox.kill();
        }
    }
}

/// A running execution. Dropping it is the client's going away.
pub(crate) struct Running(BufReader<Answer>);

impl Running {
    /// The next event.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Value {
        self.try_event().expect("an event comes")
    }

    /// The next event, unless the answer ends or breaks off.
    pub(crate) fn try_event(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

/// The events of one type.
#[track_caller]
pub(crate) fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    assert_eq!(events.last().map(|event| &event["type"]), Some(&json!("end_of_execution")));
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// The text of the main result.
#[track_caller]
pub(crate) fn text(events: &[Value]) -> String {
    let results = of(events, "result");
    let main = results.iter().find(|result| result["is_main_result"] == true);
    let text = main.and_then(|main| main["text"].as_str());
    assert!(text.is_some(), "no main result in {events:?}");
    text.unwrap_or_default().to_owned()
}

/// Everything written to standard output.
#[track_caller]
pub(crate) fn stdout(events: &[Value]) -> String {
    of(events, "stdout").iter().filter_map(|event| event["text"].as_str()).collect()
}
