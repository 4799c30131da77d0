//! A secret's value on its way in: from a file, a pipe, or a terminal that does not show it. Never
//! from the command line, which others see.

use std::io::{self, BufRead as _, IsTerminal as _, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use courier_protocol::secret::GivenSecret;
use courier_types::egress::SecretValue;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Reads a value.
///
/// # Errors
/// It cannot be read, is empty or too long, or is no text.
pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<GivenSecret> {
    let stdin = io::stdin();
    match file {
        Some(path) => {
            let file = std::fs::File::open(path);
            let file = file.with_context(|| format!("{} cannot be read", path.display()))?;
            of(file).with_context(|| format!("{} has no value", path.display()))
        }
        None if stdin.is_terminal() => asked(),
        None => of(stdin.lock()).context("standard input has no value"),
    }
}

fn of(reader: impl Read) -> anyhow::Result<GivenSecret> {
    // With a line end, and one byte to see that it is longer.
    let most = u64::try_from(SecretValue::MAX_BYTES)?.saturating_add(3);
    let mut text = String::new();
    reader.take(most).read_to_string(&mut text)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        bail!("it is empty");
    }
    if text.len() > SecretValue::MAX_BYTES {
        bail!("a secret has {} bytes at most", SecretValue::MAX_BYTES);
    }
    Ok(GivenSecret::new(text))
}

/// Asks at the terminal.
fn asked() -> anyhow::Result<GivenSecret> {
    let _hidden = Hidden::new().context("the terminal cannot be told not to show it")?;
    eprint!("Value (not shown): ");
    io::stderr().flush()?;
    let mut line = Vec::new();
    let most = u64::try_from(SecretValue::MAX_BYTES)?.saturating_add(3);
    let read = io::stdin().lock().take(most).read_until(b'\n', &mut line);
    eprintln!();
    read.context("the terminal cannot be read")?;
    of(line.as_slice())
}

/// The terminal does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // What was typed before is not taken for the value.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            tracing::warn!(%error, "the terminal stays silent: type `stty echo`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_value_and_what_is_none_is_refused() {
        let value = |text: &str| of(text.as_bytes()).map(|value| value.value().expose().to_vec());
        for (text, expected) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\nb\n\n", "a\nb\n"), (" a ", " a ")]
        {
            assert_eq!(value(text).unwrap(), expected.as_bytes(), "{text:?}");
        }
        for text in ["", "\n", "\r\n"] {
            assert!(value(text).is_err(), "{text:?}");
        }
        let most = "x".repeat(SecretValue::MAX_BYTES);
        assert!(value(&format!("{most}\r\n")).is_ok());
        assert!(value(&format!("{most}y")).is_err());
        assert!(of(&b"\xff"[..]).is_err());
    }

    #[test]
    fn an_error_names_the_file_and_not_the_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"canary\xff").unwrap();
        let error = format!("{:#}", read(Some(file.path())).unwrap_err());
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}
