//! Values and their states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::column::{Columns, column, int, millis};
use crate::crypto::{StateCode, ValueState};
use crate::domain::{Binding, CaptureSessionId, DataKeyId, Metadata, Realm, SecretId, TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::batch::LoadedValue;
use crate::store::rows::{SealsRow, StateRow, ValueRow};

const UPSERT_STATE: &str = "INSERT INTO value_states (tenant, value_id, data_key_id, version, code, uses_left, expires, \
     failures, mac) SELECT unnest($1::text[]), unnest($2::bytea[]), unnest($3::bytea[]), unnest($4::bigint[]), \
     unnest($5::bigint[]), unnest($6::bigint[]), unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bytea[]) \
     ON CONFLICT (tenant, value_id) DO UPDATE SET data_key_id = excluded.data_key_id, version = excluded.version, \
     code = excluded.code, uses_left = excluded.uses_left, expires = excluded.expires, failures = excluded.failures, \
     mac = excluded.mac";
/// Whoever changes a state or takes a value away holds the value's row first; so no state changes while one is held.
const LOCK: &str = "SELECT value_id, data_key_id FROM secure_values WHERE tenant = $1 AND value_id = ANY($2) ORDER BY value_id FOR UPDATE";
/// With the state and the newest entry that carries a state version, so that one round trip tells all.
const READ: &str = "SELECT v.*, s.data_key_id AS state_data_key_id, s.version, s.code, s.uses_left, s.expires AS state_expires, \
     s.failures, s.mac, n.leaf AS newest, n.state_version AS newest_version \
     FROM secure_values v LEFT JOIN value_states s ON s.tenant = v.tenant AND s.value_id = v.value_id \
     LEFT JOIN LATERAL (SELECT l.leaf, l.state_version FROM access_log l WHERE l.tenant = v.tenant \
     AND l.value_id = v.value_id AND l.state_version IS NOT NULL ORDER BY l.state_version DESC LIMIT 1) AS n ON true \
     WHERE v.tenant = $1 AND v.value_id = ANY($2)";

/// Inserts or replaces states.
pub(super) async fn upsert_states(
    rows: &[(&TenantName, &StateRow)],
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(UPSERT_STATE)
        .bind(column(rows, |(tenant, _)| tenant.as_str()))
        .bind(column(rows, |(_, row)| &row.value_id.as_bytes()[..]))
        .bind(column(rows, |(_, row)| &row.data_key_id.as_bytes()[..]))
        .bind(column(rows, |(_, row)| int(row.state.version)))
        .bind(column(rows, |(_, row)| i64::from(row.state.code.as_u8())))
        .bind(column(rows, |(_, row)| row.state.uses_left.map(i64::from)))
        .bind(column(rows, |(_, row)| row.state.expires.map(millis)))
        .bind(column(rows, |(_, row)| i64::from(row.state.failures)))
        .bind(column(rows, |(_, row)| &row.mac[..]))
        .execute(connection)
        .await
        .map(|_| ())
}

/// Writes values whose outer layer was made anew; their rows are held.
pub(super) async fn reseal(
    rows: &BTreeMap<(TenantName, ValueId), Arc<ValueRow>>,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = rows.iter().collect();
    sqlx::query(
        "UPDATE secure_values v SET data_key_id = n.data_key_id, sealed = n.sealed \
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) AS n(tenant, value_id, data_key_id, sealed) \
         WHERE v.tenant = n.tenant AND v.value_id = n.value_id",
    )
    .bind(column(&rows, |((tenant, _), _)| tenant.as_str()))
    .bind(column(&rows, |((_, value_id), _)| &value_id.as_bytes()[..]))
    .bind(column(&rows, |(_, row)| &row.data_key_id.as_bytes()[..]))
    .bind(column(&rows, |(_, row)| &row.sealed[..]))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Which data keys seal up to `limit` values and their states, with ids after the first and before the last, in the order of
/// ids. It walks the primary key and looks for nothing: so many rows take no longer, however many there are.
pub(super) async fn seals(
    (after, before): (&[u8], &[u8]),
    limit: u32,
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<SealsRow>, Error> {
    let rows = sqlx::query_as(
        "SELECT v.value_id, v.data_key_id, s.data_key_id FROM secure_values v LEFT JOIN value_states s \
         ON s.tenant = v.tenant AND s.value_id = v.value_id WHERE v.tenant = $1 AND v.value_id > $2 AND v.value_id < $3 \
         ORDER BY v.value_id LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(before)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(SealsRow::of).collect())
}

/// Tells the purge when an extended value may go.
pub(super) async fn postpone_purge(
    value_id: ValueId,
    tenant: &TenantName,
    until: Option<Timestamp>,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE secure_values SET purge_after = $1 WHERE tenant = $2 AND value_id = $3")
        .bind(until.map(millis))
        .bind(tenant.as_str())
        .bind(&value_id.as_bytes()[..])
        .execute(connection)
        .await
        .map(|_| ())
}

/// Removes a tenant's values with their states.
pub(super) async fn remove(
    value_ids: &[ValueId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    for text in [
        "DELETE FROM secure_values WHERE tenant = $1 AND value_id = ANY($2)",
        "DELETE FROM value_states WHERE tenant = $1 AND value_id = ANY($2)",
    ] {
        sqlx::query(text).bind(tenant.as_str()).bind(ids(value_ids)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Locks a tenant's values in the order of their ids; which are there, with the data keys that seal them.
pub(super) async fn lock(
    value_ids: &[ValueId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<BTreeMap<ValueId, DataKeyId>, sqlx::Error> {
    let found: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as(LOCK).bind(tenant.as_str()).bind(ids(value_ids)).fetch_all(connection).await?;
    let read = |(id, data_key): (Vec<u8>, Vec<u8>)| {
        Some((ValueId::from_bytes(id.try_into().ok()?), DataKeyId::from_bytes(data_key.try_into().ok()?)))
    };
    Ok(found.into_iter().filter_map(read).collect())
}

/// The versions of the states of a tenant's values, where they have one.
pub(super) async fn state_versions(
    value_ids: &[ValueId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<BTreeMap<ValueId, u64>, sqlx::Error> {
    let found: Vec<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT value_id, version FROM value_states WHERE tenant = $1 AND value_id = ANY($2)")
            .bind(tenant.as_str())
            .bind(ids(value_ids))
            .fetch_all(connection)
            .await?;
    let read = |(id, version): (Vec<u8>, i64)| Some((ValueId::from_bytes(id.try_into().ok()?), version.unsigned_abs()));
    Ok(found.into_iter().filter_map(read).collect())
}

fn ids(value_ids: &[ValueId]) -> Vec<&[u8]> {
    column(value_ids, |id| &id.as_bytes()[..])
}

/// Values of a tenant with their states and newest entries.
pub(super) async fn read(
    value_ids: &[ValueId],
    tenant: &TenantName,
    realm: &Realm,
    connection: &mut PgConnection,
) -> Result<Vec<LoadedValue>, Error> {
    let rows = sqlx::query(READ).bind(tenant.as_str()).bind(ids(value_ids)).fetch_all(connection).await?;
    rows.iter().map(|row| loaded(row, tenant, realm)).collect()
}

fn loaded(row: &PgRow, tenant: &TenantName, realm: &Realm) -> Result<LoadedValue, Error> {
    let columns = Columns::of("secure_values", row);
    let metadata = Metadata {
        realm: realm.clone(),
        tenant: tenant.clone(),
        app: columns.word("app")?,
        value_id: columns.id("value_id", ValueId::from_bytes)?,
        field: columns.word("field")?,
        kind: columns.word("kind")?,
        retention: columns.word("retention")?,
        created: columns.time("created")?,
        expires: columns.time_or_none("expires")?,
        uses: columns.number_or_none("uses")?,
        session: columns.id_or_none("session", CaptureSessionId::from_bytes)?,
        subject: columns.bytes_or_none("subject")?,
        binding: Binding { flows: set(&columns, "flows")?, purposes: set(&columns, "purposes")? },
    };
    let value_id = metadata.value_id;
    Ok(LoadedValue {
        row: ValueRow {
            metadata,
            verifier: columns.bytes("verifier")?,
            pepper_id: columns.id("pepper_id", SecretId::from_bytes)?,
            data_key_id: columns.id("data_key_id", DataKeyId::from_bytes)?,
            sealed: columns.get("sealed")?,
        },
        state: state(row, value_id)?,
        newest: columns.newest()?,
    })
}

fn state(row: &PgRow, value_id: ValueId) -> Result<Option<StateRow>, Error> {
    let columns = Columns::of("value_states", row);
    let Some(version) = columns.number_or_none("version")? else { return Ok(None) };
    let code = StateCode::from_u8(columns.number("code")?).ok_or_else(|| columns.unreadable())?;
    let state = ValueState {
        version,
        code,
        uses_left: columns.number_or_none("uses_left")?,
        expires: columns.time_or_none("state_expires")?,
        failures: columns.number("failures")?,
    };
    let data_key_id = columns.id("state_data_key_id", DataKeyId::from_bytes)?;
    Ok(Some(StateRow { value_id, data_key_id, state, mac: columns.bytes("mac")? }))
}

fn set<T: std::str::FromStr + Ord>(columns: &Columns<'_>, index: &str) -> Result<BTreeSet<T>, Error> {
    let text: &str = columns.get(index)?;
    text.split(' ').filter(|word| !word.is_empty()).map(|word| word.parse().map_err(|_| columns.unreadable())).collect()
}
