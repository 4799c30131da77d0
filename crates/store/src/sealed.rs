//! What only the server can open, and the check that its key is the right one.

use std::fmt;

use crate::{Store, StoreError};

/// Text that the server has encrypted. The store keeps it and knows nothing of what is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(String);

impl Sealed {
    /// Wraps what the server has encrypted.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The encrypted text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// The one row of the key's check.
const CHECK: &str = "1";

impl Store {
    /// What was sealed when the database got its key; none where it never had one.
    ///
    /// # Errors
    /// The database refused.
    pub async fn key_check(&self) -> Result<Option<Sealed>, StoreError> {
        let row = sqlx::query("SELECT sealed FROM key_check WHERE id = $1")
            .bind(CHECK)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.map(|row| sqlx::Row::try_get(&row, "sealed")).transpose()?.map(Sealed))
    }

    /// Writes the key's check down; the first one stays.
    ///
    /// # Errors
    /// The database refused.
    pub async fn insert_key_check(&self, sealed: &Sealed) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO key_check (id, sealed) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(CHECK)
        .bind(&sealed.0)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}
