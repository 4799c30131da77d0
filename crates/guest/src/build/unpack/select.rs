//! Which entries of an archive a `COPY` means, and where they go: a source is a file or a folder, or
//! a pattern for some of them.

use courier_archive::EntryPath;

/// Most components of a source; more than any path has that somebody types.
const PARTS_MAX: usize = 64;

/// Why a source is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    /// It leads out of the archive.
    #[error("it leads out of the build's context")]
    Outside,
    /// It has too many components.
    #[error("it has more than {PARTS_MAX} components")]
    TooDeep,
}

/// What a source means. Empty is everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source(Vec<Part>);

/// One component of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// A pattern for one name.
    Name(Vec<u8>),
    /// `**`: any number of names.
    Any,
}

/// An entry that a source means, as what it comes in: the first folder or file on its path that the
/// source matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selected<'a> {
    /// The name of what was matched; empty for the whole archive.
    pub(crate) name: &'a [u8],
    /// The path below that; empty for itself.
    pub(crate) below: &'a [u8],
}

impl Source {
    /// Reads a source: relative to the archive's root, whatever it begins with.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        let mut parts = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => continue,
                ".." => return Err(SourceError::Outside),
                "**" if parts.last() == Some(&Part::Any) => continue,
                "**" => parts.push(Part::Any),
                name => parts.push(Part::Name(name.as_bytes().to_vec())),
            }
            if parts.len() > PARTS_MAX {
                return Err(SourceError::TooDeep);
            }
        }
        Ok(Self(parts))
    }

    /// How the source means an entry; none where it does not.
    pub(crate) fn select<'a>(&self, path: &'a EntryPath) -> Option<Selected<'a>> {
        // Which parts may come next, for every way of reading the names so far.
        let mut next = vec![false; self.0.len() + 1];
        if let Some(first) = next.first_mut() {
            *first = true;
        }
        self.skip_any(&mut next);
        let bytes = path.as_bytes();
        if next.last() == Some(&true) && !matches!(self.0.last(), Some(Part::Any)) {
            return Some(Selected { name: b"", below: bytes });
        }
        let mut end = 0;
        for name in path.components() {
            end += name.len();
            next = self.step(&next, name);
            if next.last() == Some(&true) {
                let below = bytes.get(end + 1..).unwrap_or_default();
                return Some(Selected { name, below });
            }
            end += 1;
        }
        None
    }

    /// Which parts may come after one more name.
    fn step(&self, before: &[bool], name: &[u8]) -> Vec<bool> {
        let mut next = vec![false; before.len()];
        for (index, part) in self.0.iter().enumerate() {
            if !before.get(index).copied().unwrap_or_default() {
                continue;
            }
            let to = match part {
                Part::Any => Some(index),
                Part::Name(pattern) if matches(pattern, name) => Some(index + 1),
                Part::Name(_) => None,
            };
            if let Some(place) = to.and_then(|to| next.get_mut(to)) {
                *place = true;
            }
        }
        self.skip_any(&mut next);
        next
    }

    /// `**` may also stand for nothing.
    fn skip_any(&self, next: &mut [bool]) {
        for (index, part) in self.0.iter().enumerate() {
            let may = *part == Part::Any && next.get(index).copied().unwrap_or_default();
            if let Some(place) = next.get_mut(index + 1).filter(|_| may) {
                *place = true;
            }
        }
    }
}

/// Whether a name matches a pattern with `*`, `?` and `[…]`. In time proportional to the product of
/// their lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern.split_first(), name.split_first()) {
            (None, None) => return true,
            (Some((b'*', behind)), _) => {
                retry = Some((behind, name));
                pattern = behind;
                continue;
            }
            (Some(_), Some((byte, rest))) => one(pattern, *byte).map(|behind| (behind, rest)),
            (Some(_), None) | (None, Some(_)) => None,
        };
        match (step, retry) {
            (Some((behind, rest)), _) => (pattern, name) = (behind, rest),
            (None, Some((behind, [_, rest @ ..]))) => {
                retry = Some((behind, rest));
                (pattern, name) = (behind, rest);
            }
            (None, _) => return false,
        }
    }
}

