//! What we print ourselves: a reader that has gone is no failure of ours, and what a guest chose
//! cannot steer the terminal.

use std::io::{ErrorKind, Write as _};

/// Who reads our output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody.
    There,
    /// Nobody any more.
    Gone,
}

/// Prints text. Whoever reads it may stop reading (`courier sandbox ls | head -1`).
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    offer(text).map(|_reader| ())
}

/// Prints text, and says whether somebody still reads: for what would go on without an end.
pub(crate) fn offer(text: &str) -> anyhow::Result<Reader> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(anyhow::Error::new(error).context("standard output cannot be written")),
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Text that a guest may have chosen, for a terminal: control characters are replaced, but for line
/// ends and tabs.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// The same for a name within a line of ours: line ends and tabs are replaced too, so that it cannot
/// look like a line of our own.
pub(crate) fn printable_name(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_chose_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\td\u{9b}"), "a\u{fffd}[2Jb\nc\td\u{fffd}");
        let forged = printable_name("a\ncourier: all is well");
        assert_eq!(forged, "a\u{fffd}courier: all is well");
    }
}
