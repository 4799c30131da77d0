//! What configuration does not say is asked: of the package manager itself, and of the index, where
//! its files are. Every answer is bounded in time and size, and kept for a while.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use url::Url;

use super::mirror::Mirror;
use super::web::{Page, Web, WebError};

/// Longest wait for a program or a page: what takes longer is down.
const DEADLINE: Duration = Duration::from_secs(8);
/// Most bytes of a program's answer: a few addresses.
const OUTPUT_MAX: u64 = 64 * 1024;
/// How long an answer is kept. Where an index has its files changes once in years.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// How long the lack of an answer is kept, so that an index that is down delays few creates.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(30);
/// Most kept answers: more than there are mirrors in any configuration.
const KEPT_MAX: usize = 256;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AskError {
    /// The program is not there, or cannot be started.
    #[error("{program} cannot be run")]
    Program {
        /// The program.
        program: &'static str,
        /// What was met.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// It failed.
    #[error("{program} fails: {status}")]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The index did not answer.
    #[error("{host} does not answer")]
    Web {
        /// The index.
        host: String,
        /// What was met.
        #[source]
        source: Arc<WebError>,
    },
    /// It took too long.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// Where answers come from.
#[async_trait]
pub(crate) trait Ask: Send + Sync {
    /// What a program prints.
    async fn tool(
        &self,
        program: &'static str,
        arguments: &'static [&'static str],
    ) -> Result<String, AskError>;

    /// The page at an address of a mirror, by a client that would like this type of content.
    async fn page(&self, mirror: &Mirror, url: Url, accept: &'static str)
    -> Result<Page, AskError>;
}

/// Asks the machine and the network.
#[derive(Debug)]
pub(crate) struct Direct {
    /// How pages are fetched.
    pub(crate) web: Web,
}

#[async_trait]
impl Ask for Direct {
    async fn tool(
        &self,
        program: &'static str,
        arguments: &'static [&'static str],
    ) -> Result<String, AskError> {
        tokio::time::timeout(DEADLINE, run(program, arguments))
            .await
            .map_err(|_elapsed| AskError::Deadline)?
    }

    async fn page(
        &self,
        mirror: &Mirror,
        url: Url,
        accept: &'static str,
    ) -> Result<Page, AskError> {
        let failed = |error: WebError| AskError::Web {
            host: url.host_str().unwrap_or_default().to_owned(),
            source: Arc::new(error),
        };
        tokio::time::timeout(DEADLINE, self.web.get(url.clone(), mirror.login.as_ref(), accept))
            .await
            .map_err(|_elapsed| AskError::Deadline)?
            .map_err(failed)
    }
}

/// Runs a program in the root folder, where no project's configuration is.
async fn run(program: &'static str, arguments: &[&str]) -> Result<String, AskError> {
    let failed = |source| AskError::Program { program, source: Arc::new(source) };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(OUTPUT_MAX).read_to_string(&mut text).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() { Ok(text) } else { Err(AskError::Failed { program, status }) }
}

/// Keeps the answers of another.
pub(crate) struct Keeping<A> {
    inner: A,
    tools: Mutex<Kept<String>>,
    pages: Mutex<Kept<Page>>,
}

impl<A: std::fmt::Debug> std::fmt::Debug for Keeping<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping").field("inner", &self.inner).finish_non_exhaustive()
    }
}

type Kept<T> = HashMap<String, (Instant, Result<T, AskError>)>;

impl<A> Keeping<A> {
    /// Nothing is kept yet.
    pub(crate) fn new(inner: A) -> Self {
        Self { inner, tools: Mutex::default(), pages: Mutex::default() }
    }
}

fn recall<T: Clone>(kept: &Mutex<Kept<T>>, key: &str) -> Option<Result<T, AskError>> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let (at, answer) = kept.get(key)?;
    let lives = if answer.is_ok() { KEPT_FOR } else { FAILURE_KEPT_FOR };
    (at.elapsed() < lives).then(|| answer.clone())
}

fn keep<T: Clone>(kept: &Mutex<Kept<T>>, key: String, answer: &Result<T, AskError>) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(key, (Instant::now(), answer.clone()));
}

#[async_trait]
impl<A: Ask> Ask for Keeping<A> {
    async fn tool(
        &self,
        program: &'static str,
        arguments: &'static [&'static str],
    ) -> Result<String, AskError> {
        let key = format!("{program} {}", arguments.join(" "));
        if let Some(answer) = recall(&self.tools, &key) {
            return answer;
        }
        let answer = self.inner.tool(program, arguments).await;
        keep(&self.tools, key, &answer);
        answer
    }

    async fn page(
        &self,
        mirror: &Mirror,
        url: Url,
        accept: &'static str,
    ) -> Result<Page, AskError> {
        let key = url.to_string();
        if let Some(answer) = recall(&self.pages, &key) {
            return answer;
        }
        let answer = self.inner.page(mirror, url, accept).await;
        keep(&self.pages, key, &answer);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_program_tells_its_output_or_how_it_failed() {
        assert_eq!(run("echo", &["one"]).await.unwrap(), "one\n");
        assert!(matches!(run("false", &[]).await, Err(AskError::Failed { .. })));
        let absent = run("a-program-that-nobody-has", &[]).await;
        assert!(matches!(absent, Err(AskError::Program { .. })));
    }

    #[tokio::test]
    async fn a_program_that_prints_without_end_is_read_to_a_bound() {
        // `yes` ends by itself when nobody reads on.
        let ended = tokio::time::timeout(DEADLINE, run("yes", &[])).await.unwrap();
        assert!(matches!(ended, Err(AskError::Failed { .. })), "{ended:?}");
    }

    struct Counting(AtomicUsize);

    #[async_trait]
    impl Ask for Counting {
        async fn tool(
            &self,
            _: &'static str,
            _: &'static [&'static str],
        ) -> Result<String, AskError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok("answer".to_owned())
        }

        async fn page(&self, _: &Mirror, _: Url, _: &'static str) -> Result<Page, AskError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(AskError::Deadline)
        }
    }

    #[tokio::test]
    async fn the_same_is_not_asked_twice_in_a_row_even_when_there_is_no_answer() {
        let keeping = Keeping::new(Counting(AtomicUsize::new(0)));
        let mirror = Mirror::parse("https://mirror.test/", "a test").unwrap();
        for _again in 0..3 {
            keeping.tool("a", &["b"]).await.unwrap();
            keeping.page(&mirror, mirror.url.clone(), "*/*").await.unwrap_err();
        }
        keeping.tool("a", &["c"]).await.unwrap();
        assert_eq!(keeping.inner.0.load(Ordering::Relaxed), 3);
    }
}
