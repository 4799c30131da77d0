//! Where the values of secrets come from: the server, asked at each use.

use async_trait::async_trait;
use courier_types::SandboxId;
use courier_types::egress::{SecretName, SecretValue};

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such secret, or not for this sandbox, or no longer.
    #[error("secret {name} is not there for this sandbox")]
    NoSecret {
        /// The name.
        name: SecretName,
    },
    /// The token is unknown, of another sandbox, or has expired.
    #[error("the token is not valid here")]
    NoToken,
    /// The server could not be asked.
    #[error("the server does not give the value")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gives the values of secrets, one use at a time: nobody keeps them, so that a rotation, a
/// deletion and the end of a sandbox count from the next use on.
#[async_trait]
pub trait CredentialSource: Send + Sync + std::fmt::Debug + 'static {
    /// The value of a secret of the sandbox's project, while the sandbox is alive.
    async fn secret(
        &self,
        sandbox: &SandboxId,
        name: &SecretName,
    ) -> Result<SecretValue, SourceError>;

    /// What a token that the guest holds stands for, while sandbox, token and secret live.
    async fn token(
        &self,
        sandbox: &SandboxId,
        token: &str,
    ) -> Result<(SecretName, SecretValue), SourceError>;
}
