//! Exit codes, and how an error is told.

use std::process::ExitCode;

use courier_client::Ended;

/// Our own failure, before or beside the program's run (as in docker and timeout).
pub(crate) const OURS: u8 = 125;
/// The program's time was up (as in timeout).
pub(crate) const TIMEOUT: u8 = 124;
/// The program was killed for its memory or output: what a shell shows for SIGKILL.
pub(crate) const KILLED: u8 = 137;
/// Ctrl-C: what a shell shows for SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;
/// SIGHUP, as a shell shows it.
pub(crate) const HUNG_UP: u8 = 129;
/// SIGTERM, as a shell shows it.
pub(crate) const TERMINATED: u8 = 143;
/// Whoever read our output has gone: what a shell shows for SIGPIPE.
pub(crate) const NO_READER: u8 = 141;
/// A shell shows a signal as this and its number.
const SIGNAL_BASE: i32 = 128;

/// Linux's numbers of the signals that end a program, by name.
const SIGNALS: [(&str, i32); 16] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSYS", 31),
];

/// The number of a signal's name.
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(known, _number)| *known == name).map(|(_name, number)| *number)
}

/// The exit code that a shell would show for a command.
pub(crate) fn of_command(ended: &Ended) -> ExitCode {
    match (ended.exit_code, ended.signal.as_deref()) {
        (Some(code), _) => ExitCode::from(low_byte(code)),
        (None, signal) => of_signal(signal.and_then(signal_number).unwrap_or(0)),
    }
}

/// The exit code that a shell would show for a signal.
pub(crate) fn of_signal(signal: i32) -> ExitCode {
    ExitCode::from(signal_code(signal))
}

/// The same as a number.
pub(crate) fn signal_code(signal: i32) -> u8 {
    low_byte(SIGNAL_BASE.saturating_add(signal))
}

/// An exit code has eight bits; the guest may say anything.
pub(crate) fn low_byte(code: i32) -> u8 {
    code.to_le_bytes().first().copied().unwrap_or(OURS)
}

/// Prints an error's chain, one line per cause, and makes an exit code of the outcome.
pub(crate) fn code(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", describe(&error));
            ExitCode::from(OURS)
        }
    }
}

/// An error and its causes as people read them.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("courier: {error}");
    for cause in error.chain().skip(1) {
        text.push_str("\n  because: ");
        text.push_str(&cause.to_string());
    }
    crate::output::printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_each_on_its_line() {
        let error = anyhow::anyhow!("the disk is full").context("cannot write output");
        assert_eq!(describe(&error), "courier: cannot write output\n  because: the disk is full");
    }
}
