//! Page cursors: base64url of `<RFC 3339 time>__<id>`, with `__asc` where the list goes upwards.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use courier_types::Timestamp;
use serde::{Deserialize, Serialize};

/// The order of a list by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

/// A cursor that this server did not give out, or gave out for another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid next token")]
pub struct CursorError;

/// The last item of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Its time.
    pub at: Timestamp,
    /// Its id, which orders items of one time.
    pub id: String,
}

impl Cursor {
    /// Longest token that is looked at, in characters.
    const MAX_LEN: usize = 256;

    /// The token for a list of this order.
    #[must_use]
    pub fn encode(&self, order: Order) -> String {
        let suffix = match order {
            Order::Asc => "__asc",
            Order::Desc => "",
        };
        URL_SAFE_NO_PAD.encode(format!("{}__{}{suffix}", self.at.to_rfc3339(), self.id))
    }

    /// Reads a token that belongs to a list of this order.
    ///
    /// # Errors
    /// It is not one.
    pub fn decode(token: &str, order: Order) -> Result<Self, CursorError> {
        if token.len() > Self::MAX_LEN {
            return Err(CursorError);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|_not_base64| CursorError)?;
        let text = String::from_utf8(bytes).map_err(|_not_text| CursorError)?;
        let mut parts = text.split("__");
        let (at, id, suffix) = (parts.next(), parts.next(), parts.next());
        let written = match suffix {
            None => Order::Desc,
            Some("asc") => Order::Asc,
            Some(_) => return Err(CursorError),
        };
        if written != order || parts.next().is_some() {
            return Err(CursorError);
        }
        let at = at.and_then(Timestamp::from_rfc3339).ok_or(CursorError)?;
        let id = id.filter(|id| is_id(id)).ok_or(CursorError)?.to_owned();
        Ok(Self { at, id })
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_of_the_other_order_is_refused() {
        let cursor = Cursor { at: Timestamp::from_micros(1), id: "i1".into() };
        assert_eq!(Cursor::decode(&cursor.encode(Order::Asc), Order::Desc), Err(CursorError));
        assert_eq!(Cursor::decode(&cursor.encode(Order::Desc), Order::Asc), Err(CursorError));
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_own_token(
            micros in 0_i64..253_402_000_000_000_000,
            id in "(sec_)?[a-z0-9]{1,21}",
            asc: bool,
        ) {
            let order = if asc { Order::Asc } else { Order::Desc };
            let cursor = Cursor { at: Timestamp::from_micros(micros), id };
            prop_assert_eq!(Cursor::decode(&cursor.encode(order), order), Ok(cursor));
        }

        #[test]
        fn no_token_makes_the_decoder_panic(token in "\\PC{0,300}") {
            let _decoded = Cursor::decode(&token, Order::Desc);
        }

        #[test]
        fn no_decoded_text_makes_the_decoder_panic(text in "\\PC{0,100}") {
            let _decoded = Cursor::decode(&URL_SAFE_NO_PAD.encode(text), Order::Asc);
        }
    }
}
