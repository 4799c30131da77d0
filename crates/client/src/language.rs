//! The languages that a one-shot execution knows: how each is named, recognised and run.

use std::fmt;

/// Most bytes of a source that are looked at for a shebang line.
const SHEBANG_LIMIT_BYTES: usize = 256;

/// A language that sources can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Python 3.
    Python,
    /// JavaScript, by Node.
    Javascript,
    /// Bash.
    Bash,
    /// The POSIX shell.
    Sh,
    /// Perl 5.
    Perl,
    /// C, compiled by gcc.
    C,
}

/// One row of the table.
struct Row {
    language: Language,
    name: &'static str,
    aliases: &'static [&'static str],
    extension: &'static str,
    other_extensions: &'static [&'static str],
    interpreters: &'static [&'static str],
}

const TABLE: [Row; 6] = [
    Row {
        language: Language::Python,
        name: "python",
        aliases: &["py", "python3"],
        extension: "py",
        other_extensions: &[],
        interpreters: &["python", "python3"],
    },
    Row {
        language: Language::Javascript,
        name: "javascript",
        aliases: &["js", "node", "nodejs"],
        extension: "js",
        other_extensions: &["mjs", "cjs"],
        interpreters: &["node", "nodejs"],
    },
    Row {
        language: Language::Bash,
        name: "bash",
        aliases: &[],
        extension: "bash",
        other_extensions: &[],
        interpreters: &["bash"],
    },
    Row {
        language: Language::Sh,
        name: "sh",
        aliases: &["shell"],
        extension: "sh",
        other_extensions: &[],
        interpreters: &["sh", "dash"],
    },
    Row {
        language: Language::Perl,
        name: "perl",
        aliases: &["pl"],
        extension: "pl",
        other_extensions: &["pm"],
        interpreters: &["perl"],
    },
    Row {
        language: Language::C,
        name: "c",
        aliases: &["gcc"],
        extension: "c",
        other_extensions: &[],
        interpreters: &[],
    },
];

/// Compiles `$1` beside itself and becomes the program; the compiler's own exit code otherwise.
const COMPILE_AND_RUN_C: &str =
    r#"out="${1%.c}.out"; src="$1"; shift; gcc -O2 -o "$out" "$src" -lm || exit; exec "$out" "$@""#;

/// A name that is no language's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown language {name:?}: use one of {}", Language::names().join(", "))]
pub struct UnknownLanguage {
    /// The refused name, cut to 64 characters.
    pub name: String,
}

impl Language {
    /// Every language, in the order in which they are listed to people.
    pub const ALL: [Self; 6] =
        [Self::Python, Self::Javascript, Self::Bash, Self::Sh, Self::Perl, Self::C];

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.language == self)
            .expect("every language has a row: see the test")
    }

    /// The names of all languages.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        TABLE.iter().map(|row| row.name).collect()
    }

    /// The name on the wire and in the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The language of a name or alias, in whatever case.
    ///
    /// # Errors
    /// No language has that name; the message lists those that there are.
    pub fn from_name(name: &str) -> Result<Self, UnknownLanguage> {
        let lower = name.to_ascii_lowercase();
        TABLE
            .iter()
            .find(|row| row.name == lower || row.aliases.contains(&lower.as_str()))
            .map(|row| row.language)
            .ok_or_else(|| UnknownLanguage { name: name.chars().take(64).collect() })
    }

    /// What a source is written in: by its shebang line, else by its file name's extension.
    #[must_use]
    pub fn detect(file_name: Option<&str>, source: &[u8]) -> Option<Self> {
        from_shebang(source).or_else(|| from_extension(file_name?))
    }

    /// The file name of a source that has none of its own.
    #[must_use]
    pub fn default_file_name(self) -> String {
        format!("main.{}", self.row().extension)
    }

    /// The command that runs a source file, as program and arguments.
    #[must_use]
    pub fn command(self, file: &str, args: &[String]) -> (String, Vec<String>) {
        let (program, mut before): (&str, Vec<String>) = match self {
            // Unbuffered, so that output streams as it comes.
            Self::Python => ("python3", vec!["-u".to_owned()]),
            Self::Javascript => ("node", Vec::new()),
            Self::Bash => ("bash", Vec::new()),
            Self::Sh => ("sh", Vec::new()),
            Self::Perl => ("perl", Vec::new()),
            Self::C => ("sh", vec!["-c".to_owned(), COMPILE_AND_RUN_C.to_owned(), "sh".to_owned()]),
        };
        before.push(file.to_owned());
        before.extend_from_slice(args);
        (program.to_owned(), before)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn from_extension(file_name: &str) -> Option<Language> {
    let (_stem, extension) = file_name.rsplit_once('.')?;
    let lower = extension.to_ascii_lowercase();
    TABLE
        .iter()
        .find(|row| row.extension == lower || row.other_extensions.contains(&lower.as_str()))
        .map(|row| row.language)
}

/// `#!/usr/bin/env -S python3 -u`, `#!/bin/sh` and the like.
fn from_shebang(source: &[u8]) -> Option<Language> {
    let head: Vec<u8> = source.iter().copied().take(SHEBANG_LIMIT_BYTES).collect();
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.strip_prefix("#!")?.lines().next()?;
    let mut words = line.split_whitespace();
    let program = base_name(words.next()?);
    let interpreter = if program == "env" {
        base_name(words.find(|word| !word.starts_with('-') && !word.contains('='))?)
    } else {
        program
    };
    TABLE.iter().find(|row| row.interpreters.contains(&interpreter)).map(|row| row.language)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_row_and_is_found_by_its_names_and_extension() {
        for language in Language::ALL {
            assert_eq!(Language::from_name(language.name()), Ok(language));
            for alias in language.row().aliases {
                assert_eq!(Language::from_name(&alias.to_uppercase()), Ok(language));
            }
            assert_eq!(Language::detect(Some(&language.default_file_name()), b""), Some(language));
        }
    }

    #[test]
    fn an_unknown_language_is_refused_with_the_list_of_known_ones() {
        let message = Language::from_name("cobol").unwrap_err().to_string();
        assert_eq!(
            message,
            "unknown language \"cobol\": use one of python, javascript, bash, sh, perl, c"
        );
    }

    #[test]
    fn a_shebang_line_tells_the_language_before_the_file_name_does() {
        let cases: [(&[u8], Option<Language>); 6] = [
            (b"#!/usr/bin/env -S python3 -u\nprint(1)", Some(Language::Python)),
            (b"#! /bin/bash -e\n", Some(Language::Bash)),
            (b"#!/usr/bin/env A=1 node", Some(Language::Javascript)),
            (b"#!/usr/bin/env", None),
            (b"#!\n", None),
            (b"\xff\xfe#!/bin/sh", None),
        ];
        for (source, expected) in cases {
            assert_eq!(Language::detect(None, source), expected);
        }
        assert_eq!(Language::detect(Some("a.py"), b"#!/bin/sh\n"), Some(Language::Sh));
    }
}
