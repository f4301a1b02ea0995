//! Writing the access log: entries, openings, batches and lanes, generations.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::column::{column, int, millis};
use crate::access_log::{Batch, Group};
use crate::domain::{DataKeyId, TenantName};
use crate::store::batch::EntryRow;

const INSERT_ENTRY: &str = "INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, value_id, actor_id, \
     flow, app, object, object_version, state_version, leaf) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], \
     $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], \
     $13::bigint[], $14::bigint[], $15::bytea[])";
const INSERT_OPENINGS: &str = "INSERT INTO log_openings (tenant, boot, lane, number, data_key_id, on_behalf_of, address, \
     actor_name, reference) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], \
     $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[])";
const INSERT_BATCH: &str = "INSERT INTO log_batches (tenant, boot, lane, first, count, time, previous, root, signature) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const INSERT_LANE: &str =
    "INSERT INTO log_lanes (tenant, boot, lane, opened, next, previous) VALUES ($1, $2, $3, $4, 0, $5)";
const INSERT_GROUP: &str = "INSERT INTO log_groups (tenant, boot, lane, first, count, batch, salt, hash) \
     SELECT n.tenant, $1, $2, n.first, n.count, $3, n.salt, n.hash FROM unnest($4::text[], $5::bigint[], $6::bigint[], \
     $7::bytea[], $8::bytea[]) AS n(tenant, first, count, salt, hash)";
const BUMP_GENERATION: &str = "INSERT INTO generations AS g (tenant, generation) \
     SELECT n.tenant, n.step FROM unnest($1::text[], $2::bigint[]) AS n(tenant, step) ORDER BY n.tenant \
     ON CONFLICT (tenant) DO UPDATE SET generation = g.generation + excluded.generation";

/// The key of an entry's openings and their seals.
type Sealed = (DataKeyId, [Vec<u8>; 4]);

/// Inserts entries. A number that is taken breaks the primary key and is never ignored.
pub(super) async fn insert_entries(rows: &[EntryRow], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT_ENTRY)
        .bind(column(rows, |row| row.tenant.as_str()))
        .bind(column(rows, |row| &row.position.boot.as_bytes()[..]))
        .bind(column(rows, |row| i64::from(row.position.lane)))
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
        .execute(&mut *connection)
        .await?;
    insert_openings(rows, connection).await
}

async fn insert_openings(rows: &[EntryRow], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let opened: Vec<(&EntryRow, &Sealed)> = rows.iter().filter_map(|row| Some((row, row.openings.as_ref()?))).collect();
    if opened.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(INSERT_OPENINGS)
        .bind(column(&opened, |(row, _)| row.tenant.as_str()))
        .bind(column(&opened, |(row, _)| &row.position.boot.as_bytes()[..]))
        .bind(column(&opened, |(row, _)| i64::from(row.position.lane)))
        .bind(column(&opened, |(row, _)| int(row.position.number)))
        .bind(column(&opened, |(_, (data_key_id, _))| &data_key_id.as_bytes()[..]));
    let member = |at: usize| column(&opened, move |(_, (_, sealed))| &sealed[at][..]);
    let query = (0..4).fold(query, |query, at| query.bind(member(at)));
    query.execute(connection).await.map(|_| ())
}

/// Inserts a signed batch with each tenant's share, and its lane with the first one.
pub(super) async fn insert_batch(
    batch: &Batch,
    groups: &[Group],
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query(INSERT_BATCH)
        .bind(TenantName::SYSTEM)
        .bind(&batch.boot.as_bytes()[..])
        .bind(i64::from(batch.lane))
        .bind(int(batch.first))
        .bind(int(batch.count))
        .bind(millis(batch.time))
        .bind(&batch.previous[..])
        .bind(&batch.root[..])
        .bind(&batch.signature[..])
        .execute(&mut *connection)
        .await?;
    if batch.first == 0 {
        sqlx::query(INSERT_LANE)
            .bind(TenantName::SYSTEM)
            .bind(&batch.boot.as_bytes()[..])
            .bind(i64::from(batch.lane))
            .bind(millis(batch.time))
            .bind(&[0_u8; 32][..])
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(INSERT_GROUP)
        .bind(&batch.boot.as_bytes()[..])
        .bind(i64::from(batch.lane))
        .bind(int(batch.first))
        .bind(column(groups, |group| group.tenant.as_str()))
        .bind(column(groups, |group| int(group.first)))
        .bind(column(groups, |group| int(group.count)))
        .bind(column(groups, |group| &group.salt[..]))
        .bind(column(groups, |group| &group.digest[..]))
        .execute(connection)
        .await
        .map(|_| ())
}

/// Moves tenants' generations on.
pub(super) async fn bump_generations(
    steps: &BTreeMap<TenantName, u64>,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    if steps.is_empty() {
        return Ok(());
    }
    let steps: Vec<(&TenantName, &u64)> = steps.iter().collect();
    sqlx::query(BUMP_GENERATION)
        .bind(column(&steps, |(tenant, _)| tenant.as_str()))
        .bind(column(&steps, |(_, step)| int(**step)))
        .execute(connection)
        .await
        .map(|_| ())
}
