//! `courier run`: files in fresh sandboxes.

mod files;
pub(crate) mod interrupt;
mod job;
mod learned;
mod many;
mod program;
mod report;
mod sinks;
mod target;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use courier_client::execution::Stdin;
use courier_client::language::Language;
use courier_types::egress::{Policy, SecretName};

use self::files::{FileIn, FileOut};
use self::interrupt::Interrupt;
use self::job::{Finished, Output, Program, Shared};
use self::learned::Learned;
use self::many::Tell;
use self::report::Bounds;
use self::target::{Target, Wanted};
use crate::api::{Api, ApiError};
use crate::config::Config;
use crate::egress::{EgressArgs, secret};
use crate::limits::LimitArgs;
use crate::transfer::upload;
use crate::{config, duration, log, output, pairs};

/// What `courier run --help` ends with.
const EXAMPLES: &str = "\
Examples:
  courier run script.py
  courier run --timeout 10s --memory-mib 256 script.js -- some arguments
  courier run --in data/ --out result.csv:out.csv analyse.py
  courier run -j 4 tests/*.py
  printf '1\\n2\\n3\\n' | courier run --stdin-each square.py
  echo 'print(6*7)' | courier run --lang python --json -
  courier run --allow api.example.com --preset pypi script.py
  courier run --learn script.py         what would it reach? prints a policy as a diff

It reaches nothing unless --allow, --egress, --preset or its template says so.

Exit code: the program's own; 128 + N when signal N ended it; 124 when its time was up; 137 when it
was killed for its memory or output; 130 after Ctrl-C; 125 when courier itself failed. Of several
runs, that of the first which failed.

The program's file goes to /home/user, which is also its working directory; --in and --out paths
inside are relative to it. --out replaces a file on this machine only where you name that file; a
folder's files never replace anything.";

/// Flags of `courier run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Files to run, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Arguments of the program
    #[arg(value_name = "ARG", last = true)]
    args: Vec<String>,
    /// What the program is written in: python, javascript, bash, sh, perl, c [default: by its name]
    #[arg(long, value_name = "LANGUAGE", value_parser = Language::from_name)]
    lang: Option<Language>,
    /// How long it may run: 30s, 5m, 1h30m
    #[arg(long, value_name = "TIME", default_value = config::RUN_TIMEOUT, value_parser = duration::parse)]
    timeout: Duration,
    /// Template to start from
    #[arg(long, value_name = "NAME", default_value = config::TEMPLATE)]
    template: String,
    /// Environment of the program
    #[arg(long, value_name = "NAME=VALUE", value_parser = pairs::parse)]
    env: Vec<(String, String)>,
    /// Put a file or folder into the sandbox
    #[arg(long = "in", value_name = "HOST[:GUEST]")]
    files_in: Vec<FileIn>,
    /// Fetch a file or folder from the sandbox afterwards
    #[arg(long = "out", value_name = "GUEST[:HOST]")]
    files_out: Vec<FileOut>,
    /// Print one JSON object per run instead of its output
    #[arg(long)]
    json: bool,
    /// Keep the sandbox for an hour (with a running server)
    #[arg(long, conflicts_with_all = ["local", "stdin_each"])]
    keep: bool,
    /// Run FILE once per line of standard input; the line is what it reads
    #[arg(long)]
    stdin_each: bool,
    /// Runs at once, of several [default: number of cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Do not use a running server
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    egress: EgressArgs,
    /// Put a token for secret NAME into variable ENV. It is exchanged for the value where a
    /// credential of the policy says so, and ends with the sandbox (with a running server)
    #[arg(long, value_name = "ENV=NAME", value_parser = secret, conflicts_with = "local", help_heading = "What it may reach")]
    secret: Vec<(String, SecretName)>,
    /// Output in MiB, standard output and error each, 1 to 4096: beyond it the program is killed
    /// (with --json: the rest is dropped)
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096), help_heading = "Limits")]
    output_mib: u64,
}

/// Runs files.
pub(crate) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    log::start(config, config::LOG_COMMAND)?;
    let limits = args.limits.limits()?;
    let programs = programs(&args)?;
    for file in &args.files_in {
        file.check()?;
    }
    for file in &args.files_out {
        file.check()?;
    }
    let wish = args.egress.read()?;
    let interrupt = Interrupt::listen()?;
    let target = target(&args, config, wish.policy.as_ref()).await?;
    let wanted = Wanted {
        template: args.template,
        limits,
        timeout: args.timeout,
        keep: args.keep,
        egress: wish.policy.clone(),
        secrets: args.secret,
    };
    let shared = Shared {
        target,
        wanted,
        learned: args.egress.learn.then(Learned::default),
        bounds: Bounds { limits, timeout: args.timeout, output_mib: args.output_mib },
        env: pairs::map(args.env),
        args: args.args,
        files_in: args.files_in,
        files_out: args.files_out,
        interrupt,
    };
    let tell = if args.json { Tell::Json } else { Tell::Text };
    let at_once = args.jobs.or_else(|| std::thread::available_parallelism().ok());
    let at_once = at_once.map_or(1, NonZeroUsize::get);
    let code = match <[Program; 1]>::try_from(programs) {
        Ok([program]) if args.stdin_each => many::lines(&shared, program, at_once, tell).await,
        Ok([program]) => one(&shared, program, tell).await,
        Err(programs) => many::files(&shared, programs, at_once, tell).await,
    };
    if let Some(learned) = &shared.learned {
        write!(std::io::stderr(), "{}", learned.told(&wish))?;
    }
    code
}

/// Reads the files, and refuses what makes no sense together.
fn programs(args: &Args) -> anyhow::Result<Vec<Program>> {
    let from_stdin = args.files.iter().filter(|file| *file == "-").count();
    if from_stdin > 1 {
        bail!("standard input can be only one of the files");
    }
    if args.stdin_each && (from_stdin > 0 || args.files.len() > 1) {
        bail!("--stdin-each takes exactly one FILE, which is not -: its lines come from there");
    }
    if args.egress.takes_stdin() && (from_stdin > 0 || args.stdin_each) {
        bail!("standard input cannot be the policy and the program or its input at once");
    }
    if args.files.len() > 1 && !args.files_out.is_empty() {
        bail!("--out takes exactly one FILE: several runs would overwrite each other's files");
    }
    if args.stdin_each && !args.files_out.is_empty() {
        bail!("--out and --stdin-each exclude each other: the runs would overwrite their files");
    }
    args.files.iter().map(|file| program::read(file, args.lang)).collect()
}

/// The server that runs for the data folder, else a node of our own.
async fn target(args: &Args, config: &Config, egress: Option<&Policy>) -> anyhow::Result<Target> {
    let needs_server = needs_server(args);
    if !args.local {
        match Api::find(config) {
            Ok(api) => return Ok(Target::Server(Box::new(api))),
            Err(error) => match error.downcast_ref::<ApiError>() {
                Some(ApiError::NoServer { .. }) => {
                    if let Some(why) = needs_server {
                        return Err(error.context(why));
                    }
                }
                // Somebody else's server: its key is not ours to read.
                Some(ApiError::NoKey { .. }) if needs_server.is_none() && config.url.is_none() => {}
                Some(_) | None => return Err(error),
            },
        }
    }
    Target::local(config, &args.template, egress).await
}

/// Why a node of our own would not do.
fn needs_server(args: &Args) -> Option<&'static str> {
    if args.keep {
        return Some("--keep needs a server, because a sandbox without one ends with this command");
    }
    (!args.secret.is_empty()).then_some("--secret needs a server, which keeps the secrets")
}

/// One run: its output as it comes, or one object.
async fn one(shared: &Shared, program: Program, tell: Tell) -> anyhow::Result<ExitCode> {
    let piped = program.shown != "-" && !std::io::stdin().is_terminal();
    let stdin = if piped { Stdin::Body(upload::body(tokio::io::stdin())) } else { Stdin::Empty };
    let how = match tell {
        Tell::Text => Output::Live,
        Tell::Json => Output::Kept,
    };
    let report = match job::run(shared, program, stdin, how).await? {
        Finished::Stopped(code) => return Ok(ExitCode::from(code)),
        Finished::Report(report) => report,
    };
    if tell == Tell::Json {
        output::line(&serde_json::to_string(&report.json(&shared.bounds))?)?;
    } else if let Some(reason) = report.reason(&shared.bounds) {
        writeln!(std::io::stderr(), "courier: {reason}")?;
        if let Some(detail) = &report.detail {
            writeln!(std::io::stderr(), "  {}", output::printable(detail).replace('\n', "\n  "))?;
        }
    }
    Ok(ExitCode::from(report.exit_code()))
}
