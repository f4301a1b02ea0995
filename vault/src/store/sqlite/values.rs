//! Values and their states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::column::{Columns, int, millis};
use super::sql::{self, Texts, texts};
use crate::crypto::{StateCode, ValueState};
use crate::domain::{Binding, CaptureSessionId, DataKeyId, Metadata, Realm, SecretId, TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::batch::LoadedValue;
use crate::store::rows::{SealsRow, StateRow, ValueRow};

const INSERT: Texts = texts!(
    "INSERT INTO secure_values (tenant, value_id, app, field, kind, retention, created, expires, uses, session, subject, \
     flows, purposes, verifier, pepper_id, data_key_id, sealed, purge_after) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    ""
);
const UPSERT_STATE: Texts = texts!(
    "INSERT INTO value_states (tenant, value_id, data_key_id, version, code, uses_left, expires, failures, mac) VALUES ",
    "(?,?,?,?,?,?,?,?,?)",
    " ON CONFLICT (tenant, value_id) DO UPDATE SET data_key_id = excluded.data_key_id, version = excluded.version, \
     code = excluded.code, uses_left = excluded.uses_left, expires = excluded.expires, failures = excluded.failures, \
     mac = excluded.mac"
);
const REMOVE: Texts = texts!("DELETE FROM secure_values WHERE tenant = ? AND value_id IN (", "?", ")");
const REMOVE_STATE: Texts = texts!("DELETE FROM value_states WHERE tenant = ? AND value_id IN (", "?", ")");
/// With the state and the newest entry that carries a state version, so that one round trip tells all.
pub(super) const READ: Texts = texts!(
    "SELECT v.*, s.data_key_id AS state_data_key_id, s.version, s.code, s.uses_left, s.expires AS state_expires, \
     s.failures, s.mac, (SELECT l.leaf FROM access_log l INDEXED BY access_log_by_value WHERE l.tenant = v.tenant AND l.value_id = v.value_id \
     AND l.state_version IS NOT NULL ORDER BY l.state_version DESC LIMIT 1) AS newest, \
     (SELECT max(l.state_version) FROM access_log l INDEXED BY access_log_by_value WHERE l.tenant = v.tenant AND l.value_id = v.value_id) \
     AS newest_version \
     FROM secure_values v LEFT JOIN value_states s ON s.tenant = v.tenant AND s.value_id = v.value_id \
     WHERE v.tenant = ? AND v.value_id IN (",
    "?",
    ")"
);

/// Inserts values.
pub(super) async fn insert(rows: &[Arc<ValueRow>], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&INSERT, rows) {
        let mut query = sqlx::query(text);
        for row in part {
            let m = &row.metadata;
            query = query
                .bind(m.tenant.as_str())
                .bind(&m.value_id.as_bytes()[..])
                .bind(m.app.as_str())
                .bind(m.field.as_str())
                .bind(m.kind.as_str())
                .bind(m.retention.as_str())
                .bind(millis(m.created))
                .bind(m.expires.map(millis))
                .bind(m.uses)
                .bind(m.session.as_ref().map(|id| &id.as_bytes()[..]))
                .bind(m.subject.as_ref().map(|hash| &hash[..]))
                .bind(words(m.binding.flows.iter().map(|name| name.as_str())))
                .bind(words(m.binding.purposes.iter().map(|name| name.as_str())))
                .bind(&row.verifier[..])
                .bind(&row.pepper_id.as_bytes()[..])
                .bind(&row.data_key_id.as_bytes()[..])
                .bind(&row.sealed[..])
                .bind(m.expires.map(millis));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Inserts or replaces states.
pub(super) async fn upsert_states(
    rows: &[(TenantName, StateRow)],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&UPSERT_STATE, rows) {
        let mut query = sqlx::query(text);
        for (tenant, row) in part {
            query = query
                .bind(tenant.as_str())
                .bind(&row.value_id.as_bytes()[..])
                .bind(&row.data_key_id.as_bytes()[..])
                .bind(int(row.state.version))
                .bind(row.state.code.as_u8())
                .bind(row.state.uses_left)
                .bind(row.state.expires.map(millis))
                .bind(row.state.failures)
                .bind(&row.mac[..]);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes values whose outer layer was made anew.
pub(super) async fn reseal(
    rows: &BTreeMap<(TenantName, ValueId), Arc<ValueRow>>,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    for ((tenant, value_id), row) in rows {
        sqlx::query("UPDATE secure_values SET data_key_id = ?, sealed = ? WHERE tenant = ? AND value_id = ?")
            .bind(&row.data_key_id.as_bytes()[..])
            .bind(&row.sealed[..])
            .bind(tenant.as_str())
            .bind(&value_id.as_bytes()[..])
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Which data keys seal up to `limit` values and their states, with ids after the first and before the last, in the order of
/// ids. It walks the primary key and looks for nothing: so many rows take no longer, however many there are.
pub(super) async fn seals(
    (after, before): (&[u8], &[u8]),
    limit: u32,
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<SealsRow>, Error> {
    let rows = sqlx::query_as(
        "SELECT v.value_id, v.data_key_id, s.data_key_id FROM secure_values v LEFT JOIN value_states s \
         ON s.tenant = v.tenant AND s.value_id = v.value_id WHERE v.tenant = ? AND v.value_id > ? AND v.value_id < ? \
         ORDER BY v.value_id LIMIT ?",
    )
    .bind(tenant.as_str())
    .bind(after)
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(SealsRow::of).collect())
}

/// Tells the purge when an extended value may go.
pub(super) async fn postpone_purge(
    value_id: ValueId,
    tenant: &TenantName,
    until: Option<Timestamp>,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE secure_values SET purge_after = ? WHERE tenant = ? AND value_id = ?")
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
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    for texts in [&REMOVE, &REMOVE_STATE] {
        for (text, part) in sql::parts(texts, value_ids) {
            let query = sqlx::query(text).bind(tenant.as_str());
            part.iter().fold(query, |query, id| query.bind(&id.as_bytes()[..])).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Values of a tenant with their states and newest entries.
pub(super) async fn read(
    value_ids: &[ValueId],
    tenant: &TenantName,
    realm: &Realm,
    connection: &mut SqliteConnection,
) -> Result<Vec<LoadedValue>, Error> {
    let mut found = Vec::with_capacity(value_ids.len());
    for (text, part, fill) in sql::look_ups(&READ, value_ids) {
        let query = sqlx::query(text).bind(tenant.as_str());
        let query = part.iter().fold(query, |query, id| query.bind(&id.as_bytes()[..]));
        let query = (0..fill).fold(query, |query, _| query.bind(None::<&[u8]>));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(loaded(&row, tenant, realm)?);
        }
    }
    Ok(found)
}

fn loaded(row: &SqliteRow, tenant: &TenantName, realm: &Realm) -> Result<LoadedValue, Error> {
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

fn state(row: &SqliteRow, value_id: ValueId) -> Result<Option<StateRow>, Error> {
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

/// Names as one column: they hold no blanks.
fn words<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}

fn set<T: std::str::FromStr + Ord>(columns: &Columns<'_>, index: &str) -> Result<BTreeSet<T>, Error> {
    let text: &str = columns.get(index)?;
    text.split(' ').filter(|word| !word.is_empty()).map(|word| word.parse().map_err(|_| columns.unreadable())).collect()
}
