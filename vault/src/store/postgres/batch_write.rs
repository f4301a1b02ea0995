//! What almost every batch writes, in one statement: values, runs, entries with their openings, the signed batch. One round
//! trip where there were five; its parts do not see each other, and none of them needs to.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use super::column::{column, int, millis};
use crate::access_log::{Batch, Group};
use crate::domain::{BootId, TenantName, Timestamp};
use crate::store::batch::{EntryRow, WriteSet};
use crate::store::rows::{RunOutcome, RunRow, ValueRow};

/// A number that is taken breaks a primary key, and all of it; it is never ignored.
const WRITE: &str = "WITH \
     new_values AS (INSERT INTO secure_values (tenant, value_id, app, field, kind, retention, created, expires, uses, \
     session, subject, flows, purposes, verifier, pepper_id, data_key_id, sealed, purge_after) \
     SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], \
     $8::bigint[], $9::bigint[], $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::bytea[], $15::bytea[], \
     $16::bytea[], $17::bytea[], $8::bigint[])), \
     runs AS (INSERT INTO flow_runs (tenant, run_id, app, flow, flow_version, credential_id, started, deadline, outcome, \
     code, finished) SELECT * FROM unnest($18::text[], $19::bytea[], $20::text[], $21::text[], $22::bigint[], \
     $23::bytea[], $24::bigint[], $25::bigint[], $26::text[], $27::text[], $28::bigint[]) \
     ON CONFLICT (tenant, run_id) DO UPDATE SET outcome = excluded.outcome, code = excluded.code, \
     finished = excluded.finished), \
     entries AS (INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, value_id, actor_id, flow, app, \
     object, object_version, state_version, leaf, opening_key, on_behalf_of, address, actor_name, reference) \
     SELECT e.tenant, $29, $30, e.number, e.time, e.action, e.outcome, e.value_id, e.actor_id, e.flow, e.app, e.object, \
     e.object_version, e.state_version, e.leaf, e.opening_key, e.one, e.two, e.three, e.four \
     FROM unnest($31::text[], $32::bigint[], $33::bigint[], $34::text[], $35::text[], $36::bytea[], $37::text[], \
     $38::text[], $39::text[], $40::text[], $41::bigint[], $42::bigint[], $43::bytea[], $44::bytea[], $45::bytea[], \
     $46::bytea[], $47::bytea[], $48::bytea[]) AS e(tenant, number, time, action, outcome, value_id, actor_id, flow, app, \
     object, object_version, state_version, leaf, opening_key, one, two, three, four)), \
     groups AS (INSERT INTO log_groups (tenant, boot, lane, first, count, batch, salt, hash) \
     SELECT g.tenant, $29, $30, g.first, g.count, $49, g.salt, g.hash FROM unnest($50::text[], $51::bigint[], \
     $52::bigint[], $53::bytea[], $54::bytea[]) AS g(tenant, first, count, salt, hash)) \
     INSERT INTO log_batches (tenant, boot, lane, first, count, time, previous, root, signature) \
     SELECT $55::text, $29::bytea, $30::bigint, $49::bigint, $56::bigint, $57::bigint, $58::bytea, $59::bytea, $60::bytea \
     WHERE $56 > 0";
const INSERT_LANE: &str =
    "INSERT INTO log_lanes (tenant, boot, lane, opened, next, previous) VALUES ($1, $2, $3, $4, 0, $5)";

/// No batch: what is written without an entry.
const NONE: Batch = Batch {
    boot: BootId::from_bytes([0; 16]),
    lane: 0,
    first: 0,
    count: 0,
    time: Timestamp::from_millis(0),
    previous: [0; 32],
    root: [0; 32],
    signature: [0; 64],
};

type Writing<'q> = Query<'q, Postgres, PgArguments>;

/// Writes them, and a lane with its first batch.
pub(super) async fn write(set: &WriteSet, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if set.batch.is_none() && set.new_values.is_empty() && set.runs.is_empty() {
        return Ok(());
    }
    let none = (NONE, Vec::new());
    let (batch, groups) = set.batch.as_ref().unwrap_or(&none);
    let values: Vec<&ValueRow> = set.new_values.values().collect();
    let runs: Vec<&RunRow> = set.runs.values().collect();
    let query = bind_runs(bind_values(sqlx::query(WRITE), &values), &runs);
    let query = query.bind(&batch.boot.as_bytes()[..]).bind(i64::from(batch.lane));
    bind_batch(bind_entries(query, &set.entries), batch, groups).execute(&mut *connection).await?;
    if batch.first == 0 && batch.count > 0 {
        sqlx::query(INSERT_LANE)
            .bind(TenantName::SYSTEM)
            .bind(&batch.boot.as_bytes()[..])
            .bind(i64::from(batch.lane))
            .bind(millis(batch.time))
            .bind(&[0_u8; 32][..])
            .execute(connection)
            .await?;
    }
    Ok(())
}

