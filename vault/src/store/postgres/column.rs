//! Columns to words of the domain and back. What does not read back is [`Error::Unreadable`], never a panic.

use sqlx::postgres::PgRow;
use sqlx::{ColumnIndex, Row};

use crate::domain::Timestamp;
use crate::store::Error;
use crate::store::batch::Newest;

/// A row with the name of its table, for errors.
pub(super) struct Columns<'r> {
    row: &'r PgRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) const fn of(table: &'static str, row: &'r PgRow) -> Self {
        Self { row, table }
    }

    pub(super) const fn unreadable(&self) -> Error {
        Error::Unreadable(self.table)
    }

    /// A column as sqlx reads it.
    pub(super) fn get<T, I>(&self, index: I) -> Result<T, Error>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
        I: ColumnIndex<PgRow>,
    {
        self.row.try_get(index).map_err(|_| self.unreadable())
    }

    /// A text that is a name, a kind or a class.
    pub(super) fn word<T: std::str::FromStr>(&self, index: &str) -> Result<T, Error> {
        self.get::<&str, _>(index)?.parse().map_err(|_| self.unreadable())
    }

    /// Sixteen bytes that are an id.
    pub(super) fn id<T>(&self, index: &str, read: impl Fn([u8; 16]) -> T) -> Result<T, Error> {
        Ok(read(self.bytes(index)?))
    }

    /// The same, or nothing.
    pub(super) fn id_or_none<T>(&self, index: &str, read: impl Fn([u8; 16]) -> T) -> Result<Option<T>, Error> {
        let bytes: Option<&[u8]> = self.get(index)?;
        bytes.map(|bytes| bytes.try_into().map(&read).map_err(|_| self.unreadable())).transpose()
    }

    /// So many bytes.
    pub(super) fn bytes<const N: usize>(&self, index: &str) -> Result<[u8; N], Error> {
        self.get::<&[u8], _>(index)?.try_into().map_err(|_| self.unreadable())
    }

    /// So many bytes, or nothing.
    pub(super) fn bytes_or_none<const N: usize>(&self, index: &str) -> Result<Option<[u8; N]>, Error> {
        let bytes: Option<&[u8]> = self.get(index)?;
        bytes.map(|bytes| bytes.try_into().map_err(|_| self.unreadable())).transpose()
    }

    /// A number that is not negative and fits.
    pub(super) fn number<T: TryFrom<i64>>(&self, index: &str) -> Result<T, Error> {
        T::try_from(self.get::<i64, _>(index)?).map_err(|_| self.unreadable())
    }

    /// The same, or nothing.
    pub(super) fn number_or_none<T: TryFrom<i64>>(&self, index: &str) -> Result<Option<T>, Error> {
        let number: Option<i64> = self.get(index)?;
        number.map(|number| T::try_from(number).map_err(|_| self.unreadable())).transpose()
    }

    /// The newest entry, beside the column it was found by.
    pub(super) fn newest(&self) -> Result<Option<Newest>, Error> {
        let (leaf, version) = (self.get::<Option<Vec<u8>>, _>("newest")?, self.number_or_none("newest_version")?);
        Ok(leaf.zip(version).map(|(leaf, version)| Newest { leaf, version }))
    }

    /// A moment.
    pub(super) fn time(&self, index: &str) -> Result<Timestamp, Error> {
        self.number(index).map(Timestamp::from_millis)
    }

    /// A moment, or nothing.
    pub(super) fn time_or_none(&self, index: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.number_or_none(index)?.map(Timestamp::from_millis))
    }
}

/// A number as PostgreSQL holds it. What we count (times in ms, versions, positions) stays far below 2^63.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A moment as PostgreSQL holds it.
pub(super) fn millis(time: Timestamp) -> i64 {
    int(time.as_millis())
}

/// One column of many rows, as an array for `unnest` or `ANY`.
pub(super) fn column<'r, R, T>(rows: &'r [R], read: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(read).collect()
}
