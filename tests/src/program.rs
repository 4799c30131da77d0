//! Running a program to its end, with a deadline, and looking at it while it runs.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Lines of a program's output that wait to be looked at.
const LINES: usize = 4096;

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub took: Duration,
}

impl Ended {
    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Panics unless the program exited with `code`.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "signal {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.signal,
            self.out(),
            self.err()
        );
        self
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    started: Instant,
    lines: Receiver<(Instant, String)>,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

/// Starts a program with its input.
#[track_caller]
pub fn start(command: &mut Command, stdin: &[u8]) -> Running {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut input = child.stdin.take().expect("stdin is a pipe");
    let bytes = stdin.to_vec();
    std::thread::spawn(move || {
        // A program may well end without reading its input.
        drop(input.write_all(&bytes));
    });
    let (sender, lines) = sync_channel(LINES);
    let out = child.stdout.take().expect("stdout is a pipe");
    let stdout = std::thread::spawn(move || {
        let mut whole = Vec::new();
        let mut reader = BufReader::new(out);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            // Nobody looks at lines beyond the bound: they stay in `whole`.
            drop(
                sender.try_send((Instant::now(), String::from_utf8_lossy(&line).trim_end().into())),
            );
            whole.append(&mut line);
        }
        whole
    });
    let mut err = child.stderr.take().expect("stderr is a pipe");
    let stderr = std::thread::spawn(move || {
        let mut whole = Vec::new();
        drop(err.read_to_end(&mut whole));
        whole
    });
    Running { child, name, started, lines, stdout, stderr }
}

/// Runs a program to its end; kills it and panics when it takes longer than `within`.
#[track_caller]
pub fn run(command: &mut Command, stdin: &[u8], within: Duration) -> Ended {
    start(command, stdin).wait(within)
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our own child takes signals");
    }

    /// The next line of its standard output, with the time of its arrival.
    #[track_caller]
    pub fn line(&self, within: Duration) -> (Instant, String) {
        match self.lines.recv_timeout(within) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{}: no line within {within:?}", self.name),
            Err(RecvTimeoutError::Disconnected) => panic!("{}: ended without a line", self.name),
        }
    }

    /// True once it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_status)))
    }

    /// Waits for its end; kills it and panics when that takes longer than `within`.
    #[track_caller]
    pub fn wait(mut self, within: Duration) -> Ended {
        let deadline = Instant::now() + within;
        let status = loop {
            match self.child.try_wait().expect("our own child can be waited for") {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => wait::pause(Duration::from_millis(5)),
            }
        };
        let took = self.started.elapsed();
        if status.is_none() {
            self.child.kill().expect("our own child can be killed");
            self.child.wait().expect("our own child can be waited for");
        }
        let stdout = self.stdout.join().expect("a reader does not panic");
        let stderr = self.stderr.join().expect("a reader does not panic");
        let Some(status) = status else {
            panic!(
                "{} did not end within {within:?}\n--- stdout\n{}\n--- stderr\n{}",
                self.name,
                String::from_utf8_lossy(&stdout),
                String::from_utf8_lossy(&stderr)
            );
        };
        Ended { code: status.code(), signal: status.signal(), stdout, stderr, took }
    }
}
