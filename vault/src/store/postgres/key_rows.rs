//! Records of data keys and capture key pairs.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::column::{Columns, column, int, millis};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, TenantName};
use crate::store::Error;
use crate::store::rows::{CaptureKeyRow, DataKeyRow};

/// Inserts a data key unless its class, epoch, era and part have one; gives the stored one.
pub(super) async fn insert_data_key(row: &DataKeyRow, connection: &mut PgConnection) -> Result<DataKeyRow, Error> {
    sqlx::query(
        "INSERT INTO data_keys (tenant, data_key_id, class, epoch, kek_id, kek_version, mechanism, sealed, created, era, part, closed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
    )
    .bind(row.tenant.as_str())
    .bind(&row.data_key_id.as_bytes()[..])
    .bind(row.class.as_str())
    .bind(int(row.epoch.0))
    .bind(&row.kek_id.as_bytes()[..])
    .bind(i64::from(row.kek_version))
    .bind(&row.mechanism[..])
    .bind(&row.sealed[..])
    .bind(millis(row.created))
    .bind(i64::from(row.era))
    .bind(i64::from(row.part))
    .bind(i64::from(row.closed))
    .execute(&mut *connection)
    .await?;
    let found = find_data_keys(row.class, row.epoch, &row.tenant, connection).await?;
    found.into_iter().find(|stored| (stored.era, stored.part) == (row.era, row.part)).ok_or(Error::Conflict)
}

/// Writes a data key that was wrapped anew: its id, class and epoch stay. One that was retired or erased meanwhile stays gone.
pub(super) async fn replace_data_key(row: &DataKeyRow, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE data_keys SET kek_id = $1, kek_version = $2, mechanism = $3, sealed = $4 WHERE tenant = $5 AND data_key_id = $6",
    )
    .bind(&row.kek_id.as_bytes()[..])
    .bind(i64::from(row.kek_version))
    .bind(&row.mechanism[..])
    .bind(&row.sealed[..])
    .bind(row.tenant.as_str())
    .bind(&row.data_key_id.as_bytes()[..])
    .execute(connection)
    .await
    .map(|_| ())
}

/// The data keys of a class and epoch, the newest first: one, but where a KEK was compromised or one sealed much.
pub(super) async fn find_data_keys(
    class: DataKeyClass,
    epoch: Epoch,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<DataKeyRow>, Error> {
    let rows = sqlx::query(
        "SELECT * FROM data_keys WHERE tenant = $1 AND class = $2 AND epoch = $3 ORDER BY era DESC, part DESC",
    )
    .bind(tenant.as_str())
    .bind(class.as_str())
    .bind(int(epoch.0))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| data_key(row, tenant)).collect()
}

