//! The metadata filter of lists: a query string whose keys and values are percent-encoded once more
//! than a query string's are.

use std::collections::BTreeMap;

use crate::percent;

/// Why a text is no metadata filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataFilterError {
    /// It is too long.
    #[error("the metadata filter is longer than {} bytes", MetadataFilter::MAX_LEN)]
    TooLong,
    /// It has too many pairs.
    #[error("the metadata filter has more than {} pairs", MetadataFilter::MAX_PAIRS)]
    TooManyPairs,
    /// A `%` without two hexadecimal digits behind it, or bytes that are not UTF-8.
    #[error("the metadata filter has a broken percent-encoding")]
    Encoding,
}

/// Pairs of which a sandbox must have every one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataFilter(BTreeMap<String, String>);

impl MetadataFilter {
    /// Longest filter, in bytes as it comes from the query.
    pub const MAX_LEN: usize = 16 * 1024;
    /// Most pairs.
    pub const MAX_PAIRS: usize = 64;

    /// Reads the value of the query parameter, which has been decoded once, as every query
    /// parameter is: it is a query string again, and each key and value in it is percent-encoded
    /// once more.
    ///
    /// # Errors
    /// It is too large, or an encoding in it is broken.
    pub fn decode(parameter: &str) -> Result<Self, MetadataFilterError> {
        if parameter.len() > Self::MAX_LEN {
            return Err(MetadataFilterError::TooLong);
        }
        let mut pairs = BTreeMap::new();
        for pair in parameter.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() >= Self::MAX_PAIRS {
                return Err(MetadataFilterError::TooManyPairs);
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.insert(decode_twice(key)?, decode_twice(value)?);
        }
        Ok(Self(pairs))
    }

    /// The pairs.
    #[must_use]
    pub const fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// True where the metadata has every pair of the filter.
    #[must_use]
    pub fn matches(&self, metadata: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| metadata.get(key) == Some(value))
    }
}

/// Form-decodes (`+` is a space), then percent-decodes what that gave.
fn decode_twice(text: &str) -> Result<String, MetadataFilterError> {
    let once = utf8(percent::decode_form(text))?;
    utf8(percent::decode(&once))
}

fn utf8(decoded: Option<Vec<u8>>) -> Result<String, MetadataFilterError> {
    let bytes = decoded.ok_or(MetadataFilterError::Encoding)?;
    String::from_utf8(bytes).map_err(|_not_utf8| MetadataFilterError::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `encodeURIComponent` does.
    fn encode_component(text: &str) -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    char::from(b).to_string()
                }
                _ => format!("%{b:02X}"),
            })
            .collect()
    }

    #[test]
    fn the_value_that_the_sdk_sends_for_b_c_is_read() {
        // On the wire `metadata=a%3Db%252520c`; the query extractor has decoded it once.
        let filter = MetadataFilter::decode("a=b%2520c").unwrap();
        assert_eq!(filter.pairs().get("a").map(String::as_str), Some("b c"));
    }

    #[test]
    fn every_pair_must_match() {
        let filter = MetadataFilter::decode("a=1&b=2").unwrap();
        let metadata = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert!(filter.matches(&metadata(&[("a", "1"), ("b", "2"), ("c", "3")])));
        assert!(!filter.matches(&metadata(&[("a", "1")])));
        assert!(!filter.matches(&metadata(&[("a", "1"), ("b", "3")])));
    }

    #[test]
    fn a_broken_or_huge_filter_is_refused() {
        for text in ["a=%", "a=%2", "a=%zz", "a=%ff", "%25f=1"] {
            assert_eq!(MetadataFilter::decode(text), Err(MetadataFilterError::Encoding), "{text}");
        }
        assert_eq!(
            MetadataFilter::decode(&"a".repeat(MetadataFilter::MAX_LEN + 1)),
            Err(MetadataFilterError::TooLong)
        );
        let many = (0..=MetadataFilter::MAX_PAIRS).map(|i| format!("k{i}=v&")).collect::<String>();
        assert_eq!(MetadataFilter::decode(&many), Err(MetadataFilterError::TooManyPairs));
    }

    proptest! {
        #[test]
        fn what_an_sdk_encodes_is_decoded_to_the_same(key in "\\PC{1,12}", value in "\\PC{0,12}") {
            // encodeURIComponent, then URLSearchParams encodes the result again.
            let encode = |text: &str| encode_component(&encode_component(text));
            let filter =
                MetadataFilter::decode(&format!("{}={}", encode(&key), encode(&value))).unwrap();
            prop_assert_eq!(filter.pairs().get(&key), Some(&value));
        }

        #[test]
        fn no_filter_makes_the_decoder_panic(text in "\\PC{0,100}") {
            let _decoded = MetadataFilter::decode(&text);
        }
    }
}
