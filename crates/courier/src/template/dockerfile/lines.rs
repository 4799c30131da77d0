//! Instructions as they stand in the file: continued lines are one, comments are gone, and
//! here-documents are beside the instruction that they belong to.

use super::source::Fault;

/// The character that continues a line, where the file names none.
const ESCAPE: char = '\\';
/// Instructions whose lines may name here-documents.
const WITH_HEREDOCS: [&str; 3] = ["RUN", "COPY", "ADD"];

/// Text that is put together of several lines, which knows where each byte of it comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text {
    value: String,
    origins: Vec<usize>,
    end: usize,
}

impl Text {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.value
    }

    /// Text that begins at a place of the file.
    pub(crate) fn at(value: &str, at: usize) -> Self {
        let mut text = Self::default();
        text.push(value, at);
        text
    }

    /// Where a byte comes from.
    pub(crate) fn origin(&self, index: usize) -> usize {
        self.origins.get(index).copied().unwrap_or(self.end)
    }

    /// A part, without the white space around it.
    pub(crate) fn part(&self, from: usize, to: usize) -> Self {
        let piece = self.value.get(from..to).unwrap_or_default();
        let start = from + (piece.len() - piece.trim_start().len());
        self.slice(start, start + piece.trim().len())
    }

    /// A part as it is.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        let value = self.value.get(from..to).unwrap_or_default().to_owned();
        let origins = self.origins.get(from..to).unwrap_or_default().to_vec();
        Self { value, origins, end: self.origin(to) }
    }

    fn push(&mut self, line: &str, at: usize) {
        self.value.push_str(line);
        self.origins.extend(at..at + line.len());
        self.end = at + line.len();
    }
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HereDocument {
    /// The word that ends it.
    pub(crate) name: String,
    /// Its lines, each with its end; tabs at their beginnings are gone where the file said so.
    pub(crate) content: String,
    /// Its lines as they stand in the file.
    pub(crate) raw: String,
    /// Variables in it are expanded.
    pub(crate) is_expanded: bool,
    /// Where its lines begin in the file.
    pub(crate) at: usize,
}

/// One instruction as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawInstruction {
    /// Its name in capitals.
    pub(crate) name: String,
    /// Where it begins.
    pub(crate) at: usize,
    /// What follows the name.
    pub(crate) rest: Text,
    /// The here-documents that it names, in their order.
    pub(crate) here_documents: Vec<HereDocument>,
}

/// A Dockerfile, cut into instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The character that continues lines and escapes others.
    pub(crate) escape: char,
    /// The instructions in their order.
    pub(crate) instructions: Vec<RawInstruction>,
    /// The value of the `syntax` directive and its place.
    pub(crate) syntax: Option<(String, usize)>,
}

/// Cuts a file into instructions.
///
/// # Errors
/// A directive is none, or a here-document does not end.
pub(crate) fn cut(text: &str) -> Result<Lines, Fault> {
    let mut reader = Reader { text, at: 0, escape: ESCAPE, syntax: None };
    reader.directives()?;
    let mut instructions = Vec::new();
    while let Some(instruction) = reader.instruction()? {
        instructions.push(instruction);
    }
    Ok(Lines { escape: reader.escape, instructions, syntax: reader.syntax })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    syntax: Option<(String, usize)>,
}

impl<'a> Reader<'a> {
    /// The next line without its end, and where it begins.
    fn line(&mut self) -> Option<(&'a str, usize)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        self.at += length;
        let line = rest.get(..length).unwrap_or_default();
        let line = line.strip_suffix('\n').unwrap_or(line);
        Some((line.strip_suffix('\r').unwrap_or(line), at))
    }

    /// Directives are comments of the form `# NAME=VALUE` at the very beginning.
    fn directives(&mut self) -> Result<(), Fault> {
        loop {
            let begin = self.at;
            let Some((line, at)) = self.line() else { return Ok(()) };
            if !self.directive(line, at)? {
                self.at = begin;
                return Ok(());
            }
        }
    }