/// The data key of an id.
pub(super) async fn load_data_key(
    id: DataKeyId,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Option<DataKeyRow>, Error> {
    let row = sqlx::query("SELECT * FROM data_keys WHERE tenant = $1 AND data_key_id = $2")
        .bind(tenant.as_str())
        .bind(&id.as_bytes()[..])
        .fetch_optional(connection)
        .await?;
    row.map(|row| data_key(&row, tenant)).transpose()
}

/// Up to `limit` data keys of a tenant with ids after `after`, in the order of ids: none only if there is none. One that does
/// not read keeps no other from being wrapped or sealed anew; the count at the end still finds it.
pub(super) async fn data_keys_after(
    after: Option<DataKeyId>,
    limit: u32,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<DataKeyRow>, Error> {
    let mut after = after.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
    loop {
        let rows =
            sqlx::query("SELECT * FROM data_keys WHERE tenant = $1 AND data_key_id > $2 ORDER BY data_key_id LIMIT $3")
                .bind(tenant.as_str())
                .bind(&after[..])
                .bind(i64::from(limit))
                .fetch_all(&mut *connection)
                .await?;
        let Some(last) = rows.last() else { return Ok(Vec::new()) };
        after = Columns::of("data_keys", last).get("data_key_id")?;
        let read: Vec<DataKeyRow> = rows.iter().filter_map(|row| data_key(row, tenant).ok()).collect();
        if read.len() < rows.len() {
            tracing::error!(%tenant, rows = rows.len() - read.len(), "data keys cannot be read; what they seal stays as it is");
        }
        if !read.is_empty() {
            return Ok(read);
        }
    }
}

/// How many data keys of a tenant are wrapped under another KEK version than this.
pub(super) async fn data_keys_elsewhere(
    kek_id: KekId,
    version: u32,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<u64, Error> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM data_keys WHERE tenant = $1 AND (kek_id <> $2 OR kek_version <> $3)")
            .bind(tenant.as_str())
            .bind(&kek_id.as_bytes()[..])
            .bind(i64::from(version))
            .fetch_one(connection)
            .await?;
    Ok(count.unsigned_abs())
}

/// How many data keys of a tenant each of its KEK versions wraps.
pub(super) async fn data_keys_by_kek(
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<(KekId, u32, u64)>, Error> {
    let rows = sqlx::query(
        "SELECT kek_id, kek_version, count(*) AS data_keys FROM data_keys WHERE tenant = $1 GROUP BY kek_id, kek_version",
    )
    .bind(tenant.as_str())
    .fetch_all(connection)
    .await?;
    let line = |row| {
        let columns = Columns::of("data_keys", row);
        Ok((columns.id("kek_id", KekId::from_bytes)?, columns.number("kek_version")?, columns.number("data_keys")?))
    };
    rows.iter().map(line).collect()
}

/// How many values of a tenant there are, counted up to `most`.
pub(super) async fn count_values(most: u64, tenant: &TenantName, connection: &mut PgConnection) -> Result<u64, Error> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM secure_values WHERE tenant = $1 LIMIT $2) AS counted")
            .bind(tenant.as_str())
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_one(connection)
            .await?;
    Ok(count.unsigned_abs())
}

/// Which of these data keys are there, and whether each is open: so they stay until the transaction ends.
pub(super) async fn hold_data_keys(
    ids: &[DataKeyId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<(DataKeyId, bool)>, Error> {
    let rows = sqlx::query(
        "SELECT data_key_id, closed FROM data_keys WHERE tenant = $1 AND data_key_id = ANY($2) ORDER BY data_key_id FOR KEY SHARE",
    )
    .bind(tenant.as_str())
    .bind(column(ids, |id| &id.as_bytes()[..]))
    .fetch_all(connection)
    .await?;
    let held = |row| {
        let columns = Columns::of("data_keys", row);
        Ok((columns.id("data_key_id", DataKeyId::from_bytes)?, columns.number::<u64>("closed")? == 0))
    };
    rows.iter().map(held).collect()
}

/// Closes data keys: first it waits for every batch that holds one of them. Changing a row alone would not wait, for it leaves the
/// row's key as it is.
pub(super) async fn close_data_keys(
    ids: &[DataKeyId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    for text in [
        "SELECT 1 FROM data_keys WHERE tenant = $1 AND data_key_id = ANY($2) ORDER BY data_key_id FOR UPDATE",
        "UPDATE data_keys SET closed = 1 WHERE tenant = $1 AND data_key_id = ANY($2)",
    ] {
        let ids = column(ids, |id| &id.as_bytes()[..]);
        sqlx::query(text).bind(tenant.as_str()).bind(ids).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Removes a data key that is closed. If it is not there or not closed: [`sqlx::Error::RowNotFound`].
pub(super) async fn retire_data_key(
    id: DataKeyId,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let done = sqlx::query("DELETE FROM data_keys WHERE tenant = $1 AND data_key_id = $2 AND closed = 1")
        .bind(tenant.as_str())
        .bind(&id.as_bytes()[..])
        .execute(connection)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Removes a data key that no longer opens because its erasure key is gone.
pub(super) async fn remove_data_key(
    id: DataKeyId,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM data_keys WHERE tenant = $1 AND data_key_id = $2")
        .bind(tenant.as_str())
        .bind(&id.as_bytes()[..])
        .execute(connection)
        .await
        .map(|_| ())
}

fn data_key(row: &PgRow, tenant: &TenantName) -> Result<DataKeyRow, Error> {
    let columns = Columns::of("data_keys", row);
    Ok(DataKeyRow {
        tenant: tenant.clone(),
        data_key_id: columns.id("data_key_id", DataKeyId::from_bytes)?,
        class: columns.word("class")?,
        epoch: Epoch(columns.number("epoch")?),
        kek_id: columns.id("kek_id", KekId::from_bytes)?,
        kek_version: columns.number("kek_version")?,
        mechanism: columns.get("mechanism")?,
        sealed: columns.get("sealed")?,
        created: columns.time("created")?,
        era: columns.number("era")?,
        part: columns.number("part")?,
        closed: columns.number::<u64>("closed")? != 0,
    })
}

/// Removes the data keys of a class up to an epoch: what they sealed is gone with its erasure key.
pub(super) async fn remove_erased_data_keys(
    class: DataKeyClass,
    newest: Epoch,
    connection: &mut PgConnection,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("DELETE FROM data_keys WHERE class = $1 AND epoch <= $2")
        .bind(class.as_str())
        .bind(int(newest.0))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Inserts a capture key pair unless its day has one.
pub(super) async fn insert_capture_key(row: &CaptureKeyRow, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO capture_keys (tenant, key_id, epoch, data_key_id, sealed, created) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT DO NOTHING",
    )
    .bind(row.tenant.as_str())
    .bind(&row.key_id[..])
    .bind(int(row.epoch.0))
    .bind(&row.data_key_id.as_bytes()[..])
    .bind(&row.sealed[..])
    .bind(millis(row.created))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Inserts a capture key pair unless its data key sealed one already; gives the stored one.
pub(super) async fn stored_capture_key(
    row: &CaptureKeyRow,
    connection: &mut PgConnection,
) -> Result<CaptureKeyRow, Error> {
    insert_capture_key(row, connection).await?;
    capture_key_under(row.data_key_id, &row.tenant, connection).await?.ok_or(Error::Conflict)
}

/// The capture key pair of an id.
pub(super) async fn capture_key(
    key_id: &[u8; 16],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Option<CaptureKeyRow>, Error> {
    let row = sqlx::query("SELECT * FROM capture_keys WHERE tenant = $1 AND key_id = $2")
        .bind(tenant.as_str())
        .bind(&key_id[..])
        .fetch_optional(connection)
        .await?;
    row.map(|row| capture_key_row(&row, tenant)).transpose()
}

/// The capture key pair that a data key seals.
pub(super) async fn capture_key_under(
    data_key: DataKeyId,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Option<CaptureKeyRow>, Error> {
    let row = sqlx::query("SELECT * FROM capture_keys WHERE tenant = $1 AND data_key_id = $2")
        .bind(tenant.as_str())
        .bind(&data_key.as_bytes()[..])
        .fetch_optional(connection)
        .await?;
    row.map(|row| capture_key_row(&row, tenant)).transpose()
}

fn capture_key_row(row: &PgRow, tenant: &TenantName) -> Result<CaptureKeyRow, Error> {
    let columns = Columns::of("capture_keys", row);
    Ok(CaptureKeyRow {
        tenant: tenant.clone(),
        key_id: columns.bytes("key_id")?,
        epoch: Epoch(columns.number("epoch")?),
        data_key_id: columns.id("data_key_id", DataKeyId::from_bytes)?,
        sealed: columns.get("sealed")?,
        created: columns.time("created")?,
    })
}

/// Removes the capture key pairs of days up to one: their private halves went with its erasure key.
pub(super) async fn remove_erased_capture_keys(
    newest: Epoch,
    connection: &mut PgConnection,
) -> Result<u64, sqlx::Error> {
    let done =
        sqlx::query("DELETE FROM capture_keys WHERE epoch <= $1").bind(int(newest.0)).execute(connection).await?;
    Ok(done.rows_affected())
}
