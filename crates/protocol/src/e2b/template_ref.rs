//! The grammar of template references: `[namespace/]name[:tag]`, or an id (which has the same form
//! as a name).

use std::fmt;

use courier_types::BuildId;

/// Why a text is no template reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateRefError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// It is too long.
    #[error("it is longer than {} characters", TemplateRef::MAX_LEN)]
    TooLong,
    /// The name or the namespace has a character outside of its alphabet.
    #[error("a name has only a-z, 0-9, '-', '_' and, not at its beginning, '.'")]
    Name,
    /// The tag has a character outside of its alphabet.
    #[error("a tag has only a-z, 0-9, '-', '_' and '.'")]
    Tag,
}

/// A template reference, trimmed and in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateRef {
    namespace: Option<String>,
    name: String,
    tag: Option<String>,
}

impl TemplateRef {
    /// Longest reference, in characters.
    pub const MAX_LEN: usize = 128;
    /// The tag of a reference that names none.
    pub const DEFAULT_TAG: &'static str = "default";

    /// Parses a reference as a client wrote it.
    ///
    /// # Errors
    /// The text is outside of the grammar.
    pub fn parse(text: &str) -> Result<Self, TemplateRefError> {
        let text = text.trim();
        if text.len() > Self::MAX_LEN {
            return Err(TemplateRefError::TooLong);
        }
        if text.is_empty() {
            return Err(TemplateRefError::Empty);
        }
        let text = text.to_ascii_lowercase();
        let (path, tag) = match text.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (text.as_str(), None),
        };
        let (namespace, name) = match path.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, path),
        };
        if !is_name(name) || namespace.is_some_and(|namespace| !is_name(namespace)) {
            return Err(TemplateRefError::Name);
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(TemplateRefError::Tag);
        }
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
        })
    }

    /// Parses a tag alone, as a client wrote it; none where it is not one that may be given: the
    /// ids of builds have the form of tags and name their build.
    #[must_use]
    pub fn parse_tag(text: &str) -> Option<String> {
        let tag = text.trim().to_ascii_lowercase();
        let valid = tag.len() <= Self::MAX_LEN && is_tag(&tag) && tag.parse::<BuildId>().is_err();
        valid.then_some(tag)
    }

    /// Whose template it is; none for one's own or a public one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name, which may be an id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag, where one was written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl fmt::Display for TemplateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        Ok(())
    }
}

/// Beyond E2B's own grammar, a name may have dots: `python-3.12`.
fn is_name(text: &str) -> bool {
    let valid = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(valid)
}

/// True for a text that may be a tag: also of builds, whose ids have the form of one.
fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_part_is_found_and_lower_cased() {
        let full = TemplateRef::parse(" Team/My_Tool-2:V1.2 ").unwrap();
        assert_eq!(full.namespace(), Some("team"));
        assert_eq!(full.name(), "my_tool-2");
        assert_eq!(full.tag(), Some("v1.2"));
        assert_eq!(full.to_string(), "team/my_tool-2:v1.2");
        assert_eq!(TemplateRef::parse("python-3.12").unwrap().name(), "python-3.12");
    }

    #[test]
    fn what_climbs_or_is_empty_or_endless_is_refused() {
        for (text, error) in [
            ("", TemplateRefError::Empty),
            ("../../etc/passwd", TemplateRefError::Name),
            ("a/b/c", TemplateRefError::Name),
            ("a:", TemplateRefError::Tag),
            ("a:b:c", TemplateRefError::Tag),
            (":tag", TemplateRefError::Name),
            ("a b", TemplateRefError::Name),
            (".a", TemplateRefError::Name),
            ("./a", TemplateRefError::Name),
        ] {
            assert_eq!(TemplateRef::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(TemplateRef::parse(&"a".repeat(129)), Err(TemplateRefError::TooLong));
    }

    #[test]
    fn a_tag_is_lower_cased_and_no_builds_id() {
        assert_eq!(TemplateRef::parse_tag(" V1.2 ").as_deref(), Some("v1.2"));
        let too_long = "a".repeat(129);
        let id = BuildId::from_random([1; 16]).to_string();
        for tag in ["", "a b", "a/b", "a:b", "é", &id, &too_long] {
            assert_eq!(TemplateRef::parse_tag(tag), None, "{tag:?}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_reference_survives_its_own_text(text in "\\PC{0,40}") {
            if let Ok(parsed) = TemplateRef::parse(&text) {
                prop_assert_eq!(TemplateRef::parse(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