    /// Reads a directive; false where the line is none, and there is none after it.
    fn directive(&mut self, line: &str, at: usize) -> Result<bool, Fault> {
        let Some((name, value)) = line.strip_prefix('#').and_then(|text| text.split_once('='))
        else {
            return Ok(false);
        };
        let place = at + (line.len() - value.trim_start().len());
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "syntax" => self.syntax = Some((value.to_owned(), at)),
            "check" => {}
            "escape" => {
                self.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let what = format!("{other:?} cannot be the escape character");
                        return Err(Fault::new(place, what, "use \\ or `"));
                    }
                }
            }
            _comment => return Ok(false),
        }
        Ok(true)
    }

    fn instruction(&mut self) -> Result<Option<RawInstruction>, Fault> {
        let Some((first, at)) = self.begin() else { return Ok(None) };
        let (whole, at) = self.continued(first, at);
        let value = whole.as_str();
        let length = value.find(char::is_whitespace).unwrap_or(value.len());
        let name = value.get(..length).unwrap_or_default().to_ascii_uppercase();
        let rest = whole.part(length, value.len());
        let mut here_documents = Vec::new();
        if WITH_HEREDOCS.contains(&name.as_str()) {
            for mark in marks(&rest, self.escape) {
                here_documents.push(self.here_document(mark)?);
            }
        }
        Ok(Some(RawInstruction { name, at, rest, here_documents }))
    }

    /// The next line that is neither empty nor a comment, without the white space before it.
    fn begin(&mut self) -> Option<(&'a str, usize)> {
        loop {
            let (line, at) = self.line()?;
            let text = line.trim_start();
            if !text.is_empty() && !text.starts_with('#') {
                return Some((text, at + (line.len() - text.len())));
            }
        }
    }

    /// Puts a line together with those that continue it; comments and empty lines between them do
    /// not count.
    fn continued(&mut self, first: &str, at: usize) -> (Text, usize) {
        let mut whole = Text::default();
        let mut line = (first, at);
        loop {
            let (text, is_continued) = self.without_continuation(line.0);
            whole.push(text, line.1);
            if !is_continued {
                return (whole, at);
            }
            line = loop {
                let Some(next) = self.line() else { return (whole, at) };
                let text = next.0.trim_start();
                if !text.is_empty() && !text.starts_with('#') {
                    break next;
                }
            };
        }
    }

    /// A line continues where the escape character ends it, alone: two of them are one character.
    fn without_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let text = line.trim_end_matches([' ', '\t']);
        match text.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, true),
            Some(_) | None => (line, false),
        }
    }

    fn here_document(&mut self, mark: Mark) -> Result<HereDocument, Fault> {
        let at = self.at;
        let (mut content, mut raw) = (String::new(), String::new());
        while let Some((line, _at)) = self.line() {
            let text = if mark.is_stripped { line.trim_start_matches('\t') } else { line };
            if text == mark.name {
                let Mark { name, is_expanded, .. } = mark;
                return Ok(HereDocument { name, content, raw, is_expanded, at });
            }
            content.push_str(text);
            content.push('\n');
            raw.push_str(line);
            raw.push('\n');
        }
        let what = format!("this here-document has no end: no line is {:?} alone", mark.name);
        Err(Fault::new(mark.at, what, format!("end it with a line {}", mark.name)))
    }
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"` in a line.
struct Mark {
    name: String,
    is_stripped: bool,
    is_expanded: bool,
    at: usize,
}

/// The here-documents that an instruction names.
fn marks(rest: &Text, escape: char) -> Vec<Mark> {
    words(rest, escape).iter().filter_map(mark).collect()
}

/// Whether a word names a here-document, and which.
pub(crate) fn here_document_name(word: &Text) -> Option<String> {
    mark(word).map(|mark| mark.name)
}

fn mark(word: &Text) -> Option<Mark> {
    let text = word.as_str().trim_start_matches(|c: char| c.is_ascii_digit());
    let text = text.strip_prefix("<<")?;
    let (is_stripped, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let name: String = text.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    let is_named = !name.is_empty() && !name.contains('<');
    let is_expanded = name.len() == text.len();
    is_named.then(|| Mark { name, is_stripped, is_expanded, at: word.origin(0) })
}

/// Cuts text at white space that no quote and no escape character holds together; quotes and
/// escapes stay as they are.
pub(crate) fn words(text: &Text, escape: char) -> Vec<Text> {
    let mut words = Vec::new();
    let mut begin = None;
    let mut quote = None;
    let mut characters = text.as_str().char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some(begin) = begin.take() {
                words.push(text.slice(begin, at));
            }
            continue;
        }
        begin.get_or_insert(at);
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some('\'') => {}
            // What follows stands for itself, be it white space or a quote.
            Some(_) | None if c == escape => drop(characters.next()),
            Some(_) | None => {}
        }
    }
    if let Some(begin) = begin {
        words.push(text.slice(begin, text.as_str().len()));
    }
    words
}

