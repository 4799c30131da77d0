//! What is sealed of a sandbox, and which secrets its policy refers to.

use courier_types::egress::SecretName;
use courier_types::{ProjectId, SandboxId};

use crate::row::{Columns, to_json};
use crate::{Sealed, Store, StoreError};

/// A sandbox's claim to secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretClaims {
    /// Whose secrets.
    pub project_id: ProjectId,
    /// Those that its policy refers to.
    pub secret_names: Vec<SecretName>,
}

impl Store {
    /// What is sealed of a sandbox that has not ended.
    ///
    /// # Errors
    /// The database refused.
    pub async fn find_sealed(&self, id: &SandboxId) -> Result<Option<Sealed>, StoreError> {
        let row = sqlx::query("SELECT id, sealed FROM sandboxes WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Columns::new("sandbox", &row)?.text_or_none("sealed")?.map(Sealed::new))
    }

    /// Replaces what is sealed of a living sandbox, and with it the secrets that its policy refers
    /// to. False where it does not live.
    ///
    /// # Errors
    /// The database refused.
    pub async fn replace_sealed(
        &self,
        id: &SandboxId,
        sealed: &Sealed,
        secret_names: &[SecretName],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE sandboxes SET sealed = $2, secret_names = $3 \
             WHERE id = $1 AND desired = 'running' AND ended_at IS NULL",
        )
        .bind(id.as_str())
        .bind(sealed.as_str())
        .bind(to_json(&secret_names))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Which secrets a sandbox may use now, be it a client's or that of a build's steps; none where
    /// it does not live.
    ///
    /// # Errors
    /// The database refused.
    pub async fn secret_claims(&self, id: &SandboxId) -> Result<Option<SecretClaims>, StoreError> {
        let row = sqlx::query(
            "SELECT id, project_id, secret_names FROM sandboxes \
             WHERE id = $1 AND desired = 'running' AND ended_at IS NULL \
             UNION ALL SELECT sandbox_id AS id, project_id, secret_names FROM builds \
             WHERE sandbox_id = $1 AND state = 'building'",
        )
        .bind(id.as_str())
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::new("sandbox", &row)?;
        Ok(Some(SecretClaims {
            project_id: columns.parsed("project_id")?,
            secret_names: columns.json("secret_names")?,
        }))
    }
}
