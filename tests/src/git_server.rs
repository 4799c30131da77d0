//! A Git server on loopback: the program that comes with Git (`git http-backend`, the smart protocol)
//! behind a small HTTP server, with a password for what is private.
//!
//! `/public/NAME.git` is read by everybody; to write there, and for anything below `/private/`, one
//! says who one is.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;

use crate::program;

/// An answer, read whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Largest request: far more than any test pushes.
const LARGEST: usize = 16 << 20;

/// Git on the host is done within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who may write, and read what is private.
pub const USER: &str = "octo";

/// Their password: with characters that mean something in a URL.
pub const PASSWORD: &str = "p@ss:w/rd";

/// What a server shares with its connections.
#[derive(Debug)]
struct Shared {
    repositories: PathBuf,
    /// Method, path and status of each request.
    seen: Mutex<Vec<(String, u16)>>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct GitServer {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    over: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl GitServer {
    /// Starts one whose repositories are in a folder.
    #[must_use]
    pub fn start(repositories: &Path) -> Self {
        let shared =
            Arc::new(Shared { repositories: repositories.to_owned(), seen: Mutex::default() });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (over, end) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a socket is a socket");
                tokio::select! {
                    () = listen(&listener, &serving) => {}
                    _over = end => {}
                }
            });
        });
        Self { address, shared, over: Some(over), thread: Some(thread) }
    }

    /// Makes a repository with one commit on `main`: `public/NAME` or `private/NAME`.
    pub fn make(&self, name: &str) {
        let bare = self.path(name);
        let work = self.shared.repositories.join("work").join(name);
        let (bare_text, work_text) = (text(&bare), text(&work));
        git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare_text]);
        git(&["init", "--quiet", "--initial-branch=main", &work_text]);
        std::fs::write(work.join("README.md"), format!("# {name}\n")).expect("the folder is ours");
        git(&["-C", &work_text, "add", "README.md"]);
        let author = ["-c", "user.name=First", "-c", "user.email=first@example.com"];
        let commit = ["-C", &work_text, author[0], author[1], author[2], author[3], "commit"];
        git(&[&commit[..], &["--quiet", "-m", "first"]].concat());
        git(&["-C", &work_text, "push", "--quiet", &bare_text, "main"]);
    }

    /// What Git says about a repository of this server, looked at on its own disk.
    #[must_use]
    pub fn look(&self, name: &str, arguments: &[&str]) -> String {
        git(&[&["-C", &text(&self.path(name))], arguments].concat())
    }

    /// Method, path and status of each request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<(String, u16)> {
        self.shared.seen.lock().expect("no test panics with the lock").clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.repositories.join(format!("{name}.git"))
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a test's path is text").to_owned()
}

/// Runs Git on the host, without anybody's configuration.
#[track_caller]
fn git(arguments: &[&str]) -> String {
    let mut command = Process::new("git");
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let ended = program::run(command.args(arguments), b"", PATIENCE);
    ended.assert_code(0).out().trim_end().to_owned()
}

async fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _from)) = listener.accept().await {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(serve(request, &shared).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A client that hangs up is a client's right.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn serve(request: Request<Incoming>, shared: &Shared) -> Answer {
    let (parts, body) = request.into_parts();
    let answer = match Limited::new(body, LARGEST).collect().await {
        Ok(body) => serve_whole(&parts, body.to_bytes(), shared).await,
        Err(_too_large) => plain(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
    };
    let what = format!("{} {}", parts.method, parts.uri.path());
    let mut seen = shared.seen.lock().expect("no test panics with the lock");
    seen.push((what, answer.status().as_u16()));
    answer
}

async fn serve_whole(parts: &Parts, body: Bytes, shared: &Shared) -> Answer {
    let writes = parts.uri.path().ends_with("/git-receive-pack")
        || parts.uri.query().is_some_and(|query| query.contains("service=git-receive-pack"));
    let backend = Backend { repositories: &shared.repositories, path: parts.uri.path() };
    if !writes && parts.uri.path().starts_with("/public/") {
        return backend.answer(parts, body, None).await;
    }
    if knows(parts, USER, PASSWORD) {
        backend.answer(parts, body, Some(USER)).await
    } else {
        password_needed()
    }
}

/// True where a request says this user and password.
pub(crate) fn knows(parts: &Parts, user: &str, password: &str) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let given = parts.headers.get(header::AUTHORIZATION);
    given.is_some_and(|given| given.as_bytes() == expected.as_bytes())
}

/// What those get who say nothing, or the wrong thing.
pub(crate) fn password_needed() -> Answer {
    let mut answer = plain(StatusCode::UNAUTHORIZED, "a password is needed");
    let realm = HeaderValue::from_static("Basic realm=\"git\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    answer
}

fn plain(status: StatusCode, words: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(words.as_bytes())));
    *answer.status_mut() = status;
    answer
}

/// The program that comes with Git, run as a web server does (RFC 3875).
#[derive(Debug)]
pub(crate) struct Backend<'a> {
    /// The folder of the repositories.
    pub(crate) repositories: &'a Path,
    /// The path below it.
    pub(crate) path: &'a str,
}

impl Backend<'_> {
    /// Answers a request of a user, or of nobody.
    pub(crate) async fn answer(&self, parts: &Parts, body: Bytes, user: Option<&str>) -> Answer {
        match self.run(parts, body, user).await {
            Ok(output) => parse(&output),
            Err(error) => plain(StatusCode::BAD_GATEWAY, &error.to_string()),
        }
    }

    async fn run(
        &self,
        parts: &Parts,
        body: Bytes,
        user: Option<&str>,
    ) -> std::io::Result<Vec<u8>> {
        let header = |name: HeaderName| {
            let value = parts.headers.get(name);
            value
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .unwrap_or_default()
        };
        let mut command = Command::new("git");
        command.arg("http-backend").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("GIT_PROJECT_ROOT", self.repositories).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.env("REQUEST_METHOD", parts.method.as_str()).env("PATH_INFO", self.path);
        command.env("QUERY_STRING", parts.uri.query().unwrap_or_default());
        command.env("CONTENT_TYPE", header(header::CONTENT_TYPE));
        if let Some(user) = user {
            command.env("REMOTE_USER", user);
        }
        command.env("CONTENT_LENGTH", body.len().to_string());
        command.env("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING));
        command.env("GIT_PROTOCOL", header(HeaderName::from_static("git-protocol")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        // Beside the read: it may answer before it has read everything.
        tokio::spawn(async move { drop(input.write_all(&body).await) });
        Ok(child.wait_with_output().await?.stdout)
    }
}

/// An answer from the program's headers and body.
fn parse(output: &[u8]) -> Answer {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = output.split_at(end.map_or(0, |at| at + 4));
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body)));
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            *answer.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