fn bind_values<'q>(query: Writing<'q>, rows: &'q [&'q ValueRow]) -> Writing<'q> {
    query
        .bind(column(rows, |row| row.metadata.tenant.as_str()))
        .bind(column(rows, |row| &row.metadata.value_id.as_bytes()[..]))
        .bind(column(rows, |row| row.metadata.app.as_str()))
        .bind(column(rows, |row| row.metadata.field.as_str()))
        .bind(column(rows, |row| row.metadata.kind.as_str()))
        .bind(column(rows, |row| row.metadata.retention.as_str()))
        .bind(column(rows, |row| millis(row.metadata.created)))
        .bind(column(rows, |row| row.metadata.expires.map(millis)))
        .bind(column(rows, |row| row.metadata.uses.map(i64::from)))
        .bind(column(rows, |row| row.metadata.session.as_ref().map(|id| &id.as_bytes()[..])))
        .bind(column(rows, |row| row.metadata.subject.as_ref().map(|hash| &hash[..])))
        .bind(column(rows, |row| words(row.metadata.binding.flows.iter().map(|name| name.as_str()))))
        .bind(column(rows, |row| words(row.metadata.binding.purposes.iter().map(|name| name.as_str()))))
        .bind(column(rows, |row| &row.verifier[..]))
        .bind(column(rows, |row| &row.pepper_id.as_bytes()[..]))
        .bind(column(rows, |row| &row.data_key_id.as_bytes()[..]))
        .bind(column(rows, |row| &row.sealed[..]))
}

fn bind_runs<'q>(query: Writing<'q>, rows: &'q [&'q RunRow]) -> Writing<'q> {
    query
        .bind(column(rows, |row| row.tenant.as_str()))
        .bind(column(rows, |row| &row.run_id.as_bytes()[..]))
        .bind(column(rows, |row| row.app.as_str()))
        .bind(column(rows, |row| row.flow.0.as_str()))
        .bind(column(rows, |row| int(row.flow.1)))
        .bind(column(rows, |row| &row.credential_id.as_bytes()[..]))
        .bind(column(rows, |row| millis(row.started)))
        .bind(column(rows, |row| millis(row.deadline)))
        .bind(column(rows, |row| outcome_columns(row.outcome).0))
        .bind(column(rows, |row| outcome_columns(row.outcome).1))
        .bind(column(rows, |row| row.finished.map(millis)))
}

fn bind_entries<'q>(query: Writing<'q>, rows: &'q [EntryRow]) -> Writing<'q> {
    let query = query
        .bind(column(rows, |row| row.tenant.as_str()))
        .bind(column(rows, |row| int(row.position.number)))
        .bind(column(rows, |row| millis(row.time)))
        .bind(column(rows, |row| &row.action[..]))
        .bind(column(rows, |row| row.outcome))
        .bind(column(rows, |row| row.value_id.as_ref().map(|id| &id.as_bytes()[..])))
        .bind(column(rows, |row| &row.actor_id[..]))
        .bind(column(rows, |row| row.flow.as_deref()))
        .bind(column(rows, |row| row.app.as_deref()))
        .bind(column(rows, |row| row.object.as_ref().map(|(object, _)| &object[..])))
        .bind(column(rows, |row| row.object.as_ref().map(|(_, version)| int(*version))))
        .bind(column(rows, |row| row.state_version.map(int)))
        .bind(column(rows, |row| &row.leaf[..]))
        .bind(column(rows, |row| row.openings.as_ref().map(|(id, _)| &id.as_bytes()[..])));
    let member = |at: usize| column(rows, move |row| row.openings.as_ref().map(|(_, sealed)| &sealed[at][..]));
    (0..4).fold(query, |query, at| query.bind(member(at)))
}

fn bind_batch<'q>(query: Writing<'q>, batch: &'q Batch, groups: &'q [Group]) -> Writing<'q> {
    query
        .bind(int(batch.first))
        .bind(column(groups, |group| group.tenant.as_str()))
        .bind(column(groups, |group| int(group.first)))
        .bind(column(groups, |group| int(group.count)))
        .bind(column(groups, |group| &group.salt[..]))
        .bind(column(groups, |group| &group.digest[..]))
        .bind(TenantName::SYSTEM)
        .bind(int(batch.count))
        .bind(millis(batch.time))
        .bind(&batch.previous[..])
        .bind(&batch.root[..])
        .bind(&batch.signature[..])
}

/// Names as one column: they hold no blanks.
fn words<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" ")
}

const fn outcome_columns(outcome: Option<RunOutcome>) -> (Option<&'static str>, Option<&'static str>) {
    match outcome {
        None => (None, None),
        Some(RunOutcome::Completed) => (Some("completed"), None),
        Some(RunOutcome::Failed(code)) => (Some("failed"), Some(code)),
        Some(RunOutcome::Unknown) => (Some("unknown"), None),
    }
}
