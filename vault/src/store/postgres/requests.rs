//! Idempotency records, runs and the encs of capture sessions.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::column::{Columns, column, millis};
use crate::domain::{CaptureSessionId, CredentialId, DataKeyId, RunId, TenantName};
use crate::store::Error;
use crate::store::rows::{IdempotencyRow, RunOutcome, RunRow};

macro_rules! insert_record {
    () => {
        "INSERT INTO idempotency (tenant, lookup, body_mac, data_key_id, run_id, deadline, expires, status, answer) \
         SELECT unnest($1::text[]), unnest($2::bytea[]), unnest($3::bytea[]), unnest($4::bytea[]), unnest($5::bytea[]), \
         unnest($6::bigint[]), unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bytea[]) ON CONFLICT (tenant, lookup) DO "
    };
}
const INSERT_RECORD: &str = concat!(insert_record!(), "NOTHING");
const UPSERT_RECORD: &str = concat!(
    insert_record!(),
    "UPDATE SET body_mac = excluded.body_mac, data_key_id = excluded.data_key_id, run_id = excluded.run_id, \
     deadline = excluded.deadline, expires = excluded.expires, status = excluded.status, answer = excluded.answer"
);
const LOCK_RECORDS: &str =
    "SELECT * FROM idempotency WHERE tenant = $1 AND lookup = ANY($2) ORDER BY lookup FOR UPDATE";
const READ_RUNS: &str = "SELECT * FROM flow_runs WHERE tenant = $1 AND run_id = ANY($2)";
const LOCK_RUNS: &str = "SELECT * FROM flow_runs WHERE tenant = $1 AND run_id = ANY($2) ORDER BY run_id FOR UPDATE";
/// Each by its key, whatever the table's size is thought to be.
const READ_ENCS: &str = "SELECT n.place FROM unnest($1::text[], $2::bytea[], $3::bytea[]) \
     WITH ORDINALITY AS n(tenant, session, enc, place) WHERE (SELECT true FROM capture_encs e \
     WHERE e.tenant = n.tenant AND e.session = n.session AND e.enc = n.enc)";

/// An encapsulated key of a session, by its SHA-256.
pub(super) type SeenEnc = (TenantName, CaptureSessionId, [u8; 32]);

/// Inserts idempotency records; how many: one that is there already is left as it is.
pub(super) async fn insert_records(
    rows: &[&IdempotencyRow],
    connection: &mut PgConnection,
) -> Result<usize, sqlx::Error> {
    let written = write_records(INSERT_RECORD, rows, connection).await?;
    Ok(usize::try_from(written).unwrap_or(usize::MAX))
}

/// Inserts or replaces idempotency records.
pub(super) async fn upsert_records(rows: &[&IdempotencyRow], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    write_records(UPSERT_RECORD, rows, connection).await.map(|_| ())
}

async fn write_records(
    text: &'static str,
    rows: &[&IdempotencyRow],
    connection: &mut PgConnection,
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let done = sqlx::query(text)
        .bind(column(rows, |row| row.tenant.as_str()))
        .bind(column(rows, |row| &row.lookup[..]))
        .bind(column(rows, |row| &row.body_mac[..]))
        .bind(column(rows, |row| &row.data_key_id.as_bytes()[..]))
        .bind(column(rows, |row| row.run_id.as_ref().map(|id| &id.as_bytes()[..])))
        .bind(column(rows, |row| millis(row.deadline)))
        .bind(column(rows, |row| millis(row.expires)))
        .bind(column(rows, |row| row.answer.as_ref().map(|(status, _)| i64::from(*status))))
        .bind(column(rows, |row| row.answer.as_ref().map(|(_, answer)| &answer[..])))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Locks and reads a tenant's idempotency records, expired ones too.
pub(super) async fn lock_records(
    lookups: &[[u8; 32]],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<IdempotencyRow>, Error> {
    let rows = sqlx::query(LOCK_RECORDS)
        .bind(tenant.as_str())
        .bind(column(lookups, |lookup| &lookup[..]))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| record(row, tenant)).collect()
}

fn record(row: &PgRow, tenant: &TenantName) -> Result<IdempotencyRow, Error> {
    let columns = Columns::of("idempotency", row);
    let answer: Option<Vec<u8>> = columns.get("answer")?;
    Ok(IdempotencyRow {
        tenant: tenant.clone(),
        lookup: columns.bytes("lookup")?,
        body_mac: columns.bytes("body_mac")?,
        data_key_id: columns.id("data_key_id", DataKeyId::from_bytes)?,
        run_id: columns.id_or_none("run_id", RunId::from_bytes)?,
        deadline: columns.time("deadline")?,
        expires: columns.time("expires")?,
        answer: columns.number_or_none("status")?.zip(answer),
    })
}

/// Runs of a tenant.
pub(super) async fn read_runs(
    run_ids: &[RunId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<RunRow>, Error> {
    runs(READ_RUNS, run_ids, tenant, connection).await
}

/// The same, locked: their outcome may be written.
pub(super) async fn lock_runs(
    run_ids: &[RunId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<RunRow>, Error> {
    runs(LOCK_RUNS, run_ids, tenant, connection).await
}

async fn runs(
    text: &'static str,
    run_ids: &[RunId],
    tenant: &TenantName,
    connection: &mut PgConnection,
) -> Result<Vec<RunRow>, Error> {
    let rows = sqlx::query(text)
        .bind(tenant.as_str())
        .bind(column(run_ids, |id| &id.as_bytes()[..]))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| run(row, tenant)).collect()
}

fn run(row: &PgRow, tenant: &TenantName) -> Result<RunRow, Error> {
    let columns = Columns::of("flow_runs", row);
    let outcome = match columns.get::<Option<&str>, _>("outcome")? {
        None => None,
        Some("completed") => Some(RunOutcome::Completed),
        Some("failed") => Some(RunOutcome::failed(columns.get::<Option<&str>, _>("code")?.unwrap_or(""))),
        Some(_) => Some(RunOutcome::Unknown),
    };
    Ok(RunRow {
        tenant: tenant.clone(),
        run_id: columns.id("run_id", RunId::from_bytes)?,
        app: columns.word("app")?,
        flow: (columns.word("flow")?, columns.number("flow_version")?),
        credential_id: columns.id("credential_id", CredentialId::from_bytes)?,
        started: columns.time("started")?,
        deadline: columns.time("deadline")?,
        outcome,
        finished: columns.time_or_none("finished")?,
    })
}

/// Which of these encs their sessions have seen.
pub(super) async fn read_encs(asked: &[SeenEnc], connection: &mut PgConnection) -> Result<Vec<SeenEnc>, Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(READ_ENCS)
        .bind(column(asked, |(tenant, ..)| tenant.as_str()))
        .bind(column(asked, |(_, session, _)| &session.as_bytes()[..]))
        .bind(column(asked, |(.., enc)| &enc[..]))
        .fetch_all(connection)
        .await?;
    let seen = |row| {
        let columns = Columns::of("capture_encs", row);
        let place: u64 = columns.number("place")?;
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        place.and_then(|place| asked.get(place)).cloned().ok_or_else(|| columns.unreadable())
    };
    rows.iter().map(seen).collect()
}
