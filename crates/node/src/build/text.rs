//! Steps and failures in words, as logs and errors have them.

use courier_client::{Ended, Refusal};
use courier_protocol::node::StepKind;

/// Longest text of a step in a log, in characters: about two lines of a terminal.
const STEP_MAX_CHARS: usize = 200;

/// Longest command line in an error, in characters. E2B has it whole; a script of a megabyte helps
/// nobody.
const COMMAND_MAX_CHARS: usize = 4_096;

/// A step in one line, in the words of Dockerfiles. Values of variables may be secrets.
pub(super) fn step(step: &StepKind) -> String {
    let text = match step {
        StepKind::Run { command, user: None } => format!("RUN {command}"),
        StepKind::Run { command, user: Some(user) } => format!("RUN (as {user}) {command}"),
        StepKind::Copy { source, destination, .. } => format!("COPY {source} {destination}"),
        StepKind::Workdir(path) => format!("WORKDIR {path}"),
        StepKind::User(name) => format!("USER {name}"),
        StepKind::Env(pairs) => {
            let names: Vec<&str> = pairs.iter().map(|(name, _value)| name.as_str()).collect();
            format!("ENV {}", names.join(" "))
        }
    };
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&line, STEP_MAX_CHARS)
}

/// A command line as errors have it.
pub(super) fn command(line: &str) -> String {
    cut(line, COMMAND_MAX_CHARS)
}

/// The start of a text.
fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// A command that ended otherwise than well. Part of E2B's wire.
pub(super) fn failed_command(command: &str, ended: &Ended) -> String {
    format!("failed to run command '{}': {}", self::command(command), ended.status)
}

/// A command that the guest daemon did not take. Part of E2B's wire.
pub(super) fn refused_command(command: &str, refusal: Refusal, message: &str) -> String {
    let kind = match refusal {
        Refusal::NotFound => "not_found",
        Refusal::AlreadyExists => "already_exists",
        Refusal::Invalid => "invalid_argument",
        Refusal::Denied => "unauthenticated",
        Refusal::TimedOut => "deadline_exceeded",
        Refusal::Exhausted => "resource_exhausted",
        Refusal::Other => "unknown",
    };
    let command = self::command(command);
    format!("failed to run command '{command}': command failed: {kind}: {message}")
}

/// An error and what it came from, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_commands_are_in_the_words_of_the_wire() {
        let ended = Ended { exit_code: Some(2), signal: None, status: "exit status 2".to_owned() };
        assert_eq!(failed_command("make", &ended), "failed to run command 'make': exit status 2");
        assert_eq!(
            refused_command("whoami", Refusal::Denied, "invalid username: 'root123'"),
            "failed to run command 'whoami': command failed: unauthenticated: invalid username: \
             'root123'"
        );
    }

    #[test]
    fn a_step_is_one_line_and_shows_no_value_of_a_variable() {
        let run = StepKind::Run { command: "a\n\u{1b}[2Jb".to_owned(), user: None };
        assert_eq!(step(&run), "RUN a  [2Jb");
        let env = StepKind::Env(vec![("TOKEN".to_owned(), "hunter2".to_owned())]);
        assert_eq!(step(&env), "ENV TOKEN");
        let long = StepKind::Workdir("ä".repeat(1_000));
        assert_eq!(step(&long).chars().count(), STEP_MAX_CHARS + 1);
    }
}
