//! Credentials: what is added to a request on its way out, and taken out of its answer.
//!
//! A value is asked for at each use and lives as long as the exchange that it is used in. A request
//! that should have a value and cannot get it does not go out; nor does one that shows a guest's
//! token to a host that is not the token's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use courier_types::SandboxId;
use courier_types::egress::{Credential, Injection, SecretName, SecretValue, TemplatePart};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use zeroize::Zeroizing;

use crate::{CredentialSource, SourceError};

mod redactor;
mod tokens;

use redactor::Searches;
pub(crate) use redactor::{Redactor, RedactorError};

/// Longest header value in bytes that is made of secrets: what common servers take as one header
/// line, and a bound on the search for it in the answer.
const VALUE_MAX: usize = 8 * 1024;

/// Most different tokens in one request: each costs a question to the server.
const TOKENS_MAX: usize = 8;

/// Why a request does not go out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// A token where no credential takes it.
    #[error("the request carries a token that is not for this host")]
    TokenMisplaced,
    /// Too many tokens.
    #[error("the request carries more than {TOKENS_MAX} tokens")]
    TooManyTokens,
    /// A token that stands for nothing, or cannot be looked up.
    #[error("the request's token cannot be exchanged")]
    Token(#[source] SourceError),
    /// A secret that cannot be had.
    #[error("secret {name} cannot be added")]
    Secret {
        /// Which.
        name: SecretName,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// A value that no header can carry.
    #[error("the value of secret {name} has bytes that a header cannot carry, or too many")]
    Value {
        /// Whose.
        name: SecretName,
    },
    /// A header that is none after all.
    #[error("header {name:?} cannot be set")]
    Header {
        /// Its name.
        name: String,
    },
    /// Values that no answer can be searched for.
    #[error("the answer could not be searched for what was added")]
    Redactor(#[from] RedactorError),
}

/// What was done to a request.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// The secrets whose values are in it now, by name.
    pub(crate) secrets: Vec<SecretName>,
    /// Takes the values out of the answer; `None` when no value was added.
    pub(crate) redactor: Option<Redactor>,
}

/// Adds credentials for one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    source: Arc<dyn CredentialSource>,
    sandbox: SandboxId,
    searches: Searches,
}

/// The values used in one request.
#[derive(Debug, Default)]
struct Used {
    values: BTreeMap<SecretName, SecretValue>,
    /// What to look for in the answer.
    sought: Vec<Zeroizing<Vec<u8>>>,
}

impl Used {
    fn add(&mut self, name: SecretName, value: SecretValue) {
        if let Entry::Vacant(entry) = self.values.entry(name) {
            self.sought.push(Zeroizing::new(value.expose().to_vec()));
            entry.insert(value);
        }
    }
}

impl Broker {
    pub(crate) fn new(source: Arc<dyn CredentialSource>, sandbox: SandboxId) -> Self {
        Self { source, sandbox, searches: Searches::default() }
    }

    /// True when the request carries something that looks like a guest-held token anywhere in its
    /// head: in a header, in a basic credential, in the path or query.
    pub(crate) fn carries_token(parts: &Parts) -> bool {
        tokens::is_in_target(parts) || tokens::is_in_headers(&parts.headers)
    }

    /// Adds credentials to an allowed request in opened TLS, and exchanges the tokens in it. Of
    /// several credentials for one header the first is added. The guest's own header of that name is
    /// dropped; with a credential for `Authorization` or `Proxy-Authorization` both are.
    ///
    /// # Errors
    /// The request must not go out.
    pub(crate) async fn apply(
        &self,
        credentials: &[&Credential],
        parts: &mut Parts,
    ) -> Result<Applied, BrokerError> {
        let mut used = Used::default();
        let headers = self.headers(credentials, &mut used).await?;
        for name in headers.keys() {
            remove_alike(&mut parts.headers, name);
        }
        if headers.contains_key(&header::AUTHORIZATION)
            || headers.contains_key(&header::PROXY_AUTHORIZATION)
        {
            parts.headers.remove(header::AUTHORIZATION);
            parts.headers.remove(header::PROXY_AUTHORIZATION);
        }
        // What is left is what the guest says.
        self.exchange(credentials, parts, &mut used).await?;
        parts.headers.extend(headers);
        if used.values.is_empty() {
            return Ok(Applied::default());
        }
        prepare_for_redaction(parts);
        let redactor = Some(Redactor::new(used.sought, &self.searches)?);
        Ok(Applied { secrets: used.values.into_keys().collect(), redactor })
    }

