//! One snippet, run once in a sandbox that is there for it: files in, source in, run, files out.
//!
//! The guest is asked to keep the timeout, but this side keeps it too. What runs on after a timeout
//! or an output limit is the caller's to destroy, together with the sandbox.

mod follow;
mod stdin;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_protocol::node::Body;
use courier_types::DEFAULT_WORKDIR;
use courier_types::{EndReason, Usage};

use crate::glob::Pattern;
use crate::language::Language;
use crate::tree::{Matches, RelativePath};
use crate::{ClientError, GuestClient, WriteTarget, full};

/// One of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// Takes a program's output as it comes. While a call waits, the program is held back.
#[async_trait]
pub trait Sink: Send {
    /// Takes one chunk; it may cut a UTF-8 sequence.
    async fn output(&mut self, stream: OutputStream, chunk: Bytes);
}

/// What happens to output beyond the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputPolicy {
    /// It is dropped, the outcome says so, and the program goes on.
    Cut,
    /// The program is killed.
    Kill,
}

/// How much output there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBound {
    /// Most bytes of each stream that reach the sink.
    pub limit_bytes: u64,
    /// What happens beyond it.
    pub policy: OutputPolicy,
}

/// A file that is put into the sandbox first.
pub struct FileIn {
    /// Where to.
    pub target: WriteTarget,
    /// Its bytes.
    pub content: Body,
}

impl std::fmt::Debug for FileIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileIn").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What the program reads.
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Empty,
    /// This, then the end.
    Body(Body),
}

impl std::fmt::Debug for Stdin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Body(_) => "Body",
        })
    }
}

/// What to run, and how.
#[derive(Debug)]
pub struct ExecutionSpec {
    /// What the source is written in.
    pub language: Language,
    /// The source.
    pub source: Bytes,
    /// Name of the file that it is written to; one component.
    pub file_name: Option<String>,
    /// The program's arguments.
    pub args: Vec<String>,
    /// The program's environment, over that of the sandbox.
    pub env: BTreeMap<String, String>,
    /// Files to put in before.
    pub files_in: Vec<FileIn>,
    /// Files to look for afterwards; relative ones from the working directory.
    pub files_out: Vec<Pattern>,
    /// What it reads.
    pub stdin: Stdin,
    /// How long it may run.
    pub timeout: Duration,
    /// How much it may write.
    pub output: OutputBound,
    /// Absolute working directory; `/home/user` where there is none.
    pub cwd: Option<String>,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// The program exited by itself.
    Exited,
    /// A signal ended it.
    Signalled,
    /// Its time was up.
    Timeout,
    /// Its sandbox ran out of memory.
    Memory,
    /// It wrote more than it may.
    OutputLimit,
    /// Its sandbox ended under it.
    SandboxLost {
        /// Why, once the caller knows: see [`ExecutionOutcome::settle`].
        reason: Option<EndReason>,
    },
}

/// What came of an execution whose program was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionOutcome {
    /// How it ended.
    pub conclusion: Conclusion,
    /// The program's exit code, when it exited by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it, by name, when one did.
    pub signal: Option<String>,
    /// From the program's start to its end.
    pub wall_time: Duration,
    /// Bytes of standard output were dropped.
    pub stdout_cut: bool,
    /// Bytes of standard error were dropped.
    pub stderr_cut: bool,
    /// The files that were looked for. Read them by [`GuestClient::read_file`].
    pub files_out: Matches,
}

impl ExecutionOutcome {
    /// Corrects the conclusion by what only the caller can see: the sandbox's usage before and
    /// after, and how the sandbox ended, where it did.
    ///
    /// A process that the kernel kills for memory shows inside as killed or as exit code 1.
    pub fn settle(&mut self, before: &Usage, after: &Usage, sandbox_end: Option<EndReason>) {
        let memory = after.oom_kills > before.oom_kills;
        match (self.conclusion, sandbox_end) {
            (Conclusion::SandboxLost { .. }, Some(EndReason::Memory)) => {
                self.conclusion = Conclusion::Memory;
            }
            (Conclusion::SandboxLost { .. }, Some(EndReason::Timeout)) => {
                self.conclusion = Conclusion::Timeout;
            }
            (Conclusion::SandboxLost { .. }, _) if memory => self.conclusion = Conclusion::Memory,
            (Conclusion::SandboxLost { .. }, reason) => {
                self.conclusion = Conclusion::SandboxLost { reason };
            }
            (Conclusion::Signalled, _) if memory => self.conclusion = Conclusion::Memory,
            (Conclusion::Exited, _) if memory && self.exit_code != Some(0) => {
                self.conclusion = Conclusion::Memory;
            }
            (
                Conclusion::Exited
                | Conclusion::Signalled
                | Conclusion::Timeout
                | Conclusion::Memory
                | Conclusion::OutputLimit,
                _,
            ) => {}
        }
    }
}

