//! Decoding of columns into domain types. What the store wrote parses; what does not is corrupt, and
//! says which row.

use courier_types::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;

/// One row, with what its errors say.
pub(crate) struct Columns<'a> {
    pub(crate) table: &'static str,
    pub(crate) id: String,
    pub(crate) row: &'a SqliteRow,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(table: &'static str, row: &'a SqliteRow) -> Result<Self, StoreError> {
        Ok(Self { table, id: row.try_get("id")?, row })
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn text_or_none(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.text(column)?.parse().map_err(|source| self.corrupt(column, source))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|source| self.corrupt(column, source))
    }

    pub(crate) fn json_or_none<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.text_or_none(column)?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|source| self.corrupt(column, source))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_micros(self.row.try_get(column)?))
    }

    pub(crate) fn time_or_none(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let micros: Option<i64> = self.row.try_get(column)?;
        Ok(micros.map(Timestamp::from_micros))
    }

    pub(crate) fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        let number: i64 = self.row.try_get(column)?;
        u64::try_from(number).map_err(|source| self.corrupt(column, source))
    }

    pub(crate) fn count_or_none(&self, column: &'static str) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = self.row.try_get(column)?;
        number.map(u64::try_from).transpose().map_err(|source| self.corrupt(column, source))
    }

    pub(crate) fn corrupt(
        &self,
        column: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            column,
            id: self.id.clone(),
            source: source.into(),
        }
    }
}

/// JSON of our own types: maps with text keys and plain structs.
pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("maps with text keys and plain structs are JSON")
}

/// A count as SQL has it; what does not fit is at the end anyway.
pub(crate) fn to_bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
