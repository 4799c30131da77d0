//! Percent encoding, once for everybody who writes or reads an address: what the proxy decides on
//! and what the guest daemon then opens must be the same text.

use std::fmt::Write as _;

/// Encodes one query value: every byte but unreserved characters and `/`.
#[must_use]
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _reserved => write!(encoded, "%{byte:02X}").expect("a String takes every write"),
        }
        encoded
    })
}

/// Undoes the encoding; `None` where a `%` has no two hexadecimal digits behind it.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { hex(rest.next()?)? * 16 + hex(rest.next()?)? } else { byte });
    }
    Some(bytes)
}

/// The same for a name or value of a query or form, where `+` is a space.
#[must_use]
pub fn decode_form(text: &str) -> Option<Vec<u8>> {
    decode(&text.replace('+', " "))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_encoded_so_that_it_stays_one_query_value() {
        assert_eq!(encode("a b&c=d/é?"), "a%20b%26c%3Dd/%C3%A9%3F");
    }

    #[test]
    fn a_percent_sign_without_two_digits_is_refused() {
        for text in ["%", "%4", "%zz", "a%4", "%é"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode("%ff+"), Some(vec![0xff, b'+']));
        assert_eq!(decode_form("%2B+"), Some(b"+ ".to_vec()));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back_by_both_decoders(text in ".{0,40}") {
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded), Some(text.clone().into_bytes()));
            prop_assert_eq!(decode_form(&encoded), Some(text.into_bytes()));
        }
    }
}
