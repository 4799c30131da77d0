//! Guest-held tokens in the head of a request: finding and exchanging them.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{alphabet, engine::DecodePaddingMode};
use courier_types::egress::{GuestToken, SecretName, SecretValue};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use zeroize::Zeroizing;

use super::{BrokerError, sensitive};
use crate::policy::path;

/// Decodes what servers decode: with padding and without, with leftover bits.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// True when the path or query has a token, percent-encoded or not.
pub(super) fn is_in_target(parts: &Parts) -> bool {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    has_token(target.as_bytes()) || has_token(&path::percent_decoded(target))
}

/// True when a header has a token.
pub(super) fn is_in_headers(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| {
        has_token(value.as_bytes()) || basic_of(name, value).is_some_and(|pair| has_token(&pair))
    })
}

/// Beginnings of the names of fields that say something of the content or the client (RFC 9110,
/// sections 8, 10.1 and 12 to 14), and of their likes for proxies: no server looks for a key there.
const DESCRIBING: [&str; 14] = [
    "accept",
    "content-",
    "forwarded",
    "from",
    "if-",
    "last-",
    "link",
    "origin",
    "prefer",
    "range",
    "referer",
    "slug",
    "user-agent",
    "x-forwarded-",
];
/// In the names of fields that object stores keep with an object (`x-amz-meta-…`, `x-ms-meta-…`).
const KEPT: &str = "-meta-";

/// True when a token is in a field that servers store or log with what they are sent, and show to
/// whoever asks later: in an answer that nobody searches.
pub(super) fn is_where_servers_store(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| {
        let name = name.as_str();
        let stored = name.contains(KEPT) || DESCRIBING.iter().any(|of| name.starts_with(of));
        stored && has_token(value.as_bytes())
    })
}

fn has_token(bytes: &[u8]) -> bool {
    GuestToken::find_all(bytes).next().is_some()
}

/// The tokens in headers, each once.
pub(super) fn in_headers(headers: &HeaderMap) -> Vec<GuestToken> {
    let mut tokens: Vec<GuestToken> = Vec::new();
    for (name, value) in headers {
        let pair = basic_of(name, value);
        for text in [Some(value.as_bytes()), pair.as_deref().map(Vec::as_slice)] {
            let text = text.unwrap_or_default();
            for range in GuestToken::find_all(text) {
                let token = text.get(range).and_then(|token| std::str::from_utf8(token).ok());
                tokens.extend(token.and_then(|token| token.parse().ok()));
            }
        }
    }
    let mut each: Vec<GuestToken> = Vec::new();
    for token in tokens {
        if !each.contains(&token) {
            each.push(token);
        }
    }
    each
}

/// What a basic credential decodes to, where the header is one.
fn basic_of(name: &HeaderName, value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    if *name != header::AUTHORIZATION && *name != header::PROXY_AUTHORIZATION {
        return None;
    }
    let (scheme, rest) = value.as_bytes().split_first_chunk::<6>()?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    LENIENT.decode(rest.trim_ascii()).ok().map(Zeroizing::new)
}

/// Appends a basic credential of `USER:PASSWORD`.
pub(super) fn write_basic(pair: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b"Basic ");
    let encoded = Zeroizing::new(STANDARD.encode(pair));
    text.extend_from_slice(encoded.as_bytes());
}

/// Tokens and what they stand for.
#[derive(Debug, Default)]
pub(super) struct Exchanged(Vec<(GuestToken, SecretName, SecretValue)>);

impl Exchanged {
    pub(super) fn add(&mut self, token: GuestToken, name: SecretName, value: SecretValue) {
        self.0.push((token, name, value));
    }

    /// Puts the values in the tokens' places.
    pub(super) fn write(&self, headers: &mut HeaderMap) -> Result<(), BrokerError> {
        if self.0.is_empty() {
            return Ok(());
        }
        for (name, value) in headers.iter_mut() {
            let mut text = self.replaced(value.as_bytes());
            if let Some(pair) = basic_of(name, value).and_then(|pair| self.replaced(&pair)) {
                let basic = text.get_or_insert_default();
                basic.clear();
                write_basic(&pair, basic);
            }
            if let Some(text) = text {
                *value = sensitive(&text).ok_or_else(|| self.unfit())?;
            }
        }
        Ok(())
    }

    /// The text with values in place of tokens; `None` where there is no token.
    fn replaced(&self, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut out: Option<Zeroizing<Vec<u8>>> = None;
        let mut from = 0;
        for range in GuestToken::find_all(text) {
            let token = text.get(range.clone()).unwrap_or_default();
            let known = self.0.iter().find(|(known, ..)| known.expose().as_bytes() == token);
            let Some((_, _, value)) = known else { continue };
            let room = text.len().saturating_add(value.expose().len());
            let out = out.get_or_insert_with(|| Zeroizing::new(Vec::with_capacity(room)));
            out.extend_from_slice(text.get(from..range.start).unwrap_or_default());
            out.extend_from_slice(value.expose());
            from = range.end;
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(text.get(from..).unwrap_or_default());
        }
        out
    }

    /// Some value does not fit into a header: the error names the secret that is to blame, or the
    /// first.
    fn unfit(&self) -> BrokerError {
        let bad = self.0.iter().find(|(_, _, value)| sensitive(value.expose()).is_none());
        match bad.or_else(|| self.0.first()) {
            Some((_, name, _)) => BrokerError::Value { name: name.clone() },
            None => BrokerError::TokenMisplaced,
        }
    }
}
