//! The server's word on secrets, at each use: is the sandbox alive, does its policy refer to the
//! secret, is the secret there? Nothing is kept between two uses.

use std::sync::Arc;

use async_trait::async_trait;
use courier_protocol::node::{PRESET_SECRETS, Presets, Secrets, SecretsError};
use courier_store::{SecretKey, SecretRow, Store, TokenHash};
use courier_types::SandboxId;
use courier_types::egress::{GuestToken, SecretName, SecretValue};
use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::vault::{Place, UnsealError, Vault};

/// Gives the node the values of stored secrets.
pub struct StoredSecrets {
    store: Store,
    vault: Vault,
    presets: Arc<dyn Presets>,
}

impl std::fmt::Debug for StoredSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSecrets").finish_non_exhaustive()
    }
}

impl StoredSecrets {
    /// Over the server's database, key and presets.
    #[must_use]
    pub fn new(store: Store, vault: Vault, presets: Arc<dyn Presets>) -> Self {
        Self { store, vault, presets }
    }

    fn open(&self, row: &SecretRow) -> Result<SecretValue, SecretsError> {
        unseal_secret(&self.vault, row).map_err(unavailable)
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> SecretsError {
    SecretsError::Unavailable(error.into())
}

/// The value of a stored secret.
fn unseal_secret(vault: &Vault, row: &SecretRow) -> Result<SecretValue, UnsealError> {
    let place = Place::Secret { project: &row.project_id, id: &row.id, version: row.version };
    let mut value = vault.unseal(place, &row.sealed)?;
    Ok(SecretValue::new(std::mem::take(&mut *value)))
}

/// What the store knows a token by.
pub(crate) fn hash_of(token: &GuestToken) -> TokenHash {
    TokenHash::new(Sha256::digest(token.expose().as_bytes()).into())
}

#[async_trait]
impl Secrets for StoredSecrets {
    async fn secret(
        &self,
        sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SecretsError> {
        let none = || SecretsError::NoSecret { name: name.clone() };
        let claims = self.store.secret_claims(sandbox).await.map_err(unavailable)?;
        let claims = claims.filter(|claims| claims.secret_names.contains(name)).ok_or_else(none)?;
        if name.as_str().starts_with(PRESET_SECRETS) {
            return self.presets.secret(name).ok_or_else(none);
        }
        let key = SecretKey::Name(name.clone());
        let row = self.store.find_secret(&claims.project_id, &key).await.map_err(unavailable)?;
        self.open(&row.ok_or_else(none)?)
    }

    async fn token(
        &self,
        sandbox: &SandboxId,
        token: &str,
    ) -> Result<(SecretName, SecretValue), SecretsError> {
        let token: GuestToken = token.parse().map_err(|_no_token| SecretsError::NoToken)?;
        let live = self.store.find_guest_token(&hash_of(&token), clock::now()).await;
        let live = live
            .map_err(unavailable)?
            .filter(|live| {
                live.sandbox == *sandbox && live.secret_names.contains(&live.secret.name)
            })
            .ok_or(SecretsError::NoToken)?;
        let value = self.open(&live.secret)?;
        Ok((live.secret.name, value))
    }
}
