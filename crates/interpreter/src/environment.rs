//! Environment variables that a client gives with one execution.

use std::collections::BTreeMap;

use crate::language::Language;

/// More variables than any program reads.
const MOST_VARIABLES: usize = 256;
/// All names and values together, in bytes: what Linux takes in one `exec` is of this order.
const MOST_BYTES: usize = 128 * 1024;

/// Variables whose names and values every language can set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

/// Why variables are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VariablesError {
    #[error("env_vars has more than {MOST_VARIABLES} variables")]
    TooMany,
    #[error("env_vars has more than {MOST_BYTES} bytes")]
    TooLong,
    #[error("env_vars has a name that is empty or has a character that a name cannot have")]
    Name,
    #[error("env_vars has a value with a NUL character")]
    Value,
}

impl Variables {
    /// Checks what a client sent. In bash a name is an identifier, and stands unquoted in the code.
    pub(crate) fn parse(
        given: BTreeMap<String, String>,
        language: Language,
    ) -> Result<Self, VariablesError> {
        if given.len() > MOST_VARIABLES {
            return Err(VariablesError::TooMany);
        }
        if given.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MOST_BYTES {
            return Err(VariablesError::TooLong);
        }
        let strict =
            !matches!(language, Language::Python | Language::JavaScript | Language::TypeScript);
        if !given.keys().all(|name| is_name(name, strict)) {
            return Err(VariablesError::Name);
        }
        if given.values().any(|value| value.contains('\0')) {
            return Err(VariablesError::Value);
        }
        Ok(Self(given))
    }

    /// Variables that were checked before, or that are this process's own.
    pub(crate) const fn known(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_name(name: &str, strict: bool) -> bool {
    let identifier = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if strict {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(identifier)
    } else {
        !name.is_empty() && !name.contains(['=', '\0'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_name_in_bash_can_be_no_code() {
        assert!(Variables::parse(one("A;id", "x"), Language::Bash).is_err());
        assert!(Variables::parse(one("1A", "x"), Language::Bash).is_err());
        assert!(Variables::parse(one("A_1", "x"), Language::Bash).is_ok());
        assert!(Variables::parse(one("a-b", "x"), Language::Python).is_ok());
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        assert!(Variables::parse(one("A=B", "x"), Language::Python).is_err());
        assert!(Variables::parse(one("", "x"), Language::Python).is_err());
        assert!(Variables::parse(one("A", "x\0y"), Language::Python).is_err());
        assert!(Variables::parse(one("A", &"x".repeat(MOST_BYTES)), Language::Python).is_err());
    }
}
