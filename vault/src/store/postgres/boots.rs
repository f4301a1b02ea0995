//! Boots that may write: the row that every batch of a boot holds.

use super::PostgresStore;
use super::column::Columns;
use crate::domain::{BootId, Clock, TenantName};
use crate::store::Error;

impl PostgresStore {
    /// Lets a boot write.
    pub(in crate::store) async fn open_boot(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "INSERT INTO open_boots (tenant, boot) VALUES ($1, $2) ON CONFLICT DO NOTHING").await
    }

    /// Lets it write no more. Waits for the batch that holds the row; a transaction of its own, so that nobody waits for it.
    pub(in crate::store) async fn close_boot(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "DELETE FROM open_boots WHERE tenant = $1 AND boot = $2").await
    }

    /// Notes that somebody begins to close it.
    pub(in crate::store) async fn note_closing(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "INSERT INTO closing_boots (tenant, boot) VALUES ($1, $2) ON CONFLICT DO NOTHING").await
    }

    /// Its end is written.
    pub(in crate::store) async fn forget_closing(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "DELETE FROM closing_boots WHERE tenant = $1 AND boot = $2").await
    }

    /// Those that may write; a row that does not read is one fault among them.
    pub(in crate::store) async fn open_boots(&self) -> Result<Vec<Result<BootId, Error>>, Error> {
        self.boots("open_boots", "SELECT boot FROM open_boots WHERE tenant = $1 ORDER BY boot").await
    }

    /// Those that somebody began to close, likewise.
    pub(in crate::store) async fn closing_boots(&self) -> Result<Vec<Result<BootId, Error>>, Error> {
        self.boots("closing_boots", "SELECT boot FROM closing_boots WHERE tenant = $1 ORDER BY boot").await
    }

    async fn boots(&self, table: &'static str, text: &'static str) -> Result<Vec<Result<BootId, Error>>, Error> {
        super::reading!(self.vital, |connection| {
            let rows = sqlx::query(text).bind(TenantName::SYSTEM).fetch_all(connection).await?;
            Ok(rows.iter().map(|row| Columns::of(table, row).id("boot", BootId::from_bytes)).collect())
        })
    }

    async fn change(&self, boot: BootId, text: &'static str) -> Result<(), Error> {
        super::writing!(self, |connection| {
            sqlx::query(text).bind(TenantName::SYSTEM).bind(&boot.as_bytes()[..]).execute(connection).await?;
            Ok(())
        })
    }

    /// Whether it may write; with the server's time.
    pub(in crate::store) async fn is_open(&self, boot: BootId, clock: &Clock) -> Result<bool, Error> {
        super::reading!(self.vital, |connection| {
            let row = sqlx::query(
                "SELECT EXISTS (SELECT 1 FROM open_boots WHERE tenant = $1 AND boot = $2) AS is_open, \
                 (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now",
            )
            .bind(TenantName::SYSTEM)
            .bind(&boot.as_bytes()[..])
            .fetch_one(connection)
            .await?;
            let columns = Columns::of("open_boots", &row);
            let _ = clock.by_database(columns.time("now")?);
            columns.get::<bool, _>("is_open")
        })
    }
}
