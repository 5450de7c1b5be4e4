//! From rows to values. A row that does not read back is [`StoreError::Corrupt`], never a panic: the file may have been
//! changed by other hands.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::StoreError;
use super::transitions::Lifecycle;

/// Reads columns of one row of a kind of thing.
#[derive(Clone, Copy)]
pub(super) struct Columns<'r> {
    what: &'static str,
    row: &'r SqliteRow,
}

impl<'r> Columns<'r> {
    pub(super) fn of(what: &'static str, row: &'r SqliteRow) -> Self {
        Self { what, row }
    }

    fn corrupt(&self, column: &str, detail: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { what: self.what, detail: format!("column `{column}`: {detail}") }
    }

    /// A column as the database has it.
    pub(super) fn plain<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|error| self.corrupt(column, error))
    }

    /// A number that is never negative.
    pub(super) fn count<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        let number: i64 = self.plain(column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, format_args!("`{number}` is out of range")))
    }

    /// A checked text: an id, a repository's name.
    pub(super) fn text<T: TryFrom<String, Error: std::fmt::Display>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.plain(column)?).map_err(|error| self.corrupt(column, error))
    }

    /// A checked text that may be absent.
    pub(super) fn optional_text<T: TryFrom<String, Error: std::fmt::Display>>(
        &self, column: &str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.plain(column)?;
        text.map(T::try_from).transpose().map_err(|error| self.corrupt(column, error))
    }

    /// A state.
    pub(super) fn state<S: Lifecycle>(&self, column: &str) -> Result<S, StoreError> {
        let word: String = self.plain(column)?;
        S::parse(&word).ok_or_else(|| self.corrupt(column, format_args!("`{word}` is not a state")))
    }

    /// A structured value.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let text: &str = self.plain(column)?;
        serde_json::from_str(text).map_err(|error| self.corrupt(column, error))
    }

    /// A structured value that may be absent.
    pub(super) fn optional_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.plain(column)?;
        text.map(serde_json::from_str).transpose().map_err(|error| self.corrupt(column, error))
    }
}

/// A structured value as the store writes it.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the store's values have text keys and cannot fail to serialize")
}

/// An unsigned number as the database knows it; numbers beyond its range (which nothing here reaches) become its largest.
pub(super) fn to_bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
