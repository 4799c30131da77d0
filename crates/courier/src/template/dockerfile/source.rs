//! The text of a Dockerfile, places in it, and what is wrong at a place.

use std::fmt;

/// Largest Dockerfile: hand-written ones have some kilobytes, with here-documents some more.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// Longest line that an error shows whole, in characters; more is cut around the place.
const SHOWN_CHARS: usize = 160;
/// What is shown of a longer line before the place.
const SHOWN_BEFORE: usize = 60;
/// Some editors begin a file with it; it is no part of the text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A Dockerfile as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    name: String,
    text: String,
}

/// What is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Byte of the text.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) what: String,
    /// What would be right.
    pub(crate) remedy: String,
}

impl Fault {
    /// At a byte of the text.
    pub(crate) fn new(at: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { at, what: what.into(), remedy: remedy.into() }
    }
}

/// An error of a Dockerfile as people read it: `PATH:LINE:COLUMN: what is wrong; what would be
/// right`, then the line with a mark below the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DockerfileError {
    /// The file.
    pub(crate) name: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
    /// The line.
    pub(crate) shown: String,
    /// Characters of `shown` before the place.
    pub(crate) before: usize,
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let mark = " ".repeat(self.before);
        writeln!(f, "{}:{}:{}: {}", self.name, self.line, self.column, self.message)?;
        writeln!(f, " {margin} |")?;
        writeln!(f, " {number} | {}", self.shown)?;
        write!(f, " {margin} | {mark}^")
    }
}

impl std::error::Error for DockerfileError {}

impl Source {
    /// Reads text.
    ///
    /// # Errors
    /// It is too large, no UTF-8, or has a NUL byte.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Result<Self, DockerfileError> {
        let whole = Self { name: name.to_owned(), text: String::new() };
        if bytes.len() > MAX_BYTES {
            let what = format!("a Dockerfile of {} bytes is too large", bytes.len());
            let remedy = format!("{MAX_BYTES} are allowed: put files beside it and COPY them");
            return Err(whole.error(&Fault::new(0, what, remedy)));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let read = String::from_utf8_lossy(bytes).into_owned();
                let source = Self { text: read, ..whole };
                let fault = Fault::new(at, "this byte is no UTF-8", "save the file as UTF-8");
                return Err(source.error(&fault));
            }
        };
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).to_owned();
        let source = Self { text, ..whole };
        match source.text.find('\0') {
            Some(at) => Err(source.error(&Fault::new(at, "a NUL byte", "remove it"))),
            None => Ok(source),
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The line of a byte, counted from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// An error at a place.
    pub(crate) fn error(&self, fault: &Fault) -> DockerfileError {
        self.mark(fault.at, format!("{}; {}", fault.what, fault.remedy))
    }

    /// Words about a place.
    pub(crate) fn mark(&self, at: usize, message: String) -> DockerfileError {
        let at = self.character(at);
        let (before, after) = self.text.split_at(at);
        let before = before.rsplit('\n').next().unwrap_or_default();
        let after = after.split('\n').next().unwrap_or_default().trim_end();
        let column = before.chars().count();
        let (shown, before) = cut(before, after, column);
        DockerfileError {
            name: self.name.clone(),
            line: self.line(at),
            column: column + 1,
            message,
            shown,
            before,
        }
    }

    /// The nearest character that begins at or before a byte.
    fn character(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        (0..=at).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }
}

/// A line as it is shown, and how many characters of that are before the place. Tabs and what could
/// steer a terminal become one character each.
fn cut(before: &str, after: &str, column: usize) -> (String, usize) {
    let plain = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let whole = column + after.chars().count() <= SHOWN_CHARS;
    let skipped = if whole { 0 } else { column.saturating_sub(SHOWN_BEFORE) };
    let shown = before.chars().skip(skipped).chain(after.chars()).take(SHOWN_CHARS);
    (shown.map(plain).collect(), column - skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_line_and_marks_the_place_in_characters() {
        let source = Source::new("Dockerfile", "FROM a\nRUN é x\r\n".as_bytes()).unwrap();
        let at = source.text().find('x').unwrap();
        let error = source.error(&Fault::new(at, "it is wrong", "do it right"));
        let expected = "Dockerfile:2:7: it is wrong; do it right\n   |\n 2 | RUN é x\n   |       ^";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn places_beyond_the_end_or_inside_a_character_are_places_still() {
        let source = Source::new("D", "é".as_bytes()).unwrap();
        for at in [0, 1, 2, 99] {
            assert_eq!(source.error(&Fault::new(at, "x", "y")).line, 1);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}!{}", "a".repeat(10_000), "b".repeat(10_000));
        let source = Source::new("D", text.as_bytes()).unwrap();
        let error = source.error(&Fault::new(10_000, "x", "y"));
        assert_eq!(error.column, 10_001);
        assert!(error.to_string().len() < 600);
        assert_eq!(error.shown.chars().nth(error.before), Some('!'));
    }

    #[test]
    fn what_is_no_text_is_refused_at_its_place() {
        let told = |bytes: &[u8]| Source::new("D", bytes).unwrap_err();
        assert_eq!((told(b"a\n\xff").line, told(b"a\nb\0").column), (2, 2));
        assert!(told(&vec![b'a'; MAX_BYTES + 1]).message.contains("too large"));
        assert_eq!(Source::new("D", "\u{feff}FROM a".as_bytes()).unwrap().text(), "FROM a");
    }
}
