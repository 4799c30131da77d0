//! One-shot executions: a fresh sandbox, one program, everything back.

use std::collections::BTreeMap;

use courier_types::egress::Policy;
use courier_types::{EndReason, Isolation};
use serde::{Deserialize, Serialize};

use super::{EnvValue, LimitsBody, UsageBody};

/// Body of `POST /v1/executions`. The program is `code`, or the file of `files` that `entry` names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecutionRequest {
    /// Language of the program: `python`, `javascript`, `bash`, …; may be absent where the name of
    /// `entry` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The program's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Name of the file to run: one of `files`, in the home folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Arguments of the program.
    #[serde(default)]
    pub args: Vec<String>,
    /// What the program reads from its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Files to put into the sandbox first.
    #[serde(default)]
    pub files: Vec<SourceFile>,
    /// Paths or patterns (`out/*.png`) of files to bring back afterwards, from the home folder.
    #[serde(default)]
    pub collect: Vec<String>,
    /// Environment of the program.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// What it may reach, at most what its template may; absent: what the template says, or the
    /// server where that says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schema::Policy>))]
    pub egress: Option<Policy>,
    /// Name, `name:tag` or id of the template; `base` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Caps; what is absent takes the template's value.
    #[serde(default)]
    pub limits: LimitsBody,
    /// Milliseconds of wall time for the program; 30,000 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bytes of standard output and of standard error that are kept, each; 1 MiB when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes_max: Option<u64>,
    /// Refuse unless the sandbox has this isolation: `gvisor` or `microvm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub isolation: Option<Isolation>,
}

/// A file to put into the sandbox: either `text` or `base64`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Where: absolute, or below the home folder.
    pub path: String,
    /// Its content as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its content in standard base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Why an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The program ended by itself; `exit_code` says how.
    Exit,
    /// A signal ended it.
    Signal,
    /// Its time was up.
    Timeout,
    /// It ran out of its memory.
    Memory,
    /// It wrote more than it may.
    Output,
    /// The sandbox ended under it.
    SandboxLost,
}

/// One output stream of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Output {
    /// The text; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// The exact bytes in standard base64, where the text is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// True where the program wrote more than was kept.
    pub truncated: bool,
}

/// A file that was brought back, or why it was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectedFile {
    /// Its path, or the pattern that matched nothing.
    pub path: String,
    /// Its content as text, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its content in standard base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Why there is no content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timings {
    /// Until the guest daemon answered.
    pub create_ms: u64,
    /// From the program's start to its end.
    pub run_ms: u64,
    /// All of it, without the destruction of the sandbox.
    pub total_ms: u64,
}

/// Answer of `POST /v1/executions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecutionAnswer {
    /// Id of the sandbox that ran it; gone by now.
    pub sandbox_id: String,
    /// Why it ended.
    pub ended: EndedBy,
    /// Exit code of the program, where it ended by itself.
    pub exit_code: Option<i32>,
    /// Name of the signal that ended it, where one did: `SIGSEGV`.
    pub signal: Option<String>,
    /// Why the sandbox ended, where it did so under the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub sandbox_end: Option<EndReason>,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// The files that `collect` matched, in its order.
    pub files: Vec<CollectedFile>,
    /// Where the time went.
    pub timings: Timings,
    /// What the sandbox had used, where that is known.
    pub usage: Option<UsageBody>,
    /// The boundary around it.
    pub isolation: String,
    /// The caps that held.
    pub limits: LimitsBody,
}

/// Which output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a streamed execution (`application/x-ndjson`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ExecutionEvent {
    /// The sandbox is there.
    Started {
        /// Its id.
        sandbox_id: String,
        /// The boundary around it.
        isolation: String,
    },
    /// The program wrote something.
    Output {
        /// Where to.
        stream: StreamName,
        /// The text; bytes that are no UTF-8 are replaced.
        text: String,
        /// The exact bytes in standard base64, where the text is not exact.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// The end: the same object that a plain request gets.
    Ended {
        /// The whole answer.
        answer: Box<ExecutionAnswer>,
    },
    /// Something failed after the stream had begun.
    Failed {
        /// The error as a plain request would get it.
        error: crate::e2b::ErrorBody,
    },
}
