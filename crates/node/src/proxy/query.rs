//! The query of `/files`, read once: what is decided on is written anew for the guest, so that no
//! second parser can read it otherwise.

use courier_protocol::percent;

/// Parameters of `/files`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FilesQuery {
    pub(super) path: Option<String>,
    pub(super) username: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) expiration: Option<i64>,
}

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    #[error("query parameter {name:?} is there twice")]
    Twice { name: &'static str },
    #[error("the query is not percent-encoded UTF-8")]
    Encoding,
    #[error("invalid signature_expiration: use seconds since 1970")]
    Expiration,
}

impl FilesQuery {
    pub(super) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut parsed = Self::default();
        let mut expiration = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let (name, slot) = match name.as_str() {
                "path" => ("path", &mut parsed.path),
                "username" => ("username", &mut parsed.username),
                "signature" => ("signature", &mut parsed.signature),
                "signature_expiration" => ("signature_expiration", &mut expiration),
                _unknown => continue,
            };
            if slot.replace(decode(value)?).is_some() {
                return Err(QueryError::Twice { name });
            }
        }
        parsed.expiration = match expiration.as_deref() {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_no_number| QueryError::Expiration)?),
        };
        Ok(parsed)
    }

    /// What the guest sees: path and user, and nothing of the signature.
    pub(super) fn for_guest(&self) -> String {
        [("path", &self.path), ("username", &self.username)]
            .into_iter()
            .filter_map(|(name, value)| {
                Some(format!("{name}={}", percent::encode(value.as_deref()?)))
            })
            .collect::<Vec<_>>()
            .join("&")
    }
}

/// Decodes one form-encoded name or value.
fn decode(text: &str) -> Result<String, QueryError> {
    let bytes = percent::decode_form(text).ok_or(QueryError::Encoding)?;
    String::from_utf8(bytes).map_err(|_bytes| QueryError::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_that_is_there_twice_is_refused_however_it_is_spelled() {
        let error = FilesQuery::parse("path=a&p%61th=b").unwrap_err();
        assert_eq!(error, QueryError::Twice { name: "path" });
    }

    #[test]
    fn the_guest_sees_neither_signature_nor_what_nobody_decided_on() {
        let query = FilesQuery::parse("path=a+b%26&x=1&signature=s&username=u").unwrap();
        assert_eq!(query.path.as_deref(), Some("a b&"));
        assert_eq!(query.for_guest(), "path=a%20b%26&username=u");
    }

    #[test]
    fn a_broken_escape_and_a_time_that_is_no_number_are_refused() {
        for query in ["path=%", "path=%4", "path=%zz", "path=%ff"] {
            assert_eq!(FilesQuery::parse(query), Err(QueryError::Encoding), "{query}");
        }
        let query = "signature_expiration=soon";
        assert_eq!(FilesQuery::parse(query), Err(QueryError::Expiration));
    }

    proptest! {
        #[test]
        fn what_the_guest_reads_is_what_was_decided_on(path in ".{0,40}", user in ".{0,8}") {
            let query = FilesQuery {
                path: Some(path), username: Some(user), ..FilesQuery::default()
            };
            prop_assert_eq!(FilesQuery::parse(&query.for_guest()), Ok(query));
        }
    }
}