/// Cuts text at white space, whatever quotes say, as COPY does.
pub(crate) fn plain_words(text: &Text) -> Vec<Text> {
    let value = text.as_str();
    let mut words = Vec::new();
    let mut at = 0;
    for piece in value.split(char::is_whitespace) {
        if !piece.is_empty() {
            words.push(text.slice(at, at + piece.len()));
        }
        // The separator may have several bytes.
        at += piece.len();
        at += value.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests(text: &str) -> Vec<(String, String)> {
        let lines = cut(text).unwrap();
        let all = lines.instructions.into_iter();
        all.map(|one| (one.name, one.rest.as_str().to_owned())).collect()
    }

    fn pair(name: &str, rest: &str) -> (String, String) {
        (name.to_owned(), rest.to_owned())
    }

    #[test]
    fn continued_lines_are_one_and_comments_between_them_are_gone() {
        let text = "# note\nfrom a\r\n\n  RUN x \\\n  # between\n\n   y \\  \n z\nRUN a\\\\\nRUN b";
        let expected =
            [pair("FROM", "a"), pair("RUN", "x    y  z"), pair("RUN", "a\\\\"), pair("RUN", "b")];
        assert_eq!(rests(text), expected);
    }

    #[test]
    fn a_byte_of_a_continued_line_knows_where_it_comes_from() {
        let text = "FROM a\nRUN x \\\n y";
        let lines = cut(text).unwrap();
        let rest = &lines.instructions[1].rest;
        let index = rest.as_str().find('y').unwrap();
        assert_eq!(rest.origin(index), text.find('y').unwrap());
        assert_eq!(rest.origin(99), text.len());
    }

    #[test]
    fn the_escape_directive_counts_only_before_anything_else() {
        assert_eq!(rests("#escape=`\nRUN a `\n b"), [pair("RUN", "a  b")]);
        let late = cut("# hello\n# escape=`\nRUN a\n").unwrap();
        assert_eq!(late.escape, '\\');
        let syntax = cut("# syntax = docker/dockerfile:1\n# escape = `\n").unwrap();
        assert_eq!(
            (syntax.syntax.unwrap().0.as_str(), syntax.escape),
            ("docker/dockerfile:1", '`')
        );
        let fault = cut("# escape=x").unwrap_err();
        assert_eq!((fault.at, fault.remedy.as_str()), (9, "use \\ or `"));
    }

    #[test]
    fn here_documents_are_taken_in_their_order() {
        let text = "RUN cat <<A > x <<-\"B\"\none\nA\n\ttwo\n\tB\nRUN echo '<<C' x<<D $((1<<2))\n";
        let lines = cut(text).unwrap();
        let [first, second] = lines.instructions.as_slice() else { panic!("{lines:?}") };
        let [a, b] = first.here_documents.as_slice() else { panic!("{first:?}") };
        assert_eq!((a.name.as_str(), a.content.as_str(), a.is_expanded), ("A", "one\n", true));
        assert_eq!((b.name.as_str(), b.content.as_str(), b.is_expanded), ("B", "two\n", false));
        assert_eq!(b.raw, "\ttwo\n");
        assert_eq!(second.here_documents, []);
    }

    #[test]
    fn a_here_document_without_an_end_is_told_where_it_is_named() {
        let fault = cut("FROM a\nRUN <<EOF\nx\n").unwrap_err();
        assert_eq!(fault.at, 11);
        assert!(fault.what.contains("EOF"), "{fault:?}");
    }

    #[test]
    fn quotes_and_escapes_hold_words_together() {
        let lines = cut("ENV a=\"b c\" d=e\\ f g='h\\' i").unwrap();
        let all = words(&lines.instructions[0].rest, '\\');
        let all: Vec<&str> = all.iter().map(Text::as_str).collect();
        assert_eq!(all, ["a=\"b c\"", "d=e\\ f", "g='h\\'", "i"]);
        let all = plain_words(&lines.instructions[0].rest);
        assert_eq!(all.len(), 6);
        assert_eq!(all[1].origin(0), 9);
    }
}
