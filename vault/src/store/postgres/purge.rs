//! What a node does by the clock: what has expired goes, signs of life are renewed.

use sqlx::PgConnection;

use super::column::{Columns, int, millis};
use super::{PostgresStore, key_rows, lost_keys};
use crate::access_log::Heartbeat;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, DataKeyClass, Epoch, TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::batch::{CountedValues, ENTRIES_OF_END, Expired, Purged, StoredKey};

impl PostgresStore {
    /// Up to `limit` values whose time seems to be over, after the first `passed`; one that does not read hides no other.
    pub(in crate::store) async fn expired_values(
        &self,
        now: Timestamp,
        passed: usize,
        limit: usize,
    ) -> Result<Expired, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query(
            "SELECT tenant, value_id FROM secure_values WHERE purge_after <= $1 ORDER BY purge_after, tenant, value_id \
             LIMIT $2 OFFSET $3",
        )
        .bind(millis(now))
        .bind(int(limit as u64))
        .bind(int(passed as u64))
        .fetch_all(connection)
        .await?;
            let mut found = Expired::default();
            for row in &rows {
                match expired_value(row) {
                    Ok(value) => found.values.push(value),
                    Err(_) => found.unreadable += 1,
                }
            }
            Ok(found)
        })
    }

    /// Leaves of the entries that said when values end.
    pub(in crate::store) async fn leaves_of_ends(
        &self,
        tenant: &TenantName,
        values: &[ValueId],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let values: Vec<&[u8]> = values.iter().map(|value_id| &value_id.as_bytes()[..]).collect();
        super::reading!(self, |connection| {
            let leaves = sqlx::query_scalar(
                // The newest entries that carry a version of the value's state; where there is none, the oldest that do not, as
                // the capture's.
                "SELECT e.leaf FROM unnest($2::bytea[]) AS v (id), LATERAL ( \
                 (SELECT leaf, action, outcome FROM access_log WHERE tenant = $1 AND value_id = v.id \
                 AND state_version IS NOT NULL ORDER BY state_version DESC LIMIT $3) UNION ALL \
                 (SELECT leaf, action, outcome FROM access_log WHERE tenant = $1 AND value_id = v.id \
                 AND state_version IS NULL AND NOT EXISTS (SELECT 1 FROM access_log WHERE tenant = $1 \
                 AND value_id = v.id AND state_version IS NOT NULL) LIMIT $3)) AS e \
                 WHERE e.action IN ('value.captured', 'value.extended') AND e.outcome = 'allowed'",
            )
            .bind(tenant.as_str())
            .bind(&values)
            .bind(ENTRIES_OF_END)
            .fetch_all(connection)
            .await?;
            Ok(leaves)
        })
    }

    /// Of up to `limit` values behind this one those whose uses are counted.
    pub(in crate::store) async fn counted_values(
        &self,
        after: Option<&StoredKey>,
        limit: usize,
    ) -> Result<CountedValues, Error> {
        let (tenant, value_id) =
            after.map_or(("", &[][..]), |(tenant, value_id)| (tenant.as_str(), value_id.as_slice()));
        super::reading!(self, |connection| {
            let rows = sqlx::query(
                "SELECT tenant, value_id, uses IS NOT NULL AS counted FROM secure_values WHERE (tenant, value_id) > ($1, $2) \
             ORDER BY tenant, value_id LIMIT $3",
            )
            .bind(tenant)
            .bind(value_id)
            .bind(int(limit as u64))
            .fetch_all(connection)
            .await?;
            Ok(CountedValues::of(rows.iter().map(walked).collect::<Result<_, _>>()?, limit))
        })
    }

    /// Removes expired encs, idempotency records and sessions, a step of them.
    ///
    /// `sessions_before`: sessions whose id is older are past the longest session.
    pub(in crate::store) async fn purge_requests(
        &self,
        now: Timestamp,
        sessions_before: &str,
    ) -> Result<Purged, Error> {
        super::writing!(self, |connection| purge(now, sessions_before, connection).await.map_err(Error::Database))
    }

    /// Removes data keys whose erasure key is gone, and capture keys with them; how many rows.
    pub(in crate::store) async fn purge_keys(&self, erased: &[(DataKeyClass, Epoch)]) -> Result<u64, Error> {
        super::writing!(self, |connection| purge_keys(erased, connection).await.map_err(Error::Database))
    }

    /// Up to `limit` keys of a tenant's approvals after the first and before the second, in order.
    pub(in crate::store) async fn approvals_between(
        &self,
        (after, before): (&str, &str),
        limit: u32,
        tenant: &TenantName,
    ) -> Result<Vec<String>, Error> {
        super::reading!(self, |connection| {
            let keys = sqlx::query_scalar(
                "SELECT key FROM approvals WHERE tenant = $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4",
            );
            let keys = keys.bind(tenant.as_str()).bind(after).bind(before).bind(i64::from(limit));
            Ok(keys.fetch_all(connection).await?)
        })
    }

    /// Removes an approval, if it is still of this version; how many rows.
    pub(in crate::store) async fn remove_approval(
        &self,
        key: &str,
        version: u64,
        tenant: &TenantName,
    ) -> Result<u64, Error> {
        super::writing!(self, |connection| {
            let removed = sqlx::query("DELETE FROM approvals WHERE tenant = $1 AND key = $2 AND version = $3")
                .bind(tenant.as_str())
                .bind(key)
                .bind(int(version))
                .execute(connection)
                .await;
            removed.map(|done| done.rows_affected()).map_err(Error::Database)
        })
    }

    /// Replaces a boot's sign of life.
    pub(in crate::store) async fn write_heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), Error> {
        super::writing!(self, |connection| write_heartbeat(heartbeat, connection).await.map_err(Error::Database))
    }

    /// Every boot's last sign of life.
    pub(in crate::store) async fn heartbeats(&self) -> Result<Vec<Result<Heartbeat, Error>>, Error> {
        super::reading!(self.vital, |connection| {
            let rows = sqlx::query("SELECT * FROM heartbeats ORDER BY boot").fetch_all(connection).await?;
            Ok(rows.iter().map(heartbeat).collect())
        })
    }

    /// Those of the boots that may write.
    pub(in crate::store) async fn open_heartbeats(&self) -> Result<Vec<Result<Heartbeat, Error>>, Error> {
        super::reading!(self.vital, |connection| {
            let rows = sqlx::query(
                "SELECT * FROM heartbeats WHERE tenant = $1 \
                 AND boot = ANY (ARRAY(SELECT boot FROM open_boots WHERE tenant = $1)) ORDER BY boot",
            )
            .bind(TenantName::SYSTEM)
            .fetch_all(connection)
            .await?;
            Ok(rows.iter().map(heartbeat).collect())
        })
    }
}

