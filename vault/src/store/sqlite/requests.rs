//! Idempotency records, runs and the encs of capture sessions.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::column::{Columns, int, millis};
use super::sql::{self, Texts, texts};
use crate::domain::{CaptureSessionId, CredentialId, DataKeyId, RunId, TenantName, Timestamp};
use crate::store::Error;
use crate::store::rows::{IdempotencyRow, RunOutcome, RunRow};

const UPSERT_RECORD: Texts = texts!(
    "INSERT INTO idempotency (tenant, lookup, body_mac, data_key_id, run_id, deadline, expires, status, answer) VALUES ",
    "(?,?,?,?,?,?,?,?,?)",
    " ON CONFLICT (tenant, lookup) DO UPDATE SET body_mac = excluded.body_mac, data_key_id = excluded.data_key_id, \
     run_id = excluded.run_id, deadline = excluded.deadline, expires = excluded.expires, status = excluded.status, \
     answer = excluded.answer"
);
const READ_RECORDS: Texts =
    texts!("SELECT * FROM idempotency WHERE expires > ? AND tenant = ? AND lookup IN (", "?", ")");
const UPSERT_RUN: Texts = texts!(
    "INSERT INTO flow_runs (tenant, run_id, app, flow, flow_version, credential_id, started, deadline, outcome, code, \
     finished) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?)",
    " ON CONFLICT (tenant, run_id) DO UPDATE SET outcome = excluded.outcome, code = excluded.code, \
     finished = excluded.finished"
);
const READ_RUNS: Texts = texts!("SELECT * FROM flow_runs WHERE tenant = ? AND run_id IN (", "?", ")");
const INSERT_ENC: Texts = texts!("INSERT INTO capture_encs (tenant, session, enc, expires) VALUES ", "(?,?,?,?)", "");
const READ_ENCS: Texts = texts!("SELECT enc FROM capture_encs WHERE tenant = ? AND session = ? AND enc IN (", "?", ")");

/// Inserts or replaces idempotency records.
pub(super) async fn upsert_records(
    rows: &[IdempotencyRow],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&UPSERT_RECORD, rows) {
        let mut query = sqlx::query(text);
        for row in part {
            query = query
                .bind(row.tenant.as_str())
                .bind(&row.lookup[..])
                .bind(&row.body_mac[..])
                .bind(&row.data_key_id.as_bytes()[..])
                .bind(row.run_id.as_ref().map(|id| &id.as_bytes()[..]))
                .bind(millis(row.deadline))
                .bind(millis(row.expires))
                .bind(row.answer.as_ref().map(|(status, _)| *status))
                .bind(row.answer.as_ref().map(|(_, answer)| &answer[..]));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A tenant's idempotency records that have not expired.
pub(super) async fn read_records(
    lookups: &[[u8; 32]],
    tenant: &TenantName,
    now: Timestamp,
    connection: &mut SqliteConnection,
) -> Result<Vec<IdempotencyRow>, Error> {
    let mut found = Vec::new();
    for (text, part, fill) in sql::look_ups(&READ_RECORDS, lookups) {
        let query = sqlx::query(text).bind(millis(now)).bind(tenant.as_str());
        let query = part.iter().fold(query, |query, lookup| query.bind(&lookup[..]));
        let query = (0..fill).fold(query, |query, _| query.bind(None::<&[u8]>));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(record(&row, tenant)?);
        }
    }
    Ok(found)
}

fn record(row: &SqliteRow, tenant: &TenantName) -> Result<IdempotencyRow, Error> {
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

/// Inserts runs, or writes their outcome.
pub(super) async fn upsert_runs(rows: &[RunRow], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&UPSERT_RUN, rows) {
        let mut query = sqlx::query(text);
        for row in part {
            let (outcome, code) = outcome_columns(row.outcome);
            query = query
                .bind(row.tenant.as_str())
                .bind(&row.run_id.as_bytes()[..])
                .bind(row.app.as_str())
                .bind(row.flow.0.as_str())
                .bind(int(row.flow.1))
                .bind(&row.credential_id.as_bytes()[..])
                .bind(millis(row.started))
                .bind(millis(row.deadline))
                .bind(outcome)
                .bind(code)
                .bind(row.finished.map(millis));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Runs of a tenant.
pub(super) async fn read_runs(
    run_ids: &[RunId],
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<RunRow>, Error> {
    let mut found = Vec::new();
    for (text, part, fill) in sql::look_ups(&READ_RUNS, run_ids) {
        let query = sqlx::query(text).bind(tenant.as_str());
        let query = part.iter().fold(query, |query, id| query.bind(&id.as_bytes()[..]));
        let query = (0..fill).fold(query, |query, _| query.bind(None::<&[u8]>));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(run(&row, tenant)?);
        }
    }
    Ok(found)
}

fn run(row: &SqliteRow, tenant: &TenantName) -> Result<RunRow, Error> {
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

const fn outcome_columns(outcome: Option<RunOutcome>) -> (Option<&'static str>, Option<&'static str>) {
    match outcome {
        None => (None, None),
        Some(RunOutcome::Completed) => (Some("completed"), None),
        Some(RunOutcome::Failed(code)) => (Some("failed"), Some(code)),
        Some(RunOutcome::Unknown) => (Some("unknown"), None),
    }
}

/// An enc of a tenant's capture session, with the end of the session.
pub(in crate::store) type Enc = (TenantName, CaptureSessionId, [u8; 32], Timestamp);

/// Inserts encs; one that is there already breaks the primary key.
pub(super) async fn insert_encs(rows: &[Enc], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&INSERT_ENC, rows) {
        let mut query = sqlx::query(text);
        for (tenant, session, enc, expires) in part {
            query = query.bind(tenant.as_str()).bind(&session.as_bytes()[..]).bind(&enc[..]).bind(millis(*expires));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Which of these encs the session has seen.
pub(super) async fn read_encs(
    encs: &[[u8; 32]],
    session: CaptureSessionId,
    tenant: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<Vec<[u8; 32]>, Error> {
    let mut found = Vec::new();
    for (text, part, fill) in sql::look_ups(&READ_ENCS, encs) {
        let query = sqlx::query(text).bind(tenant.as_str()).bind(&session.as_bytes()[..]);
        let query = part.iter().fold(query, |query, enc| query.bind(&enc[..]));
        let query = (0..fill).fold(query, |query, _| query.bind(None::<&[u8]>));
        for row in query.fetch_all(&mut *connection).await? {
            found.push(Columns::of("capture_encs", &row).bytes("enc")?);
        }
    }
    Ok(found)
}
