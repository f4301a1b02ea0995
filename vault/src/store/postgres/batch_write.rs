//! What almost every batch writes, in one statement: values, runs, entries with their openings, encs, the signed batch. One round
//! trip where there were five; its parts do not see each other, and none of them needs to.

use std::collections::BTreeMap;

use sqlx::postgres::{PgArguments, PgHasArrayType};
use sqlx::query::Query;
use sqlx::{Encode, PgConnection, Postgres, Type};

use super::batch_copy;
use super::column::{column, int, millis};
use crate::access_log::{Batch, Group};
use crate::domain::{BootId, CaptureSessionId, TenantName, Timestamp};
use crate::store::batch::{EntryRow, WriteSet};
use crate::store::rows::{RunOutcome, RunRow, ValueRow};

/// The columns of new values, in the order in which a statement and a copy give them.
macro_rules! value_columns {
    () => {
        "tenant, value_id, app, field, kind, retention, created, expires, uses, session, subject, flows, purposes, verifier, \
         pepper_id, data_key_id, sealed, purge_after"
    };
}

/// The same of entries.
macro_rules! entry_columns {
    () => {
        "tenant, boot, lane, number, time, action, outcome, value_id, actor_id, flow, app, object, object_version, \
         state_version, leaf, opening_key, on_behalf_of, address, actor_name, reference"
    };
}

pub(super) use {entry_columns, value_columns};

/// Arrays that are shorter than the others are filled up with nothing: `coalesce` puts what all rows have in common there.
/// A number that is taken breaks a primary key, and all of it; it is never ignored.
/// `unnest` stands among the columns, where the server steps through all arrays side by side; after FROM it fills a store of its
/// own for each of them first, which took a fifth of the statement's time.
const WRITE: &str = concat!(
    "WITH new_values AS (INSERT INTO secure_values (",
    value_columns!(),
    ") SELECT coalesce(v.tenant, $2), v.value_id, coalesce(v.app, $5), coalesce(v.field, $7), coalesce(v.kind, $9), \
     coalesce(v.retention, $11), v.created, coalesce(v.expires, $14), coalesce(v.uses, $16), coalesce(v.session, \
     $18), coalesce(v.subject, $20), coalesce(v.flows, $22), coalesce(v.purposes, $24), v.verifier, \
     coalesce(v.pepper_id, $27), coalesce(v.data_key_id, $29), v.sealed, coalesce(v.expires, $14) FROM (SELECT \
     unnest($1::text[]) AS tenant, unnest($3::bytea[]) AS value_id, unnest($4::text[]) AS app, unnest($6::text[]) AS \
     field, unnest($8::text[]) AS kind, unnest($10::text[]) AS retention, unnest($12::bigint[]) AS created, \
     unnest($13::bigint[]) AS expires, unnest($15::bigint[]) AS uses, unnest($17::bytea[]) AS session, \
     unnest($19::bytea[]) AS subject, unnest($21::text[]) AS flows, unnest($23::text[]) AS purposes, \
     unnest($25::bytea[]) AS verifier, unnest($26::bytea[]) AS pepper_id, unnest($28::bytea[]) AS data_key_id, \
     unnest($30::bytea[]) AS sealed) AS v), runs AS (INSERT INTO flow_runs (tenant, run_id, app, flow, flow_version, \
     credential_id, started, deadline, outcome, code, finished) SELECT unnest($31::text[]), unnest($32::bytea[]), \
     unnest($33::text[]), unnest($34::text[]), unnest($35::bigint[]), unnest($36::bytea[]), unnest($37::bigint[]), \
     unnest($38::bigint[]), unnest($39::text[]), unnest($40::text[]), unnest($41::bigint[]) ON CONFLICT (tenant, \
     run_id) DO UPDATE SET outcome = excluded.outcome, code = excluded.code, finished = excluded.finished), entries \
     AS (INSERT INTO access_log (",
    entry_columns!(),
    ") SELECT coalesce(e.tenant, $45), $42, $43, e.number, coalesce(e.time, $48), coalesce(e.action, $50), \
     coalesce(e.outcome, $52), e.value_id, coalesce(e.actor_id, $55), coalesce(e.flow, $57), coalesce(e.app, $59), \
     e.object, e.object_version, coalesce(e.state_version, $63), e.leaf, coalesce(e.opening_key, $66), e.one, e.two, \
     e.three, e.four FROM (SELECT unnest($44::text[]) AS tenant, unnest($46::bigint[]) AS number, \
     unnest($47::bigint[]) AS time, unnest($49::text[]) AS action, unnest($51::text[]) AS outcome, \
     unnest($53::bytea[]) AS value_id, unnest($54::text[]) AS actor_id, unnest($56::text[]) AS flow, \
     unnest($58::text[]) AS app, unnest($60::text[]) AS object, unnest($61::bigint[]) AS object_version, \
     unnest($62::bigint[]) AS state_version, unnest($64::bytea[]) AS leaf, unnest($65::bytea[]) AS opening_key, \
     unnest($67::bytea[]) AS one, unnest($68::bytea[]) AS two, unnest($69::bytea[]) AS three, unnest($70::bytea[]) AS \
     four) AS e), groups AS (INSERT INTO log_groups (tenant, boot, lane, first, count, batch, salt, hash) SELECT \
     g.tenant, $42, $43, g.first, g.count, $71, g.salt, g.hash FROM (SELECT unnest($72::text[]) AS tenant, \
     unnest($73::bigint[]) AS first, unnest($74::bigint[]) AS count, unnest($75::bytea[]) AS salt, \
     unnest($76::bytea[]) AS hash) AS g), encs AS (INSERT INTO capture_encs (tenant, session, enc, expires) SELECT \
     unnest($83::text[]), unnest($84::bytea[]), unnest($85::bytea[]), unnest($86::bigint[])) INSERT INTO log_batches \
     (tenant, boot, lane, first, count, time, previous, root, signature) SELECT $77::text, $42::bytea, $43::bigint, \
     $71::bigint, $78::bigint, $79::bigint, $80::bytea, $81::bytea, $82::bytea WHERE $78 > 0",
);
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
    if set.batch.is_none() && set.new_values.is_empty() && set.runs.is_empty() && set.encs.is_empty() {
        return Ok(());
    }
    let none = (NONE, Vec::new());
    let (batch, groups) = set.batch.as_ref().unwrap_or(&none);
    let mut values: Vec<&ValueRow> = set.new_values.values().map(AsRef::as_ref).collect();
    let mut entries = &set.entries[..];
    if values.len() >= batch_copy::MANY {
        batch_copy::values(&values, connection).await?;
        values.clear();
    }
    if entries.len() >= batch_copy::MANY {
        batch_copy::entries(entries, batch, connection).await?;
        entries = &[];
    }
    let runs: Vec<&RunRow> = set.runs.values().collect();
    let query = bind_runs(bind_values(sqlx::query(WRITE), &values), &runs);
    let query = query.bind(&batch.boot.as_bytes()[..]).bind(i64::from(batch.lane));
    let query = bind_batch(bind_entries(query, entries), batch, groups);
    bind_encs(query, &set.encs).execute(&mut *connection).await?;
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
    let query = common(query, rows, |row| Some(row.metadata.tenant.as_str()))
        .bind(column(rows, |row| &row.metadata.value_id.as_bytes()[..]));
    let query = common(query, rows, |row| Some(row.metadata.app.as_str()));
    let query = common(query, rows, |row| Some(row.metadata.field.as_str()));
    let query = common(query, rows, |row| Some(row.metadata.kind.as_str()));
    let query = common(query, rows, |row| Some(row.metadata.retention.as_str()))
        .bind(column(rows, |row| millis(row.metadata.created)));
    let query = common(query, rows, |row| row.metadata.expires.map(millis));
    let query = common(query, rows, |row| row.metadata.uses.map(i64::from));
    let query = common(query, rows, |row| row.metadata.session.as_ref().map(|id| &id.as_bytes()[..]));
    let query = common(query, rows, |row| row.metadata.subject.as_ref().map(|hash| &hash[..]));
    let query = common(query, rows, |row| Some(words(row.metadata.binding.flows.iter().map(|name| name.as_str()))));
    let query = common(query, rows, |row| Some(words(row.metadata.binding.purposes.iter().map(|name| name.as_str()))))
        .bind(column(rows, |row| &row.verifier[..]));
    let query = common(query, rows, |row| Some(&row.pepper_id.as_bytes()[..]));
    common(query, rows, |row| Some(&row.data_key_id.as_bytes()[..])).bind(column(rows, |row| &row.sealed[..]))
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
    let query =
        common(query, rows, |row| Some(row.entry.tenant.as_str())).bind(column(rows, |row| int(row.position.number)));
    let query = common(query, rows, |row| Some(millis(row.entry.time)));
    let query = common(query, rows, |row| Some(&*row.action));
    let query = common(query, rows, |row| Some(row.entry.outcome.as_str())).bind(column(rows, EntryRow::value_id));
    let query = common(query, rows, |row| Some(&row.entry.actor.id[..]));
    let query = common(query, rows, EntryRow::flow);
    let query = common(query, rows, EntryRow::app)
        .bind(column(rows, |row| row.object.as_ref().map(|(object, _)| &object[..])))
        .bind(column(rows, |row| row.object.as_ref().map(|(_, version)| int(*version))));
    let query = common(query, rows, |row| row.entry.state_version.map(int)).bind(column(rows, |row| &row.leaf[..]));
    let query = common(query, rows, |row| row.openings.as_ref().map(|(id, _)| &id.as_bytes()[..]));
    let member = |at: usize| column(rows, move |row| row.openings.as_ref().map(|(_, sealed)| &sealed[at][..]));
    (0..4).fold(query, |query, at| query.bind(member(at)))
}