    /// The headers that credentials set.
    async fn headers(
        &self,
        credentials: &[&Credential],
        used: &mut Used,
    ) -> Result<HeaderMap, BrokerError> {
        let mut headers = HeaderMap::new();
        for credential in credentials {
            let name = match &credential.injection {
                Injection::Header { name, .. } => HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_not_a_name| BrokerError::Header { name: name.clone() })?,
                Injection::Bearer { .. } | Injection::Basic { .. } => header::AUTHORIZATION,
                Injection::Placeholder { .. } => continue,
            };
            if headers.contains_key(&name) {
                continue;
            }
            for secret in credential.injection.secrets() {
                self.fetch(secret, used).await?;
            }
            let value = header_value(&credential.injection, name.as_str(), used)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Asks for a value, once per request.
    async fn fetch(&self, name: &SecretName, used: &mut Used) -> Result<(), BrokerError> {
        if used.values.contains_key(name) {
            return Ok(());
        }
        let value = self.source.secret(&self.sandbox, name).await;
        let value = value.map_err(|source| BrokerError::Secret { name: name.clone(), source })?;
        if value.expose().len() > VALUE_MAX {
            return Err(BrokerError::Value { name: name.clone() });
        }
        used.add(name.clone(), value);
        Ok(())
    }

    /// Exchanges the tokens in headers; a token that no credential takes is an error.
    async fn exchange(
        &self,
        credentials: &[&Credential],
        parts: &mut Parts,
        used: &mut Used,
    ) -> Result<(), BrokerError> {
        if tokens::is_in_target(parts) {
            return Err(BrokerError::TokenMisplaced);
        }
        let found = tokens::in_headers(&parts.headers);
        if found.len() > TOKENS_MAX {
            return Err(BrokerError::TooManyTokens);
        }
        let taken: Vec<&SecretName> = credentials
            .iter()
            .filter_map(|credential| match &credential.injection {
                Injection::Placeholder { secret } => Some(secret),
                Injection::Header { .. } | Injection::Bearer { .. } | Injection::Basic { .. } => {
                    None
                }
            })
            .collect();
        let stored = !found.is_empty() && tokens::is_where_servers_store(&parts.headers);
        if stored || (taken.is_empty() && !found.is_empty()) {
            return Err(BrokerError::TokenMisplaced);
        }
        let mut exchanged = tokens::Exchanged::default();
        for token in found {
            let answer = self.source.token(&self.sandbox, token.expose()).await;
            let (name, value) = answer.map_err(BrokerError::Token)?;
            if !taken.contains(&&name) {
                return Err(BrokerError::TokenMisplaced);
            }
            if value.expose().len() > VALUE_MAX {
                return Err(BrokerError::Value { name });
            }
            exchanged.add(token, name.clone(), value.clone());
            used.add(name, value);
        }
        // What the guest wrote beside a token in a basic credential is not looked for: it would be
        // another search for each request, as large as the guest likes.
        exchanged.write(&mut parts.headers)
    }
}

/// The value of a header that a credential sets; the values of its secrets are there.
fn header_value(
    injection: &Injection,
    header: &str,
    used: &mut Used,
) -> Result<HeaderValue, BrokerError> {
    let mut text = Zeroizing::new(Vec::with_capacity(VALUE_MAX));
    let value = |name: &SecretName| used.values.get(name).map_or(&[][..], SecretValue::expose);
    match injection {
        Injection::Header { value: template, .. } => {
            for part in template.parts() {
                match part {
                    TemplatePart::Text(plain) => text.extend_from_slice(plain.as_bytes()),
                    TemplatePart::Secret(name) => text.extend_from_slice(value(name)),
                }
            }
        }
        Injection::Bearer { secret } => {
            text.extend_from_slice(b"Bearer ");
            text.extend_from_slice(value(secret));
        }
        Injection::Basic { username, secret } => {
            let mut pair = Zeroizing::new(Vec::with_capacity(VALUE_MAX));
            pair.extend_from_slice(username.as_bytes());
            pair.push(b':');
            pair.extend_from_slice(value(secret));
            tokens::write_basic(&pair, &mut text);
            used.sought.push(pair);
        }
        Injection::Placeholder { .. } => {}
    }
    let secret = injection.secrets().first().map(|name| (*name).clone());
    sensitive(&text).ok_or_else(|| match secret {
        Some(name) => BrokerError::Value { name },
        None => BrokerError::Header { name: header.to_owned() },
    })
}

/// Removes the field of that name, and those that servers take for it which hand fields on as
/// variables: `-` and `_` are one there (RFC 3875, section 4.1.18).
fn remove_alike(headers: &mut HeaderMap, name: &HeaderName) {
    let variable = |name: &HeaderName| name.as_str().replace('-', "_");
    let alike: Vec<HeaderName> =
        headers.keys().filter(|other| variable(other) == variable(name)).cloned().collect();
    for name in alike {
        headers.remove(name);
    }
}

/// A header's value that no table of compressed headers keeps; `None` where a header cannot carry
/// it.
fn sensitive(text: &[u8]) -> Option<HeaderValue> {
    let fits = text.len() <= VALUE_MAX.saturating_mul(2);
    let mut value = fits.then(|| HeaderValue::from_bytes(text).ok()).flatten()?;
    value.set_sensitive(true);
    Some(value)
}

/// Takes out of a request whatever could bring its answer back in a form, or in pieces, in which a
/// value is not found.
fn prepare_for_redaction(parts: &mut Parts) {
    parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    // A piece of an answer could begin or end within a value.
    parts.headers.remove(header::RANGE);
    parts.headers.remove(header::IF_RANGE);
    parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

#[cfg(test)]
mod tests;
