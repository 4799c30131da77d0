//! Tokens that guests hold in place of secrets, by their hashes.

use std::fmt;

use courier_types::egress::SecretName;
use courier_types::{SandboxId, SecretId, Timestamp};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::secrets::{secret_columns, secret_of};
use crate::{SecretRow, Store, StoreError};

/// SHA-256 of a token. A lookup by it takes no time that depends on how much of a guessed token is
/// right.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash(String);

impl TokenHash {
    /// From the digest of the whole token.
    #[must_use]
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A token that a sandbox is made with.
#[derive(Debug, Clone)]
pub struct NewGuestToken {
    /// Its hash.
    pub hash: TokenHash,
    /// What it stands for.
    pub secret: SecretId,
    /// When it ends, where its sandbox lives that long.
    pub expires_at: Timestamp,
}

/// A token that counts now.
#[derive(Debug, Clone)]
pub struct LiveGuestToken {
    /// The sandbox that holds it, which is alive.
    pub sandbox: SandboxId,
    /// The secret that it stands for.
    pub secret: SecretRow,
    /// The secrets that the sandbox's policy refers to.
    pub secret_names: Vec<SecretName>,
    /// When it ends.
    pub expires_at: Timestamp,
}

const LIVE: &str = concat!(
    "SELECT t.sandbox_id, t.expires_at, b.secret_names, ",
    secret_columns!(),
    " FROM guest_tokens t JOIN sandboxes b ON b.id = t.sandbox_id \
     JOIN secrets s ON s.id = t.secret_id AND s.project_id = b.project_id \
     WHERE t.token_hash = $1 AND t.expires_at > $2 \
     AND b.desired = 'running' AND b.ended_at IS NULL"
);

impl Store {
    /// The token of a hash, where token, sandbox and secret live now.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_guest_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<LiveGuestToken>, StoreError> {
        let row = sqlx::query(LIVE)
            .bind(&hash.0)
            .bind(now.as_micros())
            .fetch_optional(&self.reader)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let secret = secret_of(&row)?;
        let corrupt = |column, source: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::Corrupt { table: "guest token", column, id: secret.id.to_string(), source }
        };
        let sandbox: String = row.try_get("sandbox_id")?;
        let sandbox = sandbox
            .parse()
            .map_err(|source: courier_types::IdError| corrupt("sandbox_id", source.into()))?;
        let names: String = row.try_get("secret_names")?;
        let secret_names = serde_json::from_str(&names)
            .map_err(|source| corrupt("secret_names", source.into()))?;
        let expires_at = Timestamp::from_micros(row.try_get("expires_at")?);
        Ok(Some(LiveGuestToken { sandbox, secret, secret_names, expires_at }))
    }
}

/// Writes down the tokens of a sandbox that is about to be made. A secret that has gone meanwhile
/// refuses it.
pub(crate) async fn insert(
    transaction: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
    tokens: &[NewGuestToken],
) -> Result<(), StoreError> {
    for token in tokens {
        let done = sqlx::query(
            "INSERT INTO guest_tokens (token_hash, sandbox_id, secret_id, expires_at) \
             SELECT $1, b.id, s.id, $4 FROM sandboxes b \
             JOIN secrets s ON s.project_id = b.project_id WHERE b.id = $2 AND s.id = $3",
        )
        .bind(&token.hash.0)
        .bind(sandbox.as_str())
        .bind(token.secret.as_str())
        .bind(token.expires_at.as_micros())
        .execute(&mut **transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NoSecret { id: token.secret.clone() });
        }
    }
    Ok(())
}

/// Forgets the tokens of a sandbox.
pub(crate) async fn forget(
    transaction: &mut Transaction<'static, Sqlite>,
    sandbox: &SandboxId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM guest_tokens WHERE sandbox_id = $1")
        .bind(sandbox.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
