//! Boots that may write: the row that every batch of a boot looks for.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::column::Columns;
use crate::domain::{BootId, Clock, TenantName};
use crate::store::Error;

impl SqliteStore {
    /// Lets a boot write.
    pub(in crate::store) async fn open_boot(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "INSERT INTO open_boots (tenant, boot) VALUES (?, ?) ON CONFLICT DO NOTHING").await
    }

    /// Lets it write no more.
    pub(in crate::store) async fn close_boot(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "DELETE FROM open_boots WHERE tenant = ? AND boot = ?").await
    }

    /// Notes that somebody begins to close it.
    pub(in crate::store) async fn note_closing(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "INSERT INTO closing_boots (tenant, boot) VALUES (?, ?) ON CONFLICT DO NOTHING").await
    }

    /// Its end is written.
    pub(in crate::store) async fn forget_closing(&self, boot: BootId) -> Result<(), Error> {
        self.change(boot, "DELETE FROM closing_boots WHERE tenant = ? AND boot = ?").await
    }

    /// Those that may write; a row that does not read is one fault among them.
    pub(in crate::store) async fn open_boots(&self) -> Result<Vec<Result<BootId, Error>>, Error> {
        self.boots("open_boots", "SELECT boot FROM open_boots WHERE tenant = ? ORDER BY boot").await
    }

    /// Those that somebody began to close, likewise.
    pub(in crate::store) async fn closing_boots(&self) -> Result<Vec<Result<BootId, Error>>, Error> {
        self.boots("closing_boots", "SELECT boot FROM closing_boots WHERE tenant = ? ORDER BY boot").await
    }

    async fn boots(&self, table: &'static str, text: &'static str) -> Result<Vec<Result<BootId, Error>>, Error> {
        let rows = sqlx::query(text).bind(TenantName::SYSTEM).fetch_all(&mut *self.reader().await?).await?;
        Ok(rows.iter().map(|row| Columns::of(table, row).id("boot", BootId::from_bytes)).collect())
    }

    /// Whether it may write. The machine's clock is the only one there is.
    pub(in crate::store) async fn is_open(&self, boot: BootId, _clock: &Clock) -> Result<bool, Error> {
        is_open(boot, &mut *self.reader().await?).await
    }

    async fn change(&self, boot: BootId, text: &'static str) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let changed = sqlx::query(text)
            .bind(TenantName::SYSTEM)
            .bind(&boot.as_bytes()[..])
            .execute(&mut *batch.transaction)
            .await;
        let done = batch.finish(changed.map(|_| ()).map_err(Error::Database)).await;
        writer.settle(done).await
    }
}

/// Whether a boot may write. In a batch's transaction it stays so until the transaction ends: there is one writer.
pub(super) async fn is_open(boot: BootId, connection: &mut SqliteConnection) -> Result<bool, Error> {
    let found = sqlx::query("SELECT 1 FROM open_boots WHERE tenant = ? AND boot = ?")
        .bind(TenantName::SYSTEM)
        .bind(&boot.as_bytes()[..])
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}
