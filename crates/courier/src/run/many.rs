//! Several runs side by side, each in a sandbox of its own, told in the order of the files.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use courier_client::execution::Stdin;
use futures_util::{Stream, StreamExt as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

use super::job::{self, Finished, Output, Program, Shared};
use super::report::Report;
use crate::exit;

/// Longest line of `--stdin-each`.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// How often the progress line is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// How results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Each output as it is, under a heading.
    Text,
    /// One object per line.
    Json,
}

/// One run of several.
struct Job {
    name: String,
    program: Program,
    stdin: Stdin,
}

/// Runs every program once.
pub(crate) async fn files(
    shared: &Shared,
    programs: Vec<Program>,
    at_once: usize,
    tell: Tell,
) -> anyhow::Result<ExitCode> {
    let total = u64::try_from(programs.len()).ok();
    let jobs = programs.into_iter().map(|program| {
        anyhow::Ok(Job { name: program.shown.clone(), program, stdin: Stdin::Empty })
    });
    all(shared, futures_util::stream::iter(jobs), (at_once, total), tell).await
}

/// Runs one program once per line of standard input; the line is what it reads.
pub(crate) async fn lines(
    shared: &Shared,
    program: Program,
    at_once: usize,
    tell: Tell,
) -> anyhow::Result<ExitCode> {
    let input = tokio::io::BufReader::new(tokio::io::stdin());
    let jobs = futures_util::stream::try_unfold((input, 1_u64), move |(mut input, number)| {
        let program = program.clone();
        async move {
            let mut line = Vec::new();
            let read = (&mut input)
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut line)
                .await
                .context("standard input cannot be read")?;
            if read == 0 {
                return anyhow::Ok(None);
            }
            let full = u64::try_from(read).unwrap_or(u64::MAX) == MAX_LINE_BYTES;
            anyhow::ensure!(
                !full || line.ends_with(b"\n"),
                "line {number} of standard input is longer than {MAX_LINE_BYTES} bytes"
            );
            let name = format!("{} line {number}", program.shown);
            let stdin = Stdin::Body(crate::api::whole(Bytes::from(line)));
            Ok(Some((Job { name, program, stdin }, (input, number.saturating_add(1)))))
        }
    });
    all(shared, jobs, (at_once, None), tell).await
}

/// Runs `at_once` jobs side by side. What is done waits for those before it, so at most so many
/// outputs are in memory.
async fn all(
    shared: &Shared,
    jobs: impl Stream<Item = anyhow::Result<Job>>,
    (at_once, total): (usize, Option<u64>),
    tell: Tell,
) -> anyhow::Result<ExitCode> {
    let progress = progress(total);
    // After Ctrl-C nothing begins any more, and what runs is waited for: it destroys its sandbox.
    let runs = jobs.take_until(shared.interrupt.wait()).map(|job| async {
        let job = job?;
        let finished = job::run(shared, job.program, job.stdin, Output::Kept).await;
        // At once, though it may be told later: the line shows what is done.
        progress.inc(1);
        anyhow::Ok((job.name, finished?))
    });
    let mut finished = std::pin::pin!(runs.buffered(at_once.max(1)));
    let (mut code, mut stopped) = (0, None);
    while let Some(run) = finished.next().await {
        let run_code = match run {
            Ok((_name, Finished::Stopped(code))) => {
                stopped = Some(code);
                continue;
            }
            Ok((name, Finished::Report(report))) => {
                if let Err(error) = told(shared, &name, &report, (tell, &progress)) {
                    if !is_broken_pipe(&error) {
                        eprint_above(&progress, &exit::describe(&error));
                    }
                    shared.interrupt.raise(exit::NO_READER);
                    stopped = Some(exit::NO_READER);
                }
                report.exit_code()
            }
            Err(error) => {
                eprint_above(&progress, &exit::describe(&error));
                exit::OURS
            }
        };
        if code == 0 {
            code = run_code;
        }
    }
    progress.finish_and_clear();
    Ok(ExitCode::from(stopped.unwrap_or(code)))
}

/// Tells one result, above the progress line.
fn told(
    shared: &Shared,
    name: &str,
    report: &Report,
    (tell, progress): (Tell, &ProgressBar),
) -> anyhow::Result<()> {
    let json;
    let (heading, stdout, stderr): (_, &[u8], &[u8]) = match tell {
        Tell::Json => {
            json = format!("{}\n", serde_json::to_string(&report.json(&shared.bounds))?);
            (String::new(), json.as_bytes(), &[])
        }
        Tell::Text => {
            let end = report.reason(&shared.bounds).unwrap_or_else(|| {
                format!("exit {}", report.outcome.exit_code.unwrap_or_default())
            });
            (format!("==> {name}: {end}\n"), &report.kept.stdout, &report.kept.stderr)
        }
    };
    let write = || {
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        err.write_all(heading.as_bytes())?;
        out.write_all(stdout)?;
        out.flush()?;
        err.write_all(stderr)
    };
    // A slow reader holds this thread up, and no other.
    tokio::task::block_in_place(|| progress.suspend(write)).context("the output cannot be written")
}

/// True where nobody reads our output any more, which is no news to who stopped reading.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

fn eprint_above(progress: &ProgressBar, line: &str) {
    progress.suspend(|| eprintln!("{line}"));
}

/// A line on standard error, where that is a terminal.
fn progress(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    }
    let progress = match total {
        Some(total) => ProgressBar::new(total).with_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} done, {elapsed} gone")
                .unwrap_or_else(|_bad| ProgressStyle::default_bar()),
        ),
        None => ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {pos} done, {elapsed} gone")
                .unwrap_or_else(|_bad| ProgressStyle::default_spinner()),
        ),
    };
    // From the start: the first program may be the longest.
    progress.enable_steady_tick(TICK);
    progress
}
