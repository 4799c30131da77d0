//! Words: quotes and escapes go, variables are replaced by what ARG and ENV said so far.

use std::collections::BTreeMap;

use super::lines::Text;
use super::source::Fault;

/// How deep the words of defaults may lie in each other: `${A:-${B:-…}}`.
const MAX_DEPTH: usize = 16;
/// Longest text that a word may become: repeated doubling in ENV would have no end.
const MAX_VALUE_BYTES: usize = 128 * 1024;

/// What is known of a variable before the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Its text.
    Known(String),
    /// Only the build knows, for it stands on what the base image sets.
    AtBuild,
}

/// The variables that instructions may name.
pub(crate) type Variables = BTreeMap<String, Value>;

/// A piece of an expanded word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text.
    Literal(String),
    /// A variable that only the build knows.
    Reference(String),
}

/// What quotes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They hold words together and go.
    Removed,
    /// They are characters like others, as in here-documents.
    Kept,
}

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expander<'a> {
    /// The escape character.
    pub(crate) escape: char,
    /// The variables.
    pub(crate) variables: &'a Variables,
    /// What quotes mean.
    pub(crate) quotes: Quotes,
}

impl Expander<'_> {
    /// Expands a word, and keeps what only the build knows.
    ///
    /// # Errors
    /// A quote or a brace is open at the end, or something cannot be substituted.
    pub(crate) fn pieces(&self, word: &Text) -> Result<Vec<Piece>, Fault> {
        let mut reading = Reading { expander: self, word, at: 0, out: Out::default() };
        reading.until(None, 0)?;
        let length: usize = reading.out.length;
        if length > MAX_VALUE_BYTES {
            let what = format!("this becomes {length} bytes long");
            let remedy = format!("{MAX_VALUE_BYTES} are allowed");
            return Err(Fault::new(word.origin(0), what, remedy));
        }
        Ok(reading.out.pieces)
    }

    /// Expands a word that must be known whole before the build.
    ///
    /// # Errors
    /// As [`Expander::pieces`], or a variable is not known.
    pub(crate) fn text(&self, word: &Text) -> Result<String, Fault> {
        let mut text = String::new();
        for piece in self.pieces(word)? {
            match piece {
                Piece::Literal(literal) => text.push_str(&literal),
                Piece::Reference(name) => return Err(self.unknown(word, &name)),
            }
        }
        Ok(text)
    }

    fn unknown(&self, word: &Text, name: &str) -> Fault {
        let found = word.as_str().find(&format!("${name}"));
        let found = found.or_else(|| word.as_str().find(&format!("${{{name}")));
        let place = word.origin(found.unwrap_or(0));
        let what = format!("no ARG and no ENV before this line gives ${name} a value");
        let remedy = match self.quotes {
            Quotes::Removed => format!(
                "say `ARG {name}=…` first; what the base image sets is known only inside RUN and ENV"
            ),
            Quotes::Kept => format!(
                "say `ARG {name}=…` first, or quote the name after << and nothing is replaced"
            ),
        };
        Fault::new(place, what, remedy)
    }
}

#[derive(Default)]
struct Out {
    pieces: Vec<Piece>,
    length: usize,
}

impl Out {
    fn literal(&mut self, text: &str) {
        self.length = self.length.saturating_add(text.len());
        if self.length > MAX_VALUE_BYTES {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => last.push_str(text),
            Some(Piece::Reference(_)) | None => self.pieces.push(Piece::Literal(text.to_owned())),
        }
    }

    fn character(&mut self, c: char) {
        self.literal(c.encode_utf8(&mut [0; 4]));
    }

    fn reference(&mut self, name: &str) {
        self.pieces.push(Piece::Reference(name.to_owned()));
    }

    fn all(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Literal(text) => self.literal(&text),
                Piece::Reference(name) => self.reference(&name),
            }
        }
    }
}

struct Reading<'a> {
    expander: &'a Expander<'a>,
    word: &'a Text,
    at: usize,
    out: Out,
}