/// Binds a column that most batches have the same in all rows: then no row for it and the text once, else a row for each and
/// nothing once. For the server an array is work for each element of it.
fn common<'q, R, T>(query: Writing<'q>, rows: &'q [R], of: impl Fn(&'q R) -> Option<T>) -> Writing<'q>
where
    T: PartialEq + Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'q,
{
    let first = rows.first().and_then(&of);
    if rows.iter().all(|row| of(row) == first) {
        query.bind(Vec::<Option<T>>::new()).bind(first)
    } else {
        query.bind(column(rows, of)).bind(None::<T>)
    }
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

/// Encs with the ends of their sessions; one that is there already breaks the primary key.
fn bind_encs<'q>(
    query: Writing<'q>,
    encs: &'q BTreeMap<(TenantName, CaptureSessionId, [u8; 32]), Timestamp>,
) -> Writing<'q> {
    let rows: Vec<_> = encs.iter().collect();
    query
        .bind(rows.iter().map(|((tenant, ..), _)| tenant.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|((_, session, _), _)| &session.as_bytes()[..]).collect::<Vec<_>>())
        .bind(rows.iter().map(|((.., enc), _)| &enc[..]).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, expires)| millis(**expires)).collect::<Vec<_>>())
}

/// Names as one column: they hold no blanks.
pub(super) fn words<'a>(names: impl Iterator<Item = &'a str>) -> String {
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
