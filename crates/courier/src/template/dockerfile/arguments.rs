//! What follows an instruction's name: flags, then a JSON array or words.

use super::lines::{Text, words};
use super::source::Fault;

/// `--NAME` or `--NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// The name without the dashes.
    pub(super) name: String,
    /// The value.
    pub(super) value: Option<Text>,
    /// Where it stands.
    pub(super) at: usize,
}

impl Flag {
    /// The value.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn value(&self) -> Result<&Text, Fault> {
        self.value.as_ref().filter(|value| !value.as_str().is_empty()).ok_or_else(|| {
            let what = format!("--{} has no value", self.name);
            Fault::new(self.at, what, format!("write --{}=VALUE", self.name))
        })
    }
}

/// Takes the flags off.
pub(super) fn flags(rest: &Text, escape: char) -> (Vec<Flag>, Text) {
    let mut flags = Vec::new();
    let mut begin = 0;
    for word in words(rest, escape) {
        let Some(body) = word.as_str().strip_prefix("--") else { break };
        let found = rest.as_str().get(begin..).and_then(|text| text.find(word.as_str()));
        begin += found.unwrap_or(0) + word.as_str().len();
        if body.is_empty() {
            break;
        }
        let (name, value) = match body.find('=') {
            Some(end) => {
                let value = word.slice(2 + end + 1, word.as_str().len());
                (body.get(..end).unwrap_or_default(), Some(value))
            }
            None => (body, None),
        };
        flags.push(Flag { name: name.to_owned(), value, at: word.origin(0) });
    }
    (flags, rest.part(begin, rest.as_str().len()))
}

/// A command as an array or as a line of a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Program and arguments.
    Exec(Vec<String>),
    /// A line.
    Shell(String),
}

impl Command {
    /// Reads either form.
    pub(super) fn of(rest: &Text) -> Self {
        match array(rest) {
            Some(words) => Self::Exec(words),
            None => Self::Shell(rest.as_str().to_owned()),
        }
    }

    /// True of a line that was probably meant as an array: `['a', 'b']`.
    pub(super) fn looks_like_an_array(&self) -> bool {
        let Self::Shell(line) = self else { return false };
        let inside = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        inside.is_some_and(|inside| inside.trim_start().starts_with(['"', '\'']))
    }
}

/// A JSON array of strings.
pub(super) fn array(rest: &Text) -> Option<Vec<String>> {
    let text = rest.as_str();
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// Words as one command line of a shell.
pub(super) fn line_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    // Quoting fails only for NUL, which no Dockerfile has and JSON's \u0000 becomes nothing here.
    let words: Vec<String> = words.into_iter().map(|word| word.replace('\0', "")).collect();
    let quoted = words.iter().filter_map(|word| shlex::try_quote(word).ok());
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(text: &str) -> Text {
        super::super::lines::cut(&format!("X {text}")).unwrap().instructions.remove(0).rest
    }

    #[test]
    fn flags_stand_before_everything_else() {
        let (flags, rest) = flags(&rest("--chown=a:b  --link --chmod=\"07 55\" a --b c"), '\\');
        let names: Vec<&str> = flags.iter().map(|flag| flag.name.as_str()).collect();
        assert_eq!(names, ["chown", "link", "chmod"]);
        assert_eq!(flags[0].value().unwrap().as_str(), "a:b");
        assert_eq!(flags[0].at, 2);
        assert!(flags[1].value().unwrap_err().remedy.contains("--link=VALUE"));
        assert_eq!(rest.as_str(), "a --b c");
    }

    #[test]
    fn an_array_is_json_and_anything_else_is_a_line() {
        let exec = Command::of(&rest("[\"a\", \"b c\"]"));
        assert_eq!(exec, Command::Exec(vec!["a".to_owned(), "b c".to_owned()]));
        for (text, looks) in
            [("['a']", true), ("[\"a\",]", true), ("[ -f x ]", false), ("a", false)]
        {
            let command = Command::of(&rest(text));
            assert_eq!(command, Command::Shell(text.to_owned()));
            assert_eq!(command.looks_like_an_array(), looks, "{text}");
        }
        assert_eq!(line_of(["a", "b c", "it's", "\0"]), "a 'b c' \"it's\" ''");
    }
}