impl Reading<'_> {
    fn peek(&self) -> Option<char> {
        self.word.as_str().get(self.at..).and_then(|rest| rest.chars().next())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn fault(&self, at: usize, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(self.word.origin(at), what, remedy)
    }

    /// Reads up to a closing character, or to the end.
    fn until(&mut self, close: Option<char>, depth: usize) -> Result<(), Fault> {
        let begin = self.at;
        if depth > MAX_DEPTH {
            return Err(self.fault(begin, "defaults lie too deep in each other", "use an ARG"));
        }
        let quoted = self.expander.quotes == Quotes::Removed;
        while let Some(c) = self.next() {
            match c {
                _ if Some(c) == close => return Ok(()),
                '\'' if quoted => self.single()?,
                '"' if quoted => self.double(depth)?,
                '$' => self.variable(depth)?,
                _ if c == self.expander.escape => {
                    if let Some(c) = self.next() {
                        self.out.character(c);
                    }
                }
                _ => self.out.character(c),
            }
        }
        match close {
            None => Ok(()),
            Some(close) => {
                let remedy = format!("close it with {close}");
                Err(self.fault(begin.saturating_sub(1), "this ${ does not end", remedy))
            }
        }
    }

    fn single(&mut self) -> Result<(), Fault> {
        let begin = self.at;
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => self.out.character(c),
                None => return Err(self.fault(begin - 1, "this quote is not closed", "add '")),
            }
        }
    }

    fn double(&mut self, depth: usize) -> Result<(), Fault> {
        let begin = self.at;
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(depth)?,
                Some(c) if c == self.expander.escape => match self.next() {
                    Some(next) if matches!(next, '"' | '$') || next == c => {
                        self.out.character(next);
                    }
                    Some(next) => {
                        self.out.character(c);
                        self.out.character(next);
                    }
                    None => {}
                },
                Some(c) => self.out.character(c),
                None => return Err(self.fault(begin - 1, "this quote is not closed", "add \"")),
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let fits =
                c.is_ascii_alphabetic() || c == '_' || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }

    fn variable(&mut self, depth: usize) -> Result<(), Fault> {
        if self.peek() == Some('{') {
            self.at += 1;
            return self.braced(depth);
        }
        let name = self.name();
        if name.is_empty() {
            // As a shell does: a lone dollar sign is one.
            self.out.character('$');
        } else {
            self.replace(&name);
        }
        Ok(())
    }

    fn replace(&mut self, name: &str) {
        match self.expander.variables.get(name) {
            Some(Value::Known(value)) => self.out.literal(value),
            Some(Value::AtBuild) | None => self.out.reference(name),
        }
    }

    /// `${NAME}` and its kin, after the brace.
    fn braced(&mut self, depth: usize) -> Result<(), Fault> {
        let begin = self.at.saturating_sub(2);
        let name = self.name();
        if name.is_empty() {
            let remedy = "write ${NAME}, or \\$ for a dollar sign";
            return Err(self.fault(begin, "there is no variable's name after ${", remedy));
        }
        let is_colon = self.peek() == Some(':');
        if is_colon {
            self.at += 1;
        }
        match self.next() {
            Some('}') if !is_colon => {
                self.replace(&name);
                Ok(())
            }
            Some(operator @ ('-' | '+' | '?')) => {
                let word = self.alternative(depth)?;
                self.choose(begin, &name, Choice { is_colon, operator, word })
            }
            None => Err(self.fault(begin, "this ${ does not end", "close it with }")),
            Some(_) => {
                let remedy = "${NAME}, ${NAME:-default}, ${NAME:+other} and ${NAME:?error} are";
                Err(self.fault(begin, "this substitution is not known", remedy))
            }
        }
    }

    /// The word of a default, up to its brace.
    fn alternative(&mut self, depth: usize) -> Result<Vec<Piece>, Fault> {
        let outer = std::mem::take(&mut self.out);
        let read = self.until(Some('}'), depth + 1);
        let inner = std::mem::replace(&mut self.out, outer);
        read.map(|()| inner.pieces)
    }

    fn choose(&mut self, begin: usize, name: &str, choice: Choice) -> Result<(), Fault> {
        let value = self.expander.variables.get(name).cloned();
        let is_set = match &value {
            Some(Value::Known(text)) => !(choice.is_colon && text.is_empty()),
            Some(Value::AtBuild) => true,
            None => false,
        };
        match (choice.operator, is_set) {
            ('-', false) | ('+', true) => self.out.all(choice.word),
            ('+', false) => {}
            ('?', false) => {
                let said: String = choice.word.iter().map(piece_text).collect();
                let remedy = format!("say `ARG {name}=…` first, or --build-arg {name}=…");
                return Err(self.fault(begin, format!("{name} is not set: {said}"), remedy));
            }
            (_, _) => self.replace(name),
        }
        Ok(())
    }
}