/// What follows in the pattern when its first item matches a byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', behind @ ..] => Some(behind),
        [b'\\', escaped, behind @ ..] => (*escaped == byte).then_some(behind),
        [b'[', set @ ..] => match set.iter().skip(1).position(|byte| *byte == b']') {
            Some(end) => {
                let (set, behind) = set.split_at_checked(end + 1)?;
                (in_set(set, byte)).then_some(behind.get(1..)?)
            }
            None => (byte == b'[').then_some(set),
        },
        [plain, behind @ ..] => (*plain == byte).then_some(behind),
        [] => None,
    }
}

/// Whether a byte is in `abc`, `a-z`, or not in `!abc`.
fn in_set(set: &[u8], byte: u8) -> bool {
    let (is_negated, mut rest) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut is_in = false;
    loop {
        match rest {
            [from, b'-', to, behind @ ..] => {
                is_in |= (*from..=*to).contains(&byte);
                rest = behind;
            }
            [plain, behind @ ..] => {
                is_in |= *plain == byte;
                rest = behind;
            }
            [] => return is_in != is_negated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_selects(source: &str, path: &str, expected: Option<(&str, &str)>) {
        let path = EntryPath::new(path).unwrap();
        let selected = Source::parse(source).unwrap().select(&path);
        let expected = expected
            .map(|(name, below)| Selected { name: name.as_bytes(), below: below.as_bytes() });
        assert_eq!(selected, expected, "{source} of {path}");
    }

    #[test]
    fn a_source_is_a_file_or_a_folder() {
        for all in ["", ".", "./", "/"] {
            assert_selects(all, "a/b", Some(("", "a/b")));
        }
        for folder in ["a", "./a/", "/a"] {
            assert_selects(folder, "a/b/c", Some(("a", "b/c")));
            assert_selects(folder, "a", Some(("a", "")));
            assert_selects(folder, "ab", None);
        }
        assert_selects("a/b", "a/b/c", Some(("b", "c")));
        assert_selects("a/b", "a", None);
        assert_selects("a/b", "b", None);
    }

    #[test]
    fn a_pattern_means_the_first_that_matches_on_a_path() {
        assert_selects("*.txt", "a.txt", Some(("a.txt", "")));
        assert_selects("*.txt", "a.txt/b", Some(("a.txt", "b")));
        assert_selects("*.txt", "b/a.txt", None);
        assert_selects("**/*.txt", "b/c/a.txt", Some(("a.txt", "")));
        assert_selects("**/*.txt", "a.txt", Some(("a.txt", "")));
        assert_selects("a/**", "a/b/c", Some(("a", "b/c")));
        assert_selects("a/**/d", "a/b/c/d/e", Some(("d", "e")));
        assert_selects("**", "a/b", Some(("a", "b")));
        assert_selects("[a-c]?[!x]", "bbz", Some(("bbz", "")));
        assert_selects("[a-c]?[!x]", "bbx", None);
        assert_selects("a\\*", "a*", Some(("a*", "")));
        assert_selects("a\\*", "ab", None);
        assert_selects("[", "[", Some(("[", "")));
    }

    #[test]
    fn a_source_never_leads_out() {
        assert_eq!(Source::parse("a/../.."), Err(SourceError::Outside));
        assert_eq!(Source::parse(&"a/".repeat(65)), Err(SourceError::TooDeep));
    }

    #[test]
    fn no_pattern_takes_long() {
        let many = "*a".repeat(100);
        assert_selects(&many, &"a".repeat(250), Some((&"a".repeat(250), "")));
        assert_selects(&format!("{many}b"), &"a".repeat(250), None);
        let source = "**/a/".repeat(31);
        assert_selects(&format!("{source}b"), "a/".repeat(200).trim_end_matches('/'), None);
    }
}
