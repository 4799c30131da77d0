//! Exit codes, and how an error is told.

use std::process::ExitCode;

/// Our own failure, before or beside the program's run (as in docker and timeout).
pub(crate) const OURS: u8 = 125;

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
    text
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
