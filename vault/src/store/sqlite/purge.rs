//! What a node does by the clock: what has expired goes, signs of life are renewed.

use sqlx::SqliteConnection;

use super::column::{Columns, int, millis};
use super::{SqliteStore, key_rows, lost_keys};
use crate::access_log::Heartbeat;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, DataKeyClass, Epoch, TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::batch::{CountedValues, ENTRIES_OF_END, Expired, Purged, StoredKey};

/// The newest entries that carry a version of the value's state; where there is none, the oldest that do not, as the capture's.
/// Without its name the index is not taken: SQLite, which knows nothing of the table, thinks a tenant's entries few, and reads
/// them all (a second for each value of a log of two million, in which no checkpoint ends).
pub(super) const LEAVES_OF_END: &str = "SELECT leaf FROM (SELECT leaf, action, outcome FROM access_log INDEXED BY access_log_by_value WHERE tenant = ?1 \
     AND value_id = ?2 AND state_version IS NOT NULL ORDER BY state_version DESC LIMIT ?3) \
     WHERE action IN ('value.captured', 'value.extended') AND outcome = 'allowed' \
     UNION ALL SELECT leaf FROM (SELECT leaf, action, outcome FROM access_log INDEXED BY access_log_by_value WHERE tenant = ?1 AND value_id = ?2 \
     AND state_version IS NULL AND NOT EXISTS (SELECT 1 FROM access_log INDEXED BY access_log_by_value WHERE tenant = ?1 AND value_id = ?2 \
     AND state_version IS NOT NULL) LIMIT ?3) WHERE action = 'value.captured' AND outcome = 'allowed'";

impl SqliteStore {
    /// Up to `limit` values whose time seems to be over, after the first `passed`; one that does not read hides no other.
    pub(in crate::store) async fn expired_values(
        &self,
        now: Timestamp,
        passed: usize,
        limit: usize,
    ) -> Result<Expired, Error> {
        let rows = sqlx::query(
            "SELECT tenant, value_id FROM secure_values WHERE purge_after <= ? ORDER BY purge_after, tenant, value_id \
             LIMIT ? OFFSET ?",
        )
        .bind(millis(now))
        .bind(int(limit as u64))
        .bind(int(passed as u64))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let mut found = Expired::default();
        for row in &rows {
            match expired_value(row) {
                Ok(value) => found.values.push(value),
                Err(_) => found.unreadable += 1,
            }
        }
        Ok(found)
    }

    /// Leaves of the entries that said when values end.
    pub(in crate::store) async fn leaves_of_ends(
        &self,
        tenant: &TenantName,
        values: &[ValueId],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut reader = self.reader().await?;
        let mut leaves = Vec::with_capacity(values.len());
        for value_id in values {
            let query = sqlx::query_scalar(LEAVES_OF_END).bind(tenant.as_str()).bind(&value_id.as_bytes()[..]);
            leaves.extend(query.bind(ENTRIES_OF_END).fetch_all(&mut *reader).await?);
        }
        Ok(leaves)
    }

    /// Of up to `limit` values behind this one those whose uses are counted.
    pub(in crate::store) async fn counted_values(
        &self,
        after: Option<&StoredKey>,
        limit: usize,
    ) -> Result<CountedValues, Error> {
        let (tenant, value_id) =
            after.map_or(("", &[][..]), |(tenant, value_id)| (tenant.as_str(), value_id.as_slice()));
        let rows = sqlx::query(
            "SELECT tenant, value_id, uses IS NOT NULL AS counted FROM secure_values WHERE (tenant, value_id) > (?, ?) \
             ORDER BY tenant, value_id LIMIT ?",
        )
        .bind(tenant)
        .bind(value_id)
        .bind(int(limit as u64))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        Ok(CountedValues::of(rows.iter().map(walked).collect::<Result<_, _>>()?, limit))
    }

    /// Removes expired encs, idempotency records and sessions, a step of them.
    ///
    /// `sessions_before`: sessions whose id is older are past the longest session.
    pub(in crate::store) async fn purge_requests(
        &self,
        now: Timestamp,
        sessions_before: &str,
    ) -> Result<Purged, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let gone = purge(now, sessions_before, &mut batch.transaction).await;
        let done = batch.finish(gone.map_err(Error::Database)).await;
        writer.settle(done).await
    }

    /// Removes data keys whose erasure key is gone, and capture keys with them; how many rows.
    pub(in crate::store) async fn purge_keys(&self, erased: &[(DataKeyClass, Epoch)]) -> Result<u64, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let gone = purge_keys(erased, &mut batch.transaction).await;
        let done = batch.finish(gone.map_err(Error::Database)).await;
        writer.settle(done).await
    }

    /// Up to `limit` keys of a tenant's approvals after the first and before the second, in order.
    pub(in crate::store) async fn approvals_between(
        &self,
        (after, before): (&str, &str),
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<String>, Error> {
        let keys = sqlx::query_scalar(
            "SELECT key FROM approvals WHERE tenant = ? AND key > ? AND key < ? ORDER BY key LIMIT ?",
        );
        let keys = keys.bind(tenant.as_str()).bind(after).bind(before).bind(limit);
        Ok(keys.fetch_all(&mut *self.reader().await?).await?)
    }

    /// Removes an approval, if it is still of this version; how many rows.
    pub(in crate::store) async fn remove_approval(
        &self,
        key: &str,
        version: u64,
        tenant: &TenantName,
    ) -> Result<u64, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let removed = sqlx::query("DELETE FROM approvals WHERE tenant = ? AND key = ? AND version = ?")
            .bind(tenant.as_str())
            .bind(key)
            .bind(int(version))
            .execute(&mut *batch.transaction)
            .await;
        let removed = removed.map(|done| done.rows_affected()).map_err(Error::Database);
        let done = batch.finish(removed).await;
        writer.settle(done).await
    }

    /// Replaces a boot's sign of life.
    pub(in crate::store) async fn write_heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let written = write_heartbeat(heartbeat, &mut batch.transaction).await;
        let done = batch.finish(written.map_err(Error::Database)).await;
        writer.settle(done).await
    }

    /// Every boot's last sign of life.
    pub(in crate::store) async fn heartbeats(&self) -> Result<Vec<Result<Heartbeat, Error>>, Error> {
        let rows = sqlx::query("SELECT * FROM heartbeats ORDER BY boot").fetch_all(&mut *self.reader().await?).await?;
        Ok(rows.iter().map(heartbeat).collect())
    }

    /// Those of the boots that may write.
    pub(in crate::store) async fn open_heartbeats(&self) -> Result<Vec<Result<Heartbeat, Error>>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM heartbeats WHERE tenant = ?1 AND boot IN (SELECT boot FROM open_boots WHERE tenant = ?1) \
             ORDER BY boot",
        )
        .bind(TenantName::SYSTEM)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        Ok(rows.iter().map(heartbeat).collect())
    }
}

