//! Environments with tokens in them.

use std::collections::BTreeMap;
use std::time::Duration;

use courier_protocol::v1::{EnvSecret, EnvValue, TOKEN_TTL_SECS_MAX};
use courier_store::{NewGuestToken, SecretKey, StoreError};
use courier_types::ProjectId;
use courier_types::egress::SecretName;

use super::hash_of;
use crate::app::App;
use crate::http::ApiError;
use crate::{clock, random};

/// How long a token lives when nobody says.
const TTL_SECS: u64 = 3_600;

/// Most tokens of one sandbox: each is looked up and written when it is made.
const TOKENS_MAX: usize = 64;

/// Why an environment is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error("environment variable {variable:?}: there is no secret {name}")]
    NoSecret { variable: String, name: SecretName },
    #[error("environment variable {variable:?}: ttl_seconds must be 1 to {TOKEN_TTL_SECS_MAX}")]
    Ttl { variable: String },
    #[error("the environment has more than {TOKENS_MAX} tokens")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EnvError> for ApiError {
    fn from(error: EnvError) -> Self {
        match error {
            EnvError::NoSecret { .. } | EnvError::Ttl { .. } | EnvError::TooMany => {
                Self::bad_request(error.to_string())
            }
            EnvError::Store(error) => error.into(),
        }
    }
}

/// An environment, and what has to be written down for it.
#[derive(Default)]
pub(crate) struct EnvOrder {
    /// The environment as the sandbox gets it.
    pub(crate) env: BTreeMap<String, String>,
    /// The tokens in it, by their hashes.
    pub(crate) tokens: Vec<NewGuestToken>,
}

impl EnvOrder {
    /// Makes the tokens that an environment asks for.
    pub(crate) async fn new(
        app: &App,
        project: &ProjectId,
        values: BTreeMap<String, EnvValue>,
    ) -> Result<Self, EnvError> {
        let mut order = Self::default();
        for (variable, value) in values {
            let text = match value {
                EnvValue::Text(text) => text,
                EnvValue::Secret(secret) => order.token(app, project, &variable, secret).await?,
            };
            order.env.insert(variable, text);
        }
        Ok(order)
    }

    async fn token(
        &mut self,
        app: &App,
        project: &ProjectId,
        variable: &str,
        asked: EnvSecret,
    ) -> Result<String, EnvError> {
        let variable = || variable.chars().take(64).collect();
        let ttl = asked.ttl_seconds.unwrap_or(TTL_SECS);
        if ttl == 0 || ttl > TOKEN_TTL_SECS_MAX {
            return Err(EnvError::Ttl { variable: variable() });
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(EnvError::TooMany);
        }
        let key = SecretKey::Name(asked.secret.clone());
        let secret = app.store.find_secret(project, &key).await?;
        let secret = secret
            .ok_or_else(|| EnvError::NoSecret { variable: variable(), name: asked.secret })?;
        let token = random::guest_token();
        self.tokens.push(NewGuestToken {
            hash: hash_of(&token),
            secret: secret.id,
            expires_at: clock::now().plus(Duration::from_secs(ttl)),
        });
        Ok(token.expose().to_owned())
    }
}
