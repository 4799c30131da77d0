//! The query of a request to `/files`.

use courier_protocol::percent;
use thiserror::Error;

/// Longest query that is looked at: a path may take three characters for each of its bytes, and
/// beside it stand a name and a signature.
const QUERY_MAX: usize = 16_384;

/// Why a query cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum QueryError {
    /// It is too long.
    #[error("the query is longer than {QUERY_MAX} bytes")]
    TooLong,
    /// A `%` without two hexadecimal digits after it.
    #[error("the query has a '%' that is not followed by two hexadecimal digits")]
    Escape,
    /// Its bytes are no text.
    #[error("the query is not UTF-8")]
    NotUtf8,
}

/// What the query says that matters here. Signatures have been checked on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Which file; absent where it was not given at all.
    pub(crate) path: Option<String>,
    /// For whom; absent or empty for the default user.
    pub(crate) username: Option<String>,
}

/// Reads a query. Of a name that comes twice the first counts, as in the check of signatures.
///
/// # Errors
/// [`QueryError`].
pub(crate) fn parse(query: &str) -> Result<Query, QueryError> {
    if query.len() > QUERY_MAX {
        return Err(QueryError::TooLong);
    }
    let mut parsed = Query::default();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let field = match decode(name)?.as_str() {
            "path" => &mut parsed.path,
            "username" => &mut parsed.username,
            _ => continue,
        };
        if field.is_none() {
            *field = Some(decode(value)?);
        }
    }
    Ok(parsed)
}

/// Decodes one form-encoded name or value.
fn decode(text: &str) -> Result<String, QueryError> {
    let bytes = percent::decode_form(text).ok_or(QueryError::Escape)?;
    String::from_utf8(bytes).map_err(|_invalid| QueryError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_user_are_decoded_and_the_rest_is_ignored() {
        let query = parse("path=%2Fa%20b%2Bc+d&signature=v1_x&username=us%C3%A9r").unwrap();
        assert_eq!(query.path.as_deref(), Some("/a b+c d"));
        assert_eq!(query.username.as_deref(), Some("usér"));
        assert_eq!(parse("").unwrap(), Query::default());
        assert_eq!(parse("path=").unwrap().path.as_deref(), Some(""));
    }

    #[test]
    fn of_two_paths_the_first_counts() {
        assert_eq!(parse("path=a&path=b").unwrap().path.as_deref(), Some("a"));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        assert_eq!(parse("path=%2"), Err(QueryError::Escape));
        assert_eq!(parse("path=%zz"), Err(QueryError::Escape));
        assert_eq!(parse("path=%ff"), Err(QueryError::NotUtf8));
        assert_eq!(parse(&"a".repeat(QUERY_MAX + 1)), Err(QueryError::TooLong));
    }
}