fn expired_value(row: &sqlx::postgres::PgRow) -> Result<(TenantName, ValueId), Error> {
    let columns = Columns::of("secure_values", row);
    let tenant = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
    Ok((tenant, columns.id("value_id", ValueId::from_bytes)?))
}

fn walked(row: &sqlx::postgres::PgRow) -> Result<(StoredKey, bool), Error> {
    let columns = Columns::of("secure_values", row);
    Ok(((columns.get("tenant")?, columns.get("value_id")?), columns.get("counted")?))
}

async fn purge(now: Timestamp, sessions_before: &str, connection: &mut PgConnection) -> Result<Purged, sqlx::Error> {
    let mut gone = Purged::default();
    // The time stands outside too: what another node renewed while we waited for its row stays.
    for text in [
        "DELETE FROM capture_encs WHERE expires <= $1 AND (tenant, session, enc) IN \
         (SELECT tenant, session, enc FROM capture_encs WHERE expires <= $1 LIMIT 1000)",
        "DELETE FROM idempotency WHERE expires <= $1 AND (tenant, lookup) IN \
         (SELECT tenant, lookup FROM idempotency WHERE expires <= $1 LIMIT 1000)",
    ] {
        gone.add(sqlx::query(text).bind(millis(now)).execute(&mut *connection).await?.rows_affected());
    }
    let done = sqlx::query(
        "DELETE FROM capture_sessions WHERE (tenant, key) IN \
         (SELECT tenant, key FROM capture_sessions WHERE key < $1 LIMIT 1000)",
    )
    .bind(sessions_before)
    .execute(&mut *connection)
    .await?;
    gone.add(done.rows_affected());
    Ok(gone)
}

async fn purge_keys(erased: &[(DataKeyClass, Epoch)], connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
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

async fn write_heartbeat(heartbeat: &Heartbeat, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lanes: Vec<u8> = heartbeat.lanes.iter().flat_map(lane_bytes).collect();
    sqlx::query(
        "INSERT INTO heartbeats (tenant, boot, time, lanes, signature) VALUES ($1, $2, $3, $4, $5) \
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

fn heartbeat(row: &sqlx::postgres::PgRow) -> Result<Heartbeat, Error> {
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