fn expired_value(row: &sqlx::sqlite::SqliteRow) -> Result<(TenantName, ValueId), Error> {
    let columns = Columns::of("secure_values", row);
    let tenant = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
    Ok((tenant, columns.id("value_id", ValueId::from_bytes)?))
}

fn walked(row: &sqlx::sqlite::SqliteRow) -> Result<(StoredKey, bool), Error> {
    let columns = Columns::of("secure_values", row);
    Ok(((columns.get("tenant")?, columns.get("value_id")?), columns.get("counted")?))
}

async fn purge(
    now: Timestamp,
    sessions_before: &str,
    connection: &mut SqliteConnection,
) -> Result<Purged, sqlx::Error> {
    let mut gone = Purged::default();
    for text in [
        "DELETE FROM capture_encs WHERE (tenant, session, enc) IN \
         (SELECT tenant, session, enc FROM capture_encs WHERE expires <= ? LIMIT 1000)",
        "DELETE FROM idempotency WHERE (tenant, lookup) IN \
         (SELECT tenant, lookup FROM idempotency WHERE expires <= ? LIMIT 1000)",
    ] {
        gone.add(sqlx::query(text).bind(millis(now)).execute(&mut *connection).await?.rows_affected());
    }
    let done = sqlx::query(
        "DELETE FROM capture_sessions WHERE (tenant, key) IN \
         (SELECT tenant, key FROM capture_sessions WHERE key < ? LIMIT 1000)",
    )
    .bind(sessions_before)
    .execute(&mut *connection)
    .await?;
    gone.add(done.rows_affected());
    Ok(gone)
}

async fn purge_keys(erased: &[(DataKeyClass, Epoch)], connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let mut gone = 0;
    for (class, epoch) in erased {
        if *class == DataKeyClass::Capture {
            gone += key_rows::remove_erased_capture_keys(*epoch, connection).await?;
        }
        gone += key_rows::remove_erased_data_keys(*class, *epoch, connection).await?;
        gone += lost_keys::remove_erased(*class, *epoch, connection).await?;
    }
    Ok(gone)
}

async fn write_heartbeat(heartbeat: &Heartbeat, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let lanes: Vec<u8> = heartbeat.lanes.iter().flat_map(lane_bytes).collect();
    sqlx::query(
        "INSERT INTO heartbeats (tenant, boot, time, lanes, signature) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (tenant, boot) DO UPDATE SET time = excluded.time, lanes = excluded.lanes, \
         signature = excluded.signature",
    )
    .bind(TenantName::SYSTEM)
    .bind(&heartbeat.boot.as_bytes()[..])
    .bind(millis(heartbeat.time))
    .bind(lanes)
    .bind(&heartbeat.signature[..])
    .execute(connection)
    .await
    .map(|_| ())
}

/// Lane (4 bytes), next number (8), hash of the last signature (32).
const LANE_BYTES: usize = 44;

fn lane_bytes(end: &LaneEnd) -> [u8; LANE_BYTES] {
    let mut bytes = [0; LANE_BYTES];
    bytes[..4].copy_from_slice(&end.lane.to_be_bytes());
    bytes[4..12].copy_from_slice(&end.next.to_be_bytes());
    bytes[12..].copy_from_slice(&end.previous);
    bytes
}

fn heartbeat(row: &sqlx::sqlite::SqliteRow) -> Result<Heartbeat, Error> {
    let columns = Columns::of("heartbeats", row);
    let bytes: &[u8] = columns.get("lanes")?;
    let mut lanes = Vec::new();
    for part in bytes.chunks(LANE_BYTES) {
        let part: &[u8; LANE_BYTES] = part.try_into().map_err(|_| columns.unreadable())?;
        let (mut lane, mut next, mut previous) = ([0; 4], [0; 8], [0; 32]);
        lane.copy_from_slice(&part[..4]);
        next.copy_from_slice(&part[4..12]);
        previous.copy_from_slice(&part[12..]);
        lanes.push(LaneEnd { lane: u32::from_be_bytes(lane), next: u64::from_be_bytes(next), previous });
    }
    Ok(Heartbeat {
        boot: columns.id("boot", BootId::from_bytes)?,
        time: columns.time("time")?,
        lanes,
        signature: columns.bytes("signature")?,
    })
}
