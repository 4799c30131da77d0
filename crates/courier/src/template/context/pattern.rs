//! Patterns of Docker's: those of COPY and those of `.dockerignore`.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// Longest `.dockerignore` that is read, in bytes.
pub(crate) const MAX_IGNORE_BYTES: u64 = 256 * 1024;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern: {reason}")]
pub(crate) struct PatternError {
    pattern: String,
    reason: String,
}

/// Makes a pattern: `*` and `?` stop at slashes, `**` does not, `[a-z]` and `\` are as in Go.
pub(crate) fn compile(pattern: &str) -> Result<GlobMatcher, PatternError> {
    // Braces are characters like others for Docker.
    let plain = pattern.replace('{', "\\{").replace('}', "\\}");
    let glob = GlobBuilder::new(&plain).literal_separator(true).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| PatternError {
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    })
}

/// True where a path has characters that patterns are made of.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

#[derive(Debug)]
struct Rule {
    matcher: GlobMatcher,
    is_exception: bool,
}

/// What is left out of a context.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// A line of it is no pattern; the line's number, counted from 1, is told.
    pub(crate) fn read(text: &str) -> Result<Self, (usize, PatternError)> {
        let mut rules = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let at = |error| (index + 1, error);
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (pattern, is_exception) = match line.trim().strip_prefix('!') {
                Some(pattern) => (pattern.trim(), true),
                None => (line.trim(), false),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() && is_exception {
                let reason = "nothing follows the !".to_owned();
                return Err(at(PatternError { pattern: line.to_owned(), reason }));
            }
            if !pattern.is_empty() {
                rules.push(Rule { matcher: compile(&pattern).map_err(at)?, is_exception });
            }
        }
        Ok(Self { rules })
    }

    /// True of what is left out: the last rule counts that fits the path or a folder that it is in.
    pub(crate) fn is_ignored(&self, path: &Path) -> bool {
        let fits = |rule: &&Rule| {
            let mut paths = path.ancestors().filter(|path| !path.as_os_str().is_empty());
            paths.any(|path| rule.matcher.is_match(path))
        };
        self.rules.iter().rev().find(fits).is_some_and(|rule| !rule.is_exception)
    }

    /// True when something in a folder that is left out may not be.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_exception)
    }
}

/// A pattern as relative to the context: no slash at its ends, no `.`, no empty piece; `..` goes up
/// as far as there is something.
pub(crate) fn clean(pattern: &str) -> String {
    let mut pieces: Vec<&str> = Vec::new();
    for piece in pattern.split('/') {
        match piece {
            "" | "." => {}
            ".." => drop(pieces.pop()),
            piece => pieces.push(piece),
        }
    }
    pieces.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_fits_a_path_or_its_folders_counts() {
        let text =
            "# note\n\n/build/\n*.log\n**/*.tmp\n!keep.log\nsrc/gen\n!src/gen/a*.rs\n./x/../y\n";
        let ignore = Ignore::read(text).unwrap();
        for (path, expected) in [
            ("build", true),
            ("build/a/b", true),
            ("sub/build", false),
            ("a.log", true),
            ("sub/a.log", false),
            ("keep.log", false),
            ("a.tmp", true),
            ("sub/deep/a.tmp", true),
            ("src/gen/b.rs", true),
            ("src/gen/ab.rs", false),
            ("y", true),
            ("# note", false),
        ] {
            assert_eq!(ignore.is_ignored(Path::new(path)), expected, "{path}");
        }
        assert!(ignore.has_exceptions());
    }

    #[test]
    fn everything_but_something_can_be_left_out() {
        let ignore = Ignore::read("**\n!src/**\n!a{b}\n").unwrap();
        assert!(ignore.is_ignored(Path::new("a")) && ignore.is_ignored(Path::new("b/c")));
        assert!(!ignore.is_ignored(Path::new("src/a/b")) && !ignore.is_ignored(Path::new("a{b}")));
    }

    #[test]
    fn a_line_that_is_no_pattern_is_told_with_its_number() {
        assert_eq!(Ignore::read("a\n[z-a]\n").unwrap_err().0, 2);
        assert_eq!(Ignore::read("!\n").unwrap_err().0, 1);
    }
}