/// The program was not started: nothing of the user's ran.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The source's file name is not one.
    #[error("{name:?} cannot be a file name: use one name without a slash")]
    FileName {
        /// The name.
        name: String,
    },
    /// The working directory is not absolute.
    #[error("the working directory {path:?} must be an absolute path")]
    WorkingDirectory {
        /// The path.
        path: String,
    },
    /// A file could not be put in.
    #[error("{path:?} could not be written in the sandbox")]
    WriteFile {
        /// Where to.
        path: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The guest would not start the program.
    #[error("{program:?} could not be started in the sandbox")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

impl GuestClient {
    /// Runs one snippet as this client's user and streams its output into `sink`.
    ///
    /// # Errors
    /// Only when nothing of the snippet ran; what goes wrong later is in the outcome.
    pub async fn execute(
        &self,
        spec: ExecutionSpec,
        sink: &mut dyn Sink,
    ) -> Result<ExecutionOutcome, ExecutionError> {
        let cwd = spec.cwd.unwrap_or_else(|| DEFAULT_WORKDIR.to_owned());
        if !cwd.starts_with('/') {
            return Err(ExecutionError::WorkingDirectory { path: cwd });
        }
        let source_path = source_path(spec.file_name.as_deref(), spec.language)?;
        for file in spec.files_in {
            self.put_in(file).await?;
        }
        let length = u64::try_from(spec.source.len()).ok();
        let target = WriteTarget { path: source_path.clone(), length };
        self.put_in(FileIn { target, content: full(spec.source) }).await?;

        let (program, args) = spec.language.command(&source_path, &spec.args);
        let process =
            ProcessConfig { cmd: program.clone(), args, envs: spec.env, cwd: Some(cwd.clone()) };
        let request = StartRequest {
            process: Some(process),
            pty: None,
            tag: None,
            stdin: Some(matches!(spec.stdin, Stdin::Body(_))),
        };
        let events = self
            .start(&request, Some(spec.timeout))
            .await
            .map_err(|source| ExecutionError::Start { program: program.clone(), source })?;
        let run = follow::Run::begin(self, events, spec.output, spec.timeout)
            .await
            .map_err(|source| ExecutionError::Start { program, source })?;
        let mut outcome = run.finish(spec.stdin, sink).await;
        if matches!(outcome.conclusion, Conclusion::Exited | Conclusion::Signalled) {
            match self.find_files(&spec.files_out, &cwd).await {
                Ok(found) => outcome.files_out = found,
                Err(error) if error.is_sandbox_lost() => {
                    outcome.conclusion = Conclusion::SandboxLost { reason: None };
                }
                Err(error) => outcome.files_out.failure = Some(error.to_string()),
            }
        }
        Ok(outcome)
    }

    async fn put_in(&self, file: FileIn) -> Result<(), ExecutionError> {
        let path = file.target.path.clone();
        self.write_file(&file.target, file.content)
            .await
            .map_err(|source| ExecutionError::WriteFile { path, source })
    }
}

/// Where a source is written to.
fn source_path(name: Option<&str>, language: Language) -> Result<String, ExecutionError> {
    let name = name.map_or_else(|| language.default_file_name(), str::to_owned);
    let one_component = RelativePath::parse(&name).is_ok_and(|path| path.components().count() == 1);
    if one_component {
        Ok(format!("{DEFAULT_WORKDIR}/{name}"))
    } else {
        Err(ExecutionError::FileName { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(conclusion: Conclusion, exit_code: Option<i32>) -> ExecutionOutcome {
        ExecutionOutcome {
            conclusion,
            exit_code,
            signal: None,
            wall_time: Duration::ZERO,
            stdout_cut: false,
            stderr_cut: false,
            files_out: Matches::default(),
        }
    }

    #[test]
    fn a_failed_program_in_a_sandbox_that_lost_a_process_for_memory_ended_for_memory() {
        let before = Usage::default();
        let after = Usage { oom_kills: 1, ..before };
        let mut failed = outcome(Conclusion::Exited, Some(1));
        failed.settle(&before, &after, None);
        assert_eq!(failed.conclusion, Conclusion::Memory);
        let mut survived = outcome(Conclusion::Exited, Some(0));
        survived.settle(&before, &after, None);
        assert_eq!(survived.conclusion, Conclusion::Exited);
        let mut plain = outcome(Conclusion::Exited, Some(1));
        plain.settle(&before, &before, None);
        assert_eq!(plain.conclusion, Conclusion::Exited);
    }

    #[test]
    fn a_lost_sandbox_tells_why_it_was_lost() {
        let usage = Usage::default();
        let mut lost = outcome(Conclusion::SandboxLost { reason: None }, None);
        lost.settle(&usage, &usage, Some(EndReason::Crashed));
        assert_eq!(lost.conclusion, Conclusion::SandboxLost { reason: Some(EndReason::Crashed) });
        lost.settle(&usage, &usage, Some(EndReason::Timeout));
        assert_eq!(lost.conclusion, Conclusion::Timeout);
    }

    #[test]
    fn a_source_keeps_its_name_and_no_name_climbs() {
        assert_eq!(
            source_path(Some("my script.py"), Language::Python).unwrap(),
            "/home/user/my script.py"
        );
        assert_eq!(source_path(None, Language::C).unwrap(), "/home/user/main.c");
        for name in ["../x", "a/b", "", "..", "a\0"] {
            assert!(source_path(Some(name), Language::Sh).is_err(), "{name:?}");
        }
    }
}
