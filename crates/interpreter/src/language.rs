//! The languages, under the names that the wire uses, and how each sets and unsets environment
//! variables in a kernel that runs already.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::environment::Variables;

/// A language that a kernel context may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Language {
    Python,
    JavaScript,
    TypeScript,
    R,
    Java,
    Bash,
}

/// Every language, in the order in which a message lists them.
pub(crate) const LANGUAGES: [Language; 6] = [
    Language::Python,
    Language::JavaScript,
    Language::TypeScript,
    Language::R,
    Language::Java,
    Language::Bash,
];

/// A name that is no language's.
#[derive(Debug, thiserror::Error)]
#[error("unsupported language: it must be python, javascript, typescript, r, java or bash")]
pub(crate) struct UnknownLanguage;

impl Language {
    /// Reads a name as clients write it: in any case, short forms included.
    pub(crate) fn parse(name: &str) -> Result<Self, UnknownLanguage> {
        let name = name.to_ascii_lowercase();
        let full = match name.as_str() {
            "js" => "javascript",
            "ts" => "typescript",
            other => other,
        };
        LANGUAGES.into_iter().find(|language| language.name() == full).ok_or(UnknownLanguage)
    }

    /// The name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::R => "r",
            Self::Java => "java",
            Self::Bash => "bash",
        }
    }

    /// The folder of its kernel below the folder of kernels, named as its installer names it.
    pub(crate) const fn kernel(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::R => "ir",
            Self::Java => "java",
            Self::Bash => "bash",
        }
    }

    /// Code that sets the variables.
    pub(crate) fn set(self, variables: &Variables) -> String {
        let pairs = variables.iter();
        match self {
            Self::Python => format!("__import__('os').environ.update({})", object(variables)),
            Self::JavaScript | Self::TypeScript => {
                format!("Object.assign(process.env, {})", object(variables))
            }
            Self::R => each(pairs, |name, value| format!("Sys.setenv({name:?} = {value})\n")),
            Self::Java => {
                each(pairs, |name, value| format!("System.setProperty({name:?}, {value});\n"))
            }
            Self::Bash => variables
                .iter()
                .map(|(name, value)| format!("export {name}={}\n", single_quoted(value)))
                .collect(),
        }
    }

    /// Code that removes the variables of these names.
    pub(crate) fn unset(self, names: &[&str]) -> String {
        let list = literal(&names.into());
        match self {
            Self::Python => {
                format!("[__import__('os').environ.pop(name, None) for name in {list}]")
            }
            Self::JavaScript | Self::TypeScript => {
                format!("{list}.forEach((name) => delete process.env[name])")
            }
            Self::R => names.iter().map(|name| format!("Sys.unsetenv({name:?})\n")).collect(),
            Self::Java => {
                names.iter().map(|name| format!("System.clearProperty({name:?});\n")).collect()
            }
            Self::Bash => names.iter().map(|name| format!("unset {name}\n")).collect(),
        }
    }
}

/// JSON is a literal of all these languages: what it escapes, they escape the same way.
fn literal(value: &Value) -> String {
    value.to_string()
}

fn object(variables: &Variables) -> String {
    let object: Value =
        variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    literal(&object)
}

fn each<'a>(
    pairs: impl Iterator<Item = (&'a String, &'a String)>,
    line: impl Fn(&str, &str) -> String,
) -> String {
    pairs.map(|(name, value)| line(name, &literal(&value.as_str().into()))).collect()
}

fn single_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Code that undoes what setting `changed` did: back to the value that every kernel starts with, or
/// away.
pub(crate) fn undo(
    language: Language,
    changed: &Variables,
    initial: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut cells = Vec::new();
    let back: BTreeMap<String, String> = changed
        .iter()
        .filter_map(|(name, _)| Some((name.clone(), initial.get(name)?.clone())))
        .collect();
    let gone: Vec<&str> = changed
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !back.contains_key(*name))
        .collect();
    if !gone.is_empty() {
        cells.push(language.unset(&gone));
    }
    if !back.is_empty() {
        cells.push(language.set(&Variables::known(back)));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_in_short() {
        assert_eq!(Language::parse("Python").ok(), Some(Language::Python));
        assert_eq!(Language::parse("ts").ok(), Some(Language::TypeScript));
        assert_eq!(Language::parse("JS").ok(), Some(Language::JavaScript));
        assert!(Language::parse("cobol").is_err());
    }

    #[test]
    fn values_cannot_leave_their_literal() {
        let hostile = BTreeMap::from([("A".to_owned(), "\"'); x\n'$(y)`".to_owned())]);
        let variables = Variables::known(hostile);
        assert_eq!(
            Language::Python.set(&variables),
            r#"__import__('os').environ.update({"A":"\"'); x\n'$(y)`"})"#
        );
        assert_eq!(Language::Bash.set(&variables), "export A='\"'\\''); x\n'\\''$(y)`'\n");
    }

    #[test]
    fn undoing_sets_back_what_was_there_and_removes_the_rest() {
        let changed =
            BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        let initial = BTreeMap::from([("B".to_owned(), "old".to_owned())]);
        let cells = undo(Language::Bash, &Variables::known(changed), &initial);
        assert_eq!(cells, ["unset A\n", "export B='old'\n"]);
    }
}
