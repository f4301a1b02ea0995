//! Data keys that end with a KEK version that is lost, and their marks.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::column::Columns;
use crate::domain::{DataKeyId, KekId, TenantName};
use crate::keys::LostDataKey;
use crate::store::Error;

/// Removes each and marks it. One that is not there under its KEK version any more: [`sqlx::Error::RowNotFound`].
pub(super) async fn write(lost: &[LostDataKey], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for mark in lost {
        let done = sqlx::query(
            "DELETE FROM data_keys WHERE tenant = ? AND data_key_id = ? AND kek_id = ? AND kek_version = ?",
        )
        .bind(mark.tenant.as_str())
        .bind(&mark.data_key_id.as_bytes()[..])
        .bind(&mark.kek_id.as_bytes()[..])
        .bind(mark.kek_version)
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() != 1 {
            return Err(sqlx::Error::RowNotFound);
        }
        sqlx::query(
            "INSERT INTO lost_data_keys (tenant, data_key_id, kek_id, kek_version, mac) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(mark.tenant.as_str())
        .bind(&mark.data_key_id.as_bytes()[..])
        .bind(&mark.kek_id.as_bytes()[..])
        .bind(mark.kek_version)
        .bind(&mark.mac[..])
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

impl SqliteStore {
    /// The mark of a data key.
    pub(in crate::store) async fn lost_data_key(
        &self,
        id: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<LostDataKey>, Error> {
        let row = sqlx::query("SELECT * FROM lost_data_keys WHERE tenant = ? AND data_key_id = ?")
            .bind(tenant.as_str())
            .bind(&id.as_bytes()[..])
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        let Some(row) = &row else { return Ok(None) };
        let columns = Columns::of("lost_data_keys", row);
        Ok(Some(LostDataKey {
            tenant: tenant.clone(),
            data_key_id: id,
            kek_id: columns.id("kek_id", KekId::from_bytes)?,
            kek_version: columns.number("kek_version")?,
            mac: columns.bytes("mac")?,
        }))
    }
}
