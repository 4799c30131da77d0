//! One run, from its sandbox's creation to its destruction.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use courier_client::execution::{
    Conclusion, ExecutionOutcome, ExecutionSpec, OutputBound, OutputPolicy, Sink, Stdin,
};
use courier_client::language::Language;
use courier_types::Usage;
use tokio::sync::Notify;

use super::files::{FileIn, FileOut};
use super::interrupt::Interrupt;
use super::learned::Learned;
use super::report::{Bounds, Report};
use super::sinks::{Kept, Live};
use super::target::{Place, Target, Wanted};

/// What all runs of one command line have in common.
pub(crate) struct Shared {
    /// Where they happen.
    pub(crate) target: Target,
    /// Their sandboxes.
    pub(crate) wanted: Wanted,
    /// What they were refused, where that is asked for.
    pub(crate) learned: Option<Learned>,
    /// What holds for them.
    pub(crate) bounds: Bounds,
    /// Environment of the programs.
    pub(crate) env: std::collections::BTreeMap<String, String>,
    /// Arguments of the programs.
    pub(crate) args: Vec<String>,
    /// What goes in.
    pub(crate) files_in: Vec<FileIn>,
    /// What comes out.
    pub(crate) files_out: Vec<FileOut>,
    /// Ctrl-C.
    pub(crate) interrupt: Interrupt,
}

/// A program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// How people know it: its path as they wrote it.
    pub(crate) shown: String,
    /// What it is written in.
    pub(crate) language: Language,
    /// Its text.
    pub(crate) source: Bytes,
    /// Its file name inside.
    pub(crate) file_name: Option<String>,
}

/// What happens to output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// It is passed on as it comes.
    Live,
    /// It is kept for the end.
    Kept,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) enum Finished {
    /// The program ran.
    Report(Box<Report>),
    /// A signal ended it, or nobody reads its output any more; our exit code.
    Stopped(u8),
}

/// Runs one program in a sandbox of its own.
pub(crate) async fn run(
    shared: &Shared,
    program: Program,
    stdin: Stdin,
    output: Output,
) -> anyhow::Result<Finished> {
    // Not given up on Ctrl-C: what is made by a server must be known to be destroyed.
    let place = shared.target.create(&shared.wanted).await?;
    let mut kept = Kept::default();
    let ran = inside(shared, &place, (&program, stdin, output), &mut kept).await;
    if ran.as_ref().is_ok_and(Ran::is_lost) {
        shared.target.wait_for_end(&place.id).await;
    }
    learn(shared, &place).await;
    let keep = shared.wanted.keep && matches!(ran, Ok(Ran::Outcome(_)));
    let before_end = shared.target.usage(&place.id).await;
    let end = if keep {
        eprintln!(
            "courier: kept sandbox {} for an hour: courier sandbox shell {}",
            place.id, place.id
        );
        Ok(super::target::End::default())
    } else {
        shared.target.destroy(&place.id).await
    };
    let mut outcome = match ran? {
        Ran::Outcome(outcome) => outcome,
        Ran::Stopped(code) => return Ok(Finished::Stopped(code)),
    };
    let end = end.with_context(|| format!("sandbox {} could not be destroyed", place.id))?;
    let usage = end.usage.or(before_end);
    outcome.settle(&Usage::default(), &usage.unwrap_or_default(), end.reason);
    let lost = matches!(outcome.conclusion, Conclusion::SandboxLost { .. });
    Ok(Finished::Report(Box::new(Report {
        file: program.shown,
        sandbox: place.id.to_string(),
        isolation: place.isolation,
        outcome,
        usage,
        detail: end.detail.filter(|_detail| lost),
        kept,
    })))
}

/// Notes what the sandbox was refused, where that is asked for.
async fn learn(shared: &Shared, place: &Place) {
    let Some(learned) = &shared.learned else { return };
    match shared.target.seen(&place.id).await {
        Ok(seen) => learned.add(seen),
        Err(error) => tracing::warn!(%error, "what the program was refused is not known"),
    }
}

/// What happened inside.
enum Ran {
    Outcome(ExecutionOutcome),
    Stopped(u8),
}

impl Ran {
    /// True where the sandbox ended under the program.
    const fn is_lost(&self) -> bool {
        match self {
            Self::Outcome(outcome) => {
                matches!(outcome.conclusion, Conclusion::SandboxLost { .. })
            }
            Self::Stopped(_) => false,
        }
    }
}

/// Files in, the program, files out; or a signal before the end of that.
async fn inside(
    shared: &Shared,
    place: &Place,
    (program, stdin, output): (&Program, Stdin, Output),
    kept: &mut Kept,
) -> anyhow::Result<Ran> {
    let broken = Arc::new(Notify::new());
    let mut live = Live::new(Arc::clone(&broken));
    let sink: &mut dyn Sink = match output {
        Output::Live => &mut live,
        Output::Kept => kept,
    };
    let work = async {
        for file in &shared.files_in {
            file.put(&place.guest).await?;
        }
        let outcome = place.guest.execute(execution(shared, program, stdin, output), sink).await?;
        if !matches!(outcome.conclusion, Conclusion::SandboxLost { .. } | Conclusion::Memory) {
            fetch(shared, place).await?;
        }
        Ok(Ran::Outcome(outcome))
    };
    tokio::select! {
        biased;
        code = shared.interrupt.wait() => Ok(Ran::Stopped(code)),
        ran = work => ran,
        () = broken.notified() => Ok(Ran::Stopped(crate::exit::NO_READER)),
    }
}

async fn fetch(shared: &Shared, place: &Place) -> anyhow::Result<()> {
    for file in &shared.files_out {
        let fetched = file
            .fetch(&place.guest, shared.bounds.files_bytes())
            .await
            .with_context(|| format!("--out {} failed", file.guest()))?;
        tracing::info!(files = fetched.files, bytes = fetched.bytes, "fetched");
    }
    Ok(())
}

fn execution(shared: &Shared, program: &Program, stdin: Stdin, output: Output) -> ExecutionSpec {
    ExecutionSpec {
        language: program.language,
        source: program.source.clone(),
        file_name: program.file_name.clone(),
        args: shared.args.clone(),
        env: shared.env.clone(),
        files_in: Vec::new(),
        files_out: Vec::new(),
        stdin,
        timeout: shared.bounds.timeout,
        output: OutputBound {
            limit_bytes: shared.bounds.output_bytes(),
            policy: match output {
                Output::Live => OutputPolicy::Kill,
                Output::Kept => OutputPolicy::Cut,
            },
        },
        cwd: None,
    }
}
