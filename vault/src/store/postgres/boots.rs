//! Boots that may write: the row that every batch of a boot holds.

use super::PostgresStore;
use crate::domain::{BootId, TenantName};
use crate::store::Error;

impl PostgresStore {
    /// Lets a boot write.
    pub(in crate::store) async fn open_boot(&self, boot: BootId) -> Result<(), Error> {
        super::writing!(self, |connection| {
            sqlx::query("INSERT INTO open_boots (tenant, boot) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .execute(connection)
                .await?;
            Ok(())
        })
    }

    /// Lets it write no more. Waits for the batch that holds the row; a transaction of its own, so that nobody waits for it.
    pub(in crate::store) async fn close_boot(&self, boot: BootId) -> Result<(), Error> {
        super::writing!(self, |connection| {
            sqlx::query("DELETE FROM open_boots WHERE tenant = $1 AND boot = $2")
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .execute(connection)
                .await?;
            Ok(())
        })
    }

    /// Whether it may write.
    pub(in crate::store) async fn is_open(&self, boot: BootId) -> Result<bool, Error> {
        super::reading!(self, |connection| {
            let found = sqlx::query("SELECT 1 FROM open_boots WHERE tenant = $1 AND boot = $2")
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .fetch_optional(connection)
                .await?;
            Ok(found.is_some())
        })
    }
}
