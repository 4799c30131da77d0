//! What came of a run: for a script (exit code), for people (one line), for programs (JSON).

use std::time::Duration;

use courier_client::execution::{Conclusion, ExecutionOutcome};
use courier_types::{EndReason, Limits, Usage};
use serde::Serialize;

use super::sinks::Kept;
use crate::{duration, exit};

/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// What held for a run, for the messages about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The sandbox's caps.
    pub(crate) limits: Limits,
    /// The program's time.
    pub(crate) timeout: Duration,
    /// The program's output, each stream.
    pub(crate) output_mib: u64,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// The file that ran.
    pub(crate) file: String,
    /// The sandbox that it ran in.
    pub(crate) sandbox: String,
    /// The boundary around it.
    pub(crate) isolation: String,
    /// How it ended.
    pub(crate) outcome: ExecutionOutcome,
    /// What the sandbox had used, where that is known.
    pub(crate) usage: Option<Usage>,
    /// More about a failure, e.g. the end of the isolation technology's log.
    pub(crate) detail: Option<String>,
    /// Its output, unless it was passed through.
    pub(crate) kept: Kept,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Json<'a> {
    file: &'a str,
    sandbox: &'a str,
    isolation: &'a str,
    ended: &'static str,
    exit_code: Option<i32>,
    signal: Option<&'a str>,
    reason: Option<String>,
    stdout: String,
    stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    stdout_truncated: bool,
    stderr_truncated: bool,
    wall_seconds: f64,
    cpu_seconds: Option<f64>,
    memory_peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl Report {
    /// Our exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        let outcome = &self.outcome;
        match outcome.conclusion {
            Conclusion::Exited => exit::low_byte(outcome.exit_code.unwrap_or(0)),
            Conclusion::Signalled => {
                let signal = outcome.signal.as_deref().and_then(exit::signal_number);
                exit::signal_code(signal.unwrap_or(0))
            }
            Conclusion::Timeout => exit::TIMEOUT,
            Conclusion::Memory | Conclusion::OutputLimit => exit::KILLED,
            Conclusion::SandboxLost { .. } => exit::OURS,
        }
    }

    /// One line that says why it did not just exit.
    pub(crate) fn reason(&self, bounds: &Bounds) -> Option<String> {
        match self.outcome.conclusion {
            Conclusion::Exited => None,
            Conclusion::Signalled => {
                let signal = self.outcome.signal.as_deref().unwrap_or("a signal");
                Some(format!("killed: {signal}"))
            }
            Conclusion::Timeout => {
                Some(format!("killed: timeout (limit {})", duration::show(bounds.timeout)))
            }
            Conclusion::Memory => {
                Some(format!("killed: memory (limit {} MiB)", bounds.limits.memory_mib()))
            }
            Conclusion::OutputLimit => {
                Some(format!("killed: output (limit {} MiB)", bounds.output_mib))
            }
            Conclusion::SandboxLost { reason: Some(reason) } => {
                Some(format!("the sandbox was lost: {}", in_words(reason)))
            }
            Conclusion::SandboxLost { reason: None } => Some("the sandbox was lost".to_owned()),
        }
    }

    /// The object of `--json`.
    pub(crate) fn json(&self, bounds: &Bounds) -> Json<'_> {
        let outcome = &self.outcome;
        let (stdout, stdout_base64) = text(&self.kept.stdout);
        let (stderr, stderr_base64) = text(&self.kept.stderr);
        Json {
            file: &self.file,
            sandbox: &self.sandbox,
            isolation: &self.isolation,
            ended: ended(outcome.conclusion),
            exit_code: outcome.exit_code,
            signal: outcome.signal.as_deref(),
            reason: self.reason(bounds),
            stdout,
            stderr,
            stdout_base64,
            stderr_base64,
            stdout_truncated: outcome.stdout_cut,
            stderr_truncated: outcome.stderr_cut,
            wall_seconds: outcome.wall_time.as_secs_f64(),
            cpu_seconds: self
                .usage
                .map(|usage| Duration::from_micros(usage.cpu_micros).as_secs_f64()),
            memory_peak_bytes: self.usage.map(|usage| usage.memory_peak_bytes),
            detail: self.detail.as_deref(),
        }
    }
}

