//! Runs the programs that build: in namespaces of their own, so that nothing survives them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::error::TemplateError;

/// Lines of a failed program that its error shows.
const TAIL_LINES: usize = 12;
/// A longer line is cut: dpkg's are a few hundred bytes.
const LINE_BYTES: usize = 4 * 1024;
/// One read of a program's output.
const CHUNK_BYTES: usize = 8 * 1024;
/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a build's programs may see of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The host's.
    Host,
    /// None.
    None,
}

/// One program to run.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    /// The step that it is, for errors.
    pub(crate) step: &'static str,
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// What it reads.
    pub(crate) input: &'a str,
    /// What it may see of the network.
    pub(crate) network: Network,
    /// Where everything that it says is appended.
    pub(crate) log: &'a Path,
}

impl Tool<'_> {
    /// Runs the program to its end and hands each line of its standard error to `on_line`.
    ///
    /// Mounts and processes that it makes are in namespaces of their own; they go with it, and it
    /// goes with us.
    ///
    /// # Errors
    /// It could not be started, or it failed.
    pub(crate) async fn run(&self, mut on_line: impl FnMut(&str)) -> Result<(), TemplateError> {
        let failed = |source| TemplateError::Host {
            what: "run",
            path: self.words.first().map(PathBuf::from).unwrap_or_default(),
            source,
        };
        let mut child = self.command().spawn().map_err(failed)?;
        let mut input = child.stdin.take().expect("standard input is piped");
        let output = child.stderr.take().expect("standard error is piped");
        let mut said = Said::new(self.log)?;
        let feed = async {
            // A program that ends without reading tells why by its status.
            let _unread = input.write_all(self.input.as_bytes()).await;
            drop(input);
        };
        let listen = each_line(output, |line| {
            said.keep(line);
            on_line(line);
        });
        let ((), listened) = tokio::join!(feed, listen);
        listened.map_err(failed)?;
        let status = child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(TemplateError::Step {
            step: self.step,
            status: status.to_string(),
            tail: said.tail(),
            log: self.log.to_owned(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"]);
        command.args(["--kill-child", "--mount-proc"]);
        if self.network == Network::None {
            command.arg("--net");
            // What has the network may need the environment for it: proxies are named there.
            command.env_clear();
        }
        command.arg("--").args(&self.words);
        command.env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}

/// What a program has said: all of it in the log, the end of it for an error.
#[derive(Debug)]
struct Said {
    log: File,
    tail: VecDeque<String>,
}

impl Said {
    fn new(log: &Path) -> Result<Self, TemplateError> {
        let file = File::options().create(true).append(true).open(log);
        let log = file.map_err(TemplateError::host("write", log))?;
        Ok(Self { log, tail: VecDeque::with_capacity(TAIL_LINES) })
    }

    fn keep(&mut self, line: &str) {
        // The log is for people; a build does not fail for it.
        let _unlogged = writeln!(self.log, "{line}");
        if line.trim().is_empty() {
            return;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("  | {line}\n")).collect::<String>()
    }
}

/// Hands each line to `on_line`; long ones are cut.
async fn each_line(
    mut from: impl AsyncRead + Unpin,
    mut on_line: impl FnMut(&str),
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut line = Vec::new();
    loop {
        let read = from.read(&mut chunk).await?;
        let bytes = chunk.get(..read).unwrap_or_default();
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    on_line(&String::from_utf8_lossy(&line));
                    line.clear();
                }
                byte if line.len() < LINE_BYTES => line.push(*byte),
                _cut => {}
            }
        }
        if read == 0 {
            if !line.is_empty() {
                on_line(&String::from_utf8_lossy(&line));
            }
            return Ok(());
        }
    }
}

/// The whole path of a program, looked for where programs are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_told_apart_and_long_ones_are_cut() {
        let text = format!("one\ntwo\r{}\nlast", "x".repeat(LINE_BYTES + 10));
        let mut lines = Vec::new();
        each_line(text.as_bytes(), |line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [3, 3, LINE_BYTES, 4]);
    }
}
