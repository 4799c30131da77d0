//! A running server and a client of it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// No step of a test takes longer, on a machine that builds at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The server's processes, which end with it.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) port: u16,
    pub(crate) cwd: tempfile::TempDir,
}

pub(crate) fn target() -> PathBuf {
    let executable = std::env::current_exe().expect("a running test has a path");
    // target/TRIPLE/PROFILE/deps/TEST
    executable.ancestors().nth(4).expect("tests run from target").to_owned()
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self::start_on(port).await
    }

    pub(crate) async fn start_on(port: u16) -> Self {
        let interpreter = target().join("interpreter");
        assert!(
            interpreter.join("stamp").exists(),
            "{} is missing: run scripts/setup",
            interpreter.display()
        );
        let cwd = tempfile::tempdir().unwrap();
        let python = interpreter.join("python/bin");
        let process = Command::new(env!("CARGO_BIN_EXE_courier-interpreter"))
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .arg("--kernels-dir")
            .arg(interpreter.join("kernels"))
            .arg("--cwd")
            .arg(cwd.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", python.display()))
            .env("HOME", cwd.path())
            .env("GIVEN", "from the sandbox")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, port, cwd };
        server.ready().await;
        server
    }

    /// Waits until the server answers.
    pub(crate) async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = timeout(PATIENCE, self.try_request("GET", "/health", None)).await;
            match asked {
                Ok(Ok(response)) if response.status() == StatusCode::OK => return,
                other => assert!(Instant::now() < deadline, "not ready: {other:?}"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body))?;
        Ok(sender.send_request(request).await?)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, String) {
        let response = self.try_request(method, path, body).await.unwrap();
        let status = response.status();
        let body = timeout(PATIENCE, response.into_body().collect()).await.expect("in time");
        (status, String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// Runs code and returns its events.
    pub(crate) async fn execute(&self, body: Value) -> Vec<Value> {
        let (status, body) = self.request("POST", "/execute", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts code; dropping the answer is the client's going away.
    pub(crate) async fn begin(&self, body: Value) -> Incoming {
        self.try_request("POST", "/execute", Some(body)).await.unwrap().into_body()
    }

    /// Runs Python code and returns the text of its value.
    pub(crate) async fn python(&self, code: &str) -> String {
        text(&self.execute(json!({"code": code})).await)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }
}

/// The next event of a running execution.
pub(crate) async fn event(body: &mut Incoming) -> Value {
    let frame = timeout(PATIENCE, body.frame()).await.expect("in time").expect("not the end");
    serde_json::from_slice(frame.unwrap().data_ref().unwrap()).unwrap()
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
    main.and_then(|main| main["text"].as_str())
        .unwrap_or_else(|| panic!("no main result in {events:?}"))
        .to_owned()
}

/// Everything written to standard output.
#[track_caller]
pub(crate) fn stdout(events: &[Value]) -> String {
    of(events, "stdout").iter().filter_map(|event| event["text"].as_str()).collect()
}