impl Bounds {
    /// Bytes of output of each stream.
    pub(crate) const fn output_bytes(&self) -> u64 {
        self.output_mib.saturating_mul(MIB)
    }

    /// Bytes that can come out of the sandbox as files: what its disk holds.
    pub(crate) fn files_bytes(&self) -> u64 {
        u64::from(self.limits.disk_mib()).saturating_mul(MIB)
    }
}

/// Why a sandbox ended under its program.
const fn in_words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Requested => "somebody killed it",
        EndReason::Timeout => "its time was up",
        EndReason::Memory => "it ran out of memory",
        EndReason::Crashed => "it crashed",
        EndReason::GuestLost => "what runs inside broke its connection",
        EndReason::Lost => "it was gone",
        EndReason::NeverStarted => "it never started",
    }
}

const fn ended(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Exited => "exit",
        Conclusion::Signalled => "signal",
        Conclusion::Timeout => "timeout",
        Conclusion::Memory => "memory",
        Conclusion::OutputLimit => "output",
        Conclusion::SandboxLost { .. } => "sandbox_lost",
    }
}

/// Bytes as text; where they are no UTF-8, also exactly, in base64.
fn text(bytes: &[u8]) -> (String, Option<String>) {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_not_utf8) => (
            String::from_utf8_lossy(bytes).into_owned(),
            Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courier_client::tree::Matches;

    const BOUNDS: fn() -> Bounds =
        || Bounds { limits: Limits::default(), timeout: Duration::from_secs(60), output_mib: 64 };

    fn report(conclusion: Conclusion, exit_code: Option<i32>, signal: Option<&str>) -> Report {
        Report {
            file: "a.py".into(),
            sandbox: "i0123456789abcdefghij".into(),
            isolation: "fake".into(),
            outcome: ExecutionOutcome {
                conclusion,
                exit_code,
                signal: signal.map(Into::into),
                wall_time: Duration::from_millis(1500),
                stdout_cut: false,
                stderr_cut: false,
                files_out: Matches::default(),
            },
            usage: Some(Usage { cpu_micros: 250_000, memory_peak_bytes: 42, ..Usage::default() }),
            detail: None,
            kept: Kept { stdout: b"hi\n".to_vec(), stderr: b"\xff".to_vec() },
        }
    }

    #[test]
    fn exit_codes_are_those_of_a_shell_and_of_timeout() {
        let lost = Conclusion::SandboxLost { reason: Some(EndReason::Crashed) };
        for (conclusion, code, signal, expected) in [
            (Conclusion::Exited, Some(0), None, 0),
            (Conclusion::Exited, Some(3), None, 3),
            (Conclusion::Signalled, None, Some("SIGSEGV"), 139),
            (Conclusion::Timeout, None, None, 124),
            (Conclusion::Memory, Some(1), None, 137),
            (Conclusion::OutputLimit, None, None, 137),
            (lost, None, None, 125),
        ] {
            assert_eq!(report(conclusion, code, signal).exit_code(), expected, "{conclusion:?}");
        }
    }

    #[test]
    fn what_hit_a_cap_is_told_with_the_cap() {
        let reason = |conclusion| report(conclusion, None, None).reason(&BOUNDS());
        assert_eq!(reason(Conclusion::Memory).unwrap(), "killed: memory (limit 512 MiB)");
        assert_eq!(reason(Conclusion::Timeout).unwrap(), "killed: timeout (limit 1m)");
        assert_eq!(reason(Conclusion::Exited), None);
    }

    #[test]
    fn the_json_object_has_everything_and_exact_bytes() {
        let report = report(Conclusion::Exited, Some(0), None);
        let json = serde_json::to_string_pretty(&report.json(&BOUNDS())).unwrap();
        insta::assert_snapshot!(json);
    }
}
