//! `courier serve`, started, stopped and killed by tests.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::environment::Environment;
use crate::http::{Request, Whole};
use crate::sandbox::Sandbox;
use crate::wait;

/// The first start builds template `base` when nobody has yet.
pub const FIRST_START: Duration = Duration::from_secs(600);
/// A start with everything built.
pub const START: Duration = Duration::from_secs(60);
/// A drain, with nothing in flight.
pub const STOP: Duration = Duration::from_secs(30);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further arguments of `courier serve`.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub variables: Vec<(String, String)>,
}

/// A running server, with its data folder.
#[derive(Debug)]
pub struct Server {
    /// Where the binaries are.
    pub environment: Environment,
    /// The data folder.
    pub data: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its first API key.
    pub key: String,
    options: Options,
    child: Mutex<Option<Child>>,
    _folder: Option<TempDir>,
}

/// A port that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The `courier` binary, on a data folder, with the shared templates and nothing inherited from
/// the tests' own surroundings.
#[must_use]
pub fn courier(environment: &Environment, data: &Path) -> Command {
    let mut command = Command::new(environment.binary("courier"));
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("COURIER_DATA", data);
    command.env("COURIER_TEMPLATES", &environment.templates);
    command
}

impl Server {
    /// Starts a server on a new data folder.
    #[track_caller]
    #[must_use]
    pub fn start(environment: &Environment, options: Options) -> Self {
        let folder = environment.folder();
        let data = folder.path().join("data");
        let mut server = Self::start_on(environment, &data, options);
        server._folder = Some(folder);
        server
    }

    /// Starts a server on a data folder that the caller keeps.
    #[track_caller]
    #[must_use]
    pub fn start_on(environment: &Environment, data: &Path, options: Options) -> Self {
        let mut server = Self {
            environment: environment.clone(),
            data: data.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], free_port())),
            key: String::new(),
            options,
            child: Mutex::new(None),
            _folder: None,
        };
        server.spawn();
        server.wait_ready(FIRST_START);
        server.key = std::fs::read_to_string(server.data.join("api-key"))
            .expect("a first start leaves its key in the data folder")
            .trim()
            .to_owned();
        server
    }

    /// The command that starts this server.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = courier(&self.environment, &self.data);
        command.args(["serve", "--listen", &self.address.to_string()]);
        command.args(&self.options.arguments);
        command.envs(self.options.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn spawn(&self) {
        let parent = self.data.parent().expect("a data folder is in a folder");
        std::fs::create_dir_all(parent).expect("scratch is ours");
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("scratch is ours");
        let mut command = self.command();
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a file can be shared"));
        let child = command.stdout(log).spawn().expect("courier starts");
        *self.child.lock().expect("no test panics with the lock") = Some(child);
    }

    fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// What the server has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until it answers.
    #[track_caller]
    fn wait_ready(&self, within: Duration) {
        wait::until("courier serve answers", within, || {
            if let Some(status) = self.exit_status() {
                panic!("courier serve ended ({status})\n{}", self.log());
            }
            let answer = Request::new("GET", "/health").open(self.address);
            match answer.map(|answer| answer.status) {
                Ok(200..=299) => Ok(()),
                other => Err(format!("{other:?}\n{}", self.log())),
            }
        });
    }

    /// How the process ended, once it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<std::process::ExitStatus> {
        let mut child = self.child.lock().expect("no test panics with the lock");
        child.as_mut().and_then(|child| child.try_wait().expect("our child can be waited for"))
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        let child = self.child.lock().expect("no test panics with the lock");
        Pid::from_child(child.as_ref().expect("the server runs"))
    }

    /// Kills it without any warning.
    pub fn kill_9(&self) {
        self.end(Signal::KILL);
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&self) {
        self.end(Signal::TERM);
    }

    fn end(&self, signal: Signal) {
        let Some(mut child) = self.child.lock().expect("no test panics with the lock").take()
        else {
            return;
        };
        // It may have ended by itself in this moment.
        let _gone_already = kill_process(Pid::from_child(&child), signal);
        wait::until("courier serve ends", STOP, || {
            let status = child.try_wait().expect("our child can be waited for");
            status.ok_or_else(|| format!("it runs\n{}", self.log()))
        });
    }

    /// Starts it again on the same data folder and address.
    #[track_caller]
    pub fn restart(&self) {
        self.spawn();
        self.wait_ready(START);
    }

    /// A request with this server's key.
    #[must_use]
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(method, target).header("X-API-Key", &self.key)
    }

    /// Sends a request with this server's key and, if given, a JSON body.
    #[track_caller]
    #[must_use]
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Whole {
        let request = self.request(method, target);
        body.map_or_else(|| request.clone(), |body| request.clone().json(body)).send(self.address)
    }

    /// Makes a sandbox of template `base` that lives `timeout_s` seconds.
    #[track_caller]
    #[must_use]
    pub fn sandbox(&self, timeout_s: u64) -> Sandbox<'_> {
        let body = json!({"templateID": "base", "timeout": timeout_s});
        let answer = self.call("POST", "/v2/sandboxes", Some(&body));
        Sandbox::from_answer(self, answer.assert_status(201))
    }

    /// Ids of the sandboxes that run.
    #[track_caller]
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let answer = self.call("GET", "/v2/sandboxes?limit=100", None);
        let list = answer.assert_status(200).json();
        let list = list.as_array().expect("a list is an array");
        list.iter().filter_map(|s| s["sandboxID"].as_str()).map(str::to_owned).collect()
    }

    /// Kills every sandbox.
    #[track_caller]
    pub fn kill_all(&self) {
        for id in self.running() {
            let status = self.call("DELETE", &format!("/sandboxes/{id}"), None).status;
            assert!(matches!(status, 204 | 404), "killing {id}: {status}");
        }
    }
}

impl Drop for Server {
    /// Kills the sandboxes and ends the server: sandboxes outlive a server that only ends.
    fn drop(&mut self) {
        if self.child.lock().expect("no test panics with the lock").is_none() {
            return;
        }
        if !std::thread::panicking() && self.exit_status().is_none() {
            self.kill_all();
        }
        self.terminate();
    }
}
