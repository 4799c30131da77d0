//! Commands of a build: started, followed into its log, and judged.

use std::time::Duration;

use courier_client::{ClientError, Ended, Event, Events, GuestClient, Refusal};
use courier_protocol::envd::process::{ProcessConfig, StartRequest};
use courier_protocol::node::{BuildError, BuildLogLevel};

use super::log::{Lines, Log};
use super::sandbox::BuildSandbox;
use super::state::{PATH, State};
use super::text;

/// Longest time for one command. Docker and E2B bound whole builds only; a command that hangs shall
/// not hold a place for as long as that.
const COMMAND_DEADLINE: Duration = Duration::from_secs(3_600);

/// Most bytes that one command may write: a log takes a fraction of it, and what writes more writes
/// without end.
const OUTPUT_MAX_BYTES: u64 = 256 << 20;

/// A command, and what it runs in.
pub(super) struct Command<'a> {
    /// What is told of it: the command line as the build has it.
    pub(super) line: &'a str,
    /// Program and arguments.
    pub(super) program: (&'a str, Vec<String>),
    /// Its user.
    pub(super) user: &'a str,
    /// Its directory and environment, where they are the build's.
    pub(super) state: Option<&'a State>,
}

impl<'a> Command<'a> {
    /// A command line of a RUN step.
    pub(super) fn shell(line: &'a str, user: &'a str, state: &'a State) -> Self {
        let args = vec!["-l".to_owned(), "-c".to_owned(), line.to_owned()];
        Self { line, program: ("/bin/bash", args), user, state: Some(state) }
    }

    /// A script of our own, as root; `line` is what is told of it.
    pub(super) fn script(line: &'a str, shell: &'a str, script: &str, arguments: &[&str]) -> Self {
        let mut args = vec!["-c".to_owned(), script.to_owned(), "courier".to_owned()];
        args.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Self { line, program: (shell, args), user: "root", state: None }
    }

    fn request(&self) -> StartRequest {
        let (cmd, args) = self.program.clone();
        let envs = self.state.map(|state| state.env.as_ref().clone()).unwrap_or_default();
        let cwd = Some(self.state.map_or("/", |state| state.workdir.as_str()).to_owned());
        let process = ProcessConfig { cmd: cmd.to_owned(), args, envs, cwd };
        StartRequest { process: Some(process), pty: None, tag: None, stdin: Some(false) }
    }
}

/// Has login shells keep a `PATH` that the build sets: `/etc/profile` sets its own first, and then
/// reads this. Every RUN and most commands of E2B's SDKs are run by login shells.
const KEEP_PATH: &str = r#"mkdir -p /etc/profile.d &&
printf 'PATH=%q\nexport PATH\n' "$1" > /etc/profile.d/zz-build-path.sh"#;

/// Has login shells keep the state's `PATH`, where it has one.
pub(super) async fn keep_path(
    sandbox: &BuildSandbox,
    log: &Log,
    state: &State,
) -> Result<(), BuildError> {
    let Some(path) = state.env.get(PATH) else { return Ok(()) };
    let script = Command::script("ENV PATH", "/bin/bash", KEEP_PATH, &[path]);
    run(sandbox, log, &script).await
}

/// Runs a command to its end.
///
/// # Errors
/// It did not succeed, in the words of E2B's wire where those are tested; or the sandbox did not.
pub(super) async fn run(
    sandbox: &BuildSandbox,
    log: &Log,
    command: &Command<'_>,
) -> Result<(), BuildError> {
    let before = sandbox.usage().await;
    let guest = sandbox.guest(command.user);
    let result = tokio::time::timeout(COMMAND_DEADLINE, follow(&guest, log, command)).await;
    log.tell_gap();
    let line = text::command(command.line);
    let message = match result {
        Ok(Ok(Outcome::Ended(ended))) if ended.exit_code == Some(0) => return Ok(()),
        Ok(Ok(Outcome::Ended(ended))) => text::failed_command(command.line, &ended),
        Ok(Ok(Outcome::TooMuch)) => {
            let most = OUTPUT_MAX_BYTES >> 20;
            return Err(log
                .failed(format!("failed to run command '{line}': it wrote more than {most} MiB")));
        }
        Err(_) | Ok(Err(ClientError::Refused { refusal: Refusal::TimedOut, .. })) => {
            let minutes = COMMAND_DEADLINE.as_secs() / 60;
            return Err(log.failed(format!(
                "failed to run command '{line}': it ran for more than {minutes} minutes"
            )));
        }
        Ok(Err(ClientError::Refused { refusal, message })) => {
            text::refused_command(command.line, refusal, &message)
        }
        Ok(Err(error)) => {
            let what = format!("failed to run command '{line}'");
            return Err(sandbox.explain(&what, error, log).await);
        }
    };
    let shortage = sandbox.shortage(&before).await;
    Err(log.failed(shortage.map_or(message.clone(), |shortage| format!("{message}; {shortage}"))))
}

/// What became of a command.
enum Outcome {
    Ended(Ended),
    /// It was left alone in the middle of its output.
    TooMuch,
}

async fn follow(
    guest: &GuestClient,
    log: &Log,
    command: &Command<'_>,
) -> Result<Outcome, ClientError> {
    let events = guest.start(&command.request(), Some(COMMAND_DEADLINE)).await?;
    let mut out = Lines::new(log.clone(), BuildLogLevel::Info);
    let mut err = Lines::new(log.clone(), BuildLogLevel::Warn);
    let outcome = read(events, (&mut out, &mut err)).await;
    out.finish();
    err.finish();
    outcome
}

async fn read(
    mut events: Events,
    (out, err): (&mut Lines, &mut Lines),
) -> Result<Outcome, ClientError> {
    let mut bytes: u64 = 0;
    let mut ended = Ended { exit_code: None, signal: None, status: "unknown".to_owned() };
    while let Some(event) = events.next().await? {
        let (lines, piece) = match event {
            Event::Started { .. } => continue,
            Event::Ended(end) => {
                ended = end;
                continue;
            }
            Event::Stdout(piece) | Event::Pty(piece) => (&mut *out, piece),
            Event::Stderr(piece) => (&mut *err, piece),
        };
        lines.push(&piece);
        bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if bytes > OUTPUT_MAX_BYTES {
            return Ok(Outcome::TooMuch);
        }
    }
    Ok(Outcome::Ended(ended))
}
