//! Data keys that end with a KEK version that is lost, and their marks.

use sqlx::PgConnection;

use super::PostgresStore;
use super::column::{Columns, column, int};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, TenantName};
use crate::keys::LostDataKey;
use crate::store::Error;

/// Removes them and marks them, those of each tenant together. If one is not there under its KEK version any more:
/// [`sqlx::Error::RowNotFound`].
pub(super) async fn write(lost: &[LostDataKey], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for marks in lost.chunk_by(|one, other| one.tenant == other.tenant) {
        let Some(first) = marks.first() else { continue };
        let ids = column(marks, |mark| &mark.data_key_id.as_bytes()[..]);
        let keks = column(marks, |mark| &mark.kek_id.as_bytes()[..]);
        let versions = column(marks, |mark| i64::from(mark.kek_version));
        let done = sqlx::query(
            "DELETE FROM data_keys AS d USING unnest($2::bytea[], $3::bytea[], $4::bigint[]) AS l(id, kek, version) \
             WHERE d.tenant = $1 AND d.data_key_id = l.id AND d.kek_id = l.kek AND d.kek_version = l.version",
        )
        .bind(first.tenant.as_str())
        .bind(&ids)
        .bind(&keks)
        .bind(&versions)
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() != marks.len() as u64 {
            return Err(sqlx::Error::RowNotFound);
        }
        sqlx::query(
            "INSERT INTO lost_data_keys (tenant, data_key_id, kek_id, kek_version, mac, class, epoch) \
             SELECT $1, l.* FROM unnest($2::bytea[], $3::bytea[], $4::bigint[], $5::bytea[], $6::text[], $7::bigint[]) AS l",
        )
        .bind(first.tenant.as_str())
        .bind(&ids)
        .bind(&keks)
        .bind(&versions)
        .bind(column(marks, |mark| &mark.mac[..]))
        .bind(column(marks, |mark| mark.class.as_str()))
        .bind(column(marks, |mark| int(mark.epoch.0)))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Removes the marks of a class up to an epoch: what their data keys sealed would be gone by now in any case.
pub(super) async fn remove_erased(
    class: DataKeyClass,
    newest: Epoch,
    connection: &mut PgConnection,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM lost_data_keys WHERE class = $1 AND epoch <= $2")
        .bind(class.as_str())
        .bind(int(newest.0))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

impl PostgresStore {
    /// The mark of a data key.
    pub(in crate::store) async fn lost_data_key(
        &self,
        id: DataKeyId,
        tenant: &TenantName,
    ) -> Result<Option<LostDataKey>, Error> {
        super::reading!(self, |connection| mark(id, tenant, connection).await)
    }
}

async fn mark(id: DataKeyId, tenant: &TenantName, connection: &mut PgConnection) -> Result<Option<LostDataKey>, Error> {
    let row = sqlx::query("SELECT * FROM lost_data_keys WHERE tenant = $1 AND data_key_id = $2")
        .bind(tenant.as_str())
        .bind(&id.as_bytes()[..])
        .fetch_optional(connection)
        .await?;
    let Some(row) = &row else { return Ok(None) };
    let columns = Columns::of("lost_data_keys", row);
    Ok(Some(LostDataKey {
        tenant: tenant.clone(),
        data_key_id: id,
        kek_id: columns.id("kek_id", KekId::from_bytes)?,
        kek_version: columns.number("kek_version")?,
        class: columns.word("class")?,
        epoch: Epoch(columns.number("epoch")?),
        mac: columns.bytes("mac")?,
    }))
}
