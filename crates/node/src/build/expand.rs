//! Variables in the values of an ENV step.
//!
//! `$NAME`, `${NAME}`, `${NAME:-instead}` and `${NAME:+then}` stand for what Docker has them stand
//! for; `\$` is a dollar sign. Everything else, other backslashes among it, stays as it is.

/// Most bytes of one value: Linux takes no longer string in an environment (`MAX_ARG_STRLEN`).
/// Without a bound, doubling a value in each step would fill the memory.
pub(super) const VALUE_MAX_BYTES: usize = 128 * 1_024 - 1;

/// Why a value is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    /// The brace has no end.
    #[error("'${{' has no '}}'")]
    Open,
    /// Something in braces that is not understood.
    #[error(
        "'${{{inner}}}' is not understood: write ${{NAME}}, ${{NAME:-instead}} or ${{NAME:+then}}"
    )]
    Inner {
        /// What is in the braces, cut.
        inner: String,
    },
    /// It grows too long.
    #[error("the value becomes longer than {VALUE_MAX_BYTES} bytes")]
    Long,
}

/// What a variable stands for, by its name.
type Variables<'f, 'v> = &'f dyn Fn(&str) -> Option<&'v str>;

/// Puts the values of variables in place.
pub(super) fn expand<'a>(
    text: &'a str,
    variables: Variables<'_, 'a>,
) -> Result<String, ExpandError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        let after = dollar.get(1..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('\\') {
            push(&mut out, before)?;
            push(&mut out, "$")?;
            rest = after;
            continue;
        }
        push(&mut out, before)?;
        let (value, left) = reference(after, variables)?;
        push(&mut out, value)?;
        rest = left;
    }
    push(&mut out, rest)?;
    Ok(out)
}

fn push(out: &mut String, text: &str) -> Result<(), ExpandError> {
    if out.len().saturating_add(text.len()) > VALUE_MAX_BYTES {
        return Err(ExpandError::Long);
    }
    out.push_str(text);
    Ok(())
}

/// What stands after a dollar sign: its value, and what comes behind it.
fn reference<'a>(
    after: &'a str,
    variables: Variables<'_, 'a>,
) -> Result<(&'a str, &'a str), ExpandError> {
    if let Some(braced) = after.strip_prefix('{') {
        let (inner, rest) = braced.split_once('}').ok_or(ExpandError::Open)?;
        return Ok((in_braces(inner, variables)?, rest));
    }
    let (name, rest) = split_name(after);
    if name.is_empty() {
        return Ok(("$", after));
    }
    Ok((variables(name).unwrap_or_default(), rest))
}

fn in_braces<'a>(inner: &'a str, variables: Variables<'_, 'a>) -> Result<&'a str, ExpandError> {
    let (name, rest) = split_name(inner);
    // As Docker and shells have it, an empty variable counts as none here.
    let value = variables(name).filter(|value| !value.is_empty() || rest.is_empty());
    let not_understood = || ExpandError::Inner { inner: inner.chars().take(64).collect() };
    if name.is_empty() {
        return Err(not_understood());
    }
    match (rest, rest.strip_prefix(":-"), rest.strip_prefix(":+")) {
        ("", _, _) => Ok(value.unwrap_or_default()),
        (_, Some(instead), _) => Ok(value.unwrap_or(instead)),
        (_, None, Some(then)) => Ok(value.map(|_there| then).unwrap_or_default()),
        (_, None, None) => Err(not_understood()),
    }
}

/// A variable's name at the start of a text.
fn split_name(text: &str) -> (&str, &str) {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !text.starts_with(is_first) {
        return ("", text);
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<String, ExpandError> {
        let variables =
            BTreeMap::from([("A", "1"), ("LONG_2", "two"), ("EMPTY", ""), ("DOLLAR", "$A")]);
        expand(text, &|name| variables.get(name).copied())
    }

    #[test]
    fn variables_stand_for_their_values_once() {
        for (text, value) in [
            ("", ""),
            ("$A", "1"),
            ("x${A}y", "x1y"),
            ("$A$A:$LONG_2-z", "11:two-z"),
            ("$UNKNOWN.", "."),
            ("$DOLLAR", "$A"),
            ("ä$Aö", "ä1ö"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_dollar_sign_that_names_nothing_or_is_escaped_stays() {
        for (text, value) in [
            ("$", "$"),
            ("5$", "5$"),
            ("$1", "$1"),
            ("\\$A", "$A"),
            ("a\\nb", "a\\nb"),
            ("$$A", "$1"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn alternatives_are_those_of_docker() {
        for (text, value) in [
            ("${A:-x}", "1"),
            ("${NO:-x y}", "x y"),
            ("${EMPTY:-x}", "x"),
            ("${A:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY}", ""),
        ] {
            assert_eq!(of(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        assert_eq!(of("${A"), Err(ExpandError::Open));
        let error = of("${A:?x}").unwrap_err().to_string();
        assert!(error.contains("${A:?x}"), "{error}");
        assert!(of("${}").is_err() && of("${a b}").is_err());
    }

    #[test]
    fn a_value_that_doubles_in_each_step_comes_to_an_end() {
        let mut value = "x".to_owned();
        let error = loop {
            match expand("$A$A", &|_a| Some(value.as_str())) {
                Ok(doubled) => value = doubled,
                Err(error) => break error,
            }
        };
        assert_eq!(error, ExpandError::Long);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_text_without_dollars_stays(text in ".{0,64}") {
            let expanded = of(&text);
            if !text.contains('$') {
                prop_assert_eq!(expanded, Ok(text));
            }
        }
    }
}
