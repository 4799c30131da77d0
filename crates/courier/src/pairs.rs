//! Flags of the form `K=V`.

use std::collections::BTreeMap;

/// Longest key or value.
const MAX_BYTES: usize = 128 * 1024;

/// Reads `K=V`; the value may be empty and may hold more equal signs.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value))
            if !key.is_empty() && !text.contains('\0') && text.len() <= MAX_BYTES =>
        {
            Ok((key.to_owned(), value.to_owned()))
        }
        Some(_) | None => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// All pairs; the last of one name counts.
pub(crate) fn map(pairs: Vec<(String, String)>) -> BTreeMap<String, String> {
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_split_at_its_first_equal_sign() {
        assert_eq!(parse("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(parse("A="), Ok(("A".into(), String::new())));
        for text in ["", "A", "=b", "A=\0"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
