//! Guest path patterns for files to fetch: `*`, `?` within one component, `**` across components.

/// Most characters of a pattern.
const PATTERN_LIMIT_CHARS: usize = 1_024;

/// A path or pattern of guest paths, absolute or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is empty.
    #[error("an empty path names no file")]
    Empty,
    /// It is too long.
    #[error("a path pattern may have {PATTERN_LIMIT_CHARS} characters at most")]
    TooLong,
    /// It has a character that no path has.
    #[error("path pattern {text:?} has a NUL character")]
    Nul {
        /// The pattern.
        text: String,
    },
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It is empty, too long or has a NUL character.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.chars().count() > PATTERN_LIMIT_CHARS {
            return Err(PatternError::TooLong);
        }
        if text.contains('\0') {
            return Err(PatternError::Nul { text: text.replace('\0', "\\0") });
        }
        Ok(Self { text: text.to_owned() })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when it names one path and matches nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !is_wild(&self.text)
    }

    /// The directory below which everything that it can match lies, made absolute by `cwd`.
    #[must_use]
    pub fn base(&self, cwd: &str) -> String {
        let absolute = self.absolute(cwd);
        let mut plain: Vec<&str> =
            absolute.split('/').take_while(|component| !is_wild(component)).collect();
        if plain.len() == absolute.split('/').count() {
            plain.pop();
        }
        let base = plain.join("/");
        if base.is_empty() { "/".to_owned() } else { base }
    }

    /// The pattern, made absolute by `cwd`.
    #[must_use]
    pub fn absolute(&self, cwd: &str) -> String {
        if self.text.starts_with('/') {
            self.text.clone()
        } else {
            format!("{}/{}", cwd.trim_end_matches('/'), self.text)
        }
    }

    /// How many levels below its base it can match; `None` where there is no bound.
    #[must_use]
    pub fn depth(&self, cwd: &str) -> Option<u32> {
        let absolute = self.absolute(cwd);
        let wild: Vec<&str> = absolute.split('/').skip_while(|part| !is_wild(part)).collect();
        if wild.contains(&"**") {
            return None;
        }
        u32::try_from(wild.len().max(1)).ok()
    }

    /// True when it matches an absolute path.
    #[must_use]
    pub fn matches(&self, cwd: &str, path: &str) -> bool {
        let absolute = self.absolute(cwd);
        let pattern: Vec<&str> = absolute.split('/').filter(|part| !part.is_empty()).collect();
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match_sequence(
            &pattern,
            &path,
            |pattern| *pattern == "**",
            |pattern, component| match_component(pattern, component),
        )
    }
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn match_component(pattern: &str, component: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let component: Vec<char> = component.chars().collect();
    match_sequence(&pattern, &component, |c| *c == '*', |p, c| *p == '?' || p == c)
}

/// Matches a sequence against a pattern in which some elements stand for any run of elements.
/// Quadratic at worst: on a mismatch only the last run grows.
fn match_sequence<T>(
    pattern: &[T],
    text: &[T],
    is_run: impl Fn(&T) -> bool,
    is_match: impl Fn(&T, &T) -> bool,
) -> bool {
    let (mut at_pattern, mut at_text) = (0_usize, 0_usize);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(element) = text.get(at_text) {
        match pattern.get(at_pattern) {
            Some(wanted) if is_run(wanted) => {
                retry = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(wanted) if is_match(wanted, element) => {
                at_pattern += 1;
                at_text += 1;
            }
            Some(_) | None => match retry {
                Some((run, start)) => {
                    retry = Some((run, start + 1));
                    at_pattern = run + 1;
                    at_text = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at_pattern).all(is_run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CWD: &str = "/home/user";

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_stays_within_a_component_and_two_stars_cross_them() {
        let cases = [
            ("*.png", "/home/user/a.png", true),
            ("*.png", "/home/user/sub/a.png", false),
            ("**/*.png", "/home/user/sub/deep/a.png", true),
            ("**/*.png", "/home/user/a.png", true),
            ("out/?.txt", "/home/user/out/1.txt", true),
            ("out/?.txt", "/home/user/out/12.txt", false),
            ("/tmp/*", "/tmp/a", true),
            ("/tmp/*", "/home/user/a", false),
            ("a.txt", "/home/user/a.txt", true),
            ("**", "/home/user/a/b/c", true),
        ];
        for (text, path, expected) in cases {
            assert_eq!(pattern(text).matches(CWD, path), expected, "{text} {path}");
        }
    }

    #[test]
    fn the_base_is_the_deepest_directory_that_holds_every_match() {
        assert_eq!(pattern("out/*.png").base(CWD), "/home/user/out");
        assert_eq!(pattern("a.txt").base(CWD), "/home/user");
        assert_eq!(pattern("/*").base(CWD), "/");
        assert_eq!(pattern("/etc/passwd").base(CWD), "/etc");
        assert_eq!(pattern("**/x").depth(CWD), None);
        assert_eq!(pattern("*/x").depth(CWD), Some(2));
    }

    #[test]
    fn an_empty_pattern_or_one_with_a_nul_is_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert!(Pattern::parse("a\0b").is_err());
        assert_eq!(Pattern::parse(&"a".repeat(2_000)), Err(PatternError::TooLong));
    }

    proptest! {
        #[test]
        fn a_plain_pattern_matches_itself_only(name in "[a-z]{1,8}", other in "[a-z]{1,8}") {
            let plain = pattern(&name);
            prop_assert!(plain.is_plain());
            prop_assert_eq!(plain.matches(CWD, &format!("{CWD}/{other}")), name == other);
        }

        #[test]
        fn a_component_matches_as_the_plain_definition_says(
            text in "[*?ab]{0,8}", component in "[ab]{0,8}",
        ) {
            let (p, t): (Vec<char>, Vec<char>) = (text.chars().collect(), component.chars().collect());
            prop_assert_eq!(match_component(&text, &component), by_definition(&p, &t));
        }
    }

    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                (0..=text.len()).any(|skipped| by_definition(rest, &text[skipped..]))
            }
            ([p, pattern @ ..], [t, text @ ..]) => {
                (*p == '?' || p == t) && by_definition(pattern, text)
            }
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }
}