struct Choice {
    is_colon: bool,
    operator: char,
    word: Vec<Piece>,
}

fn piece_text(piece: &Piece) -> String {
    match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Reference(name) => format!("${name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines;
    use super::*;

    fn word(text: &str) -> Text {
        // An instruction's name, so that the rest is the word.
        lines::cut(&format!("X {text}")).unwrap().instructions.remove(0).rest
    }

    fn expand(text: &str) -> Result<String, String> {
        let known = |text: &str| Value::Known(text.to_owned());
        let variables: Variables = [
            ("A".to_owned(), known("a")),
            ("EMPTY".to_owned(), known("")),
            ("PATH".to_owned(), Value::AtBuild),
        ]
        .into();
        let expander = Expander { escape: '\\', variables: &variables, quotes: Quotes::Removed };
        let told = |fault: Fault| format!("{}: {}", fault.at, fault.what);
        let pieces = expander.pieces(&word(text)).map_err(told)?;
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Reference(name) => format!("<{name}>"),
        };
        Ok(pieces.iter().map(piece).collect())
    }

    #[test]
    fn words_become_what_docker_makes_of_them() {
        for (text, expected) in [
            ("$A${A}b", "aab"),
            ("'$A' \"$A\" \\$A", "$A a $A"),
            ("\"a\\\"b\\c\"", "a\"b\\c"),
            ("${A:-x}${B:-x}${EMPTY:-x}${EMPTY-x}", "axx"),
            ("${A:+x}${B:+x}${EMPTY:+x}${EMPTY+x}", "xx"),
            ("${B:-${C:-$A}}", "a"),
            ("${A:?no}", "a"),
            ("$PATH:${PATH}:$B", "<PATH>:<PATH>:<B>"),
            ("${PATH:+:$PATH}", ":<PATH>"),
            ("5$ $% $1", "5$ $% $1"),
            ("a\\\\b\\ c", "a\\b c"),
            ("${B:-'}'}", "}"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_substituted_is_told_at_its_place() {
        for (text, expected) in [
            ("a'b", "3: this quote is not closed"),
            ("a\"b", "3: this quote is not closed"),
            ("x${A", "3: this ${ does not end"),
            ("x${A:-b", "7: this ${ does not end"),
            ("x${}", "3: there is no variable's name after ${"),
            ("x${A#b}", "3: this substitution is not known"),
            ("x${B:?gone}", "3: B is not set: gone"),
        ] {
            assert_eq!(expand(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_lies_without_bound_in_itself_or_grows_without_bound() {
        let deep = format!("{}x{}", "${B:-".repeat(100), "}".repeat(100));
        assert!(expand(&deep).unwrap_err().contains("too deep"));
        let variables = [("A".to_owned(), Value::Known("a".repeat(MAX_VALUE_BYTES)))].into();
        let expander = Expander { escape: '\\', variables: &variables, quotes: Quotes::Removed };
        assert!(expander.pieces(&word("$A$A")).unwrap_err().what.contains("bytes long"));
    }

    #[test]
    fn a_variable_that_only_the_build_knows_is_no_text_before_it() {
        let variables = Variables::new();
        let expander = Expander { escape: '\\', variables: &variables, quotes: Quotes::Removed };
        let fault = expander.text(&word("/x/$HOME")).unwrap_err();
        assert_eq!(fault.at, 5);
        assert!(fault.remedy.contains("ARG HOME"), "{fault:?}");
    }
}
