//! Writing the access log: entries with their openings, batches and lanes, generations.

use sqlx::SqliteConnection;

use super::column::{int, millis};
use super::sql::{self, Texts, texts};
use crate::access_log::{Batch, Group};
use crate::domain::TenantName;
use crate::store::batch::EntryRow;

const INSERT_ENTRY: Texts = texts!(
    "INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, value_id, actor_id, flow, app, object, \
     object_version, state_version, leaf, opening_key, on_behalf_of, address, actor_name, reference) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    ""
);
const INSERT_GROUP: Texts = texts!(
    "INSERT INTO log_groups (tenant, boot, lane, first, count, batch, salt, hash) VALUES ",
    "(?,?,?,?,?,?,?,?)",
    ""
);

/// Inserts entries. A number that is taken breaks the primary key and is never ignored.
pub(super) async fn insert_entries(rows: &[EntryRow], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    for (text, part) in sql::parts(&INSERT_ENTRY, rows) {
        let mut query = sqlx::query(text);
        for row in part {
            query = query
                .bind(row.entry.tenant.as_str())
                .bind(&row.position.boot.as_bytes()[..])
                .bind(row.position.lane)
                .bind(int(row.position.number))
                .bind(millis(row.entry.time))
                .bind(&*row.action)
                .bind(row.entry.outcome.as_str())
                .bind(row.value_id())
                .bind(&row.entry.actor.id[..])
                .bind(row.flow())
                .bind(row.app())
                .bind(row.object.as_ref().map(|(object, _)| &object[..]))
                .bind(row.object.as_ref().map(|(_, version)| int(*version)))
                .bind(row.entry.state_version.map(int))
                .bind(&row.leaf[..])
                .bind(row.openings.as_ref().map(|(key, _)| &key.as_bytes()[..]));
            let member = |at: usize| row.openings.as_ref().map(|(_, sealed)| &sealed[at][..]);
            query = (0..4).fold(query, |query, at| query.bind(member(at)));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Inserts a signed batch with each tenant's share, and its lane with the first one.
pub(super) async fn insert_batch(
    batch: &Batch,
    groups: &[Group],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO log_batches (tenant, boot, lane, first, count, time, previous, root, signature) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(TenantName::SYSTEM)
    .bind(&batch.boot.as_bytes()[..])
    .bind(batch.lane)
    .bind(int(batch.first))
    .bind(int(batch.count))
    .bind(millis(batch.time))
    .bind(&batch.previous[..])
    .bind(&batch.root[..])
    .bind(&batch.signature[..])
    .execute(&mut *connection)
    .await?;
    if batch.first == 0 {
        sqlx::query("INSERT INTO log_lanes (tenant, boot, lane, opened, next, previous) VALUES (?, ?, ?, ?, 0, ?)")
            .bind(TenantName::SYSTEM)
            .bind(&batch.boot.as_bytes()[..])
            .bind(batch.lane)
            .bind(millis(batch.time))
            .bind(&[0_u8; 32][..])
            .execute(&mut *connection)
            .await?;
    }
    for (text, part) in sql::parts(&INSERT_GROUP, groups) {
        let mut query = sqlx::query(text);
        for group in part {
            query = query
                .bind(group.tenant.as_str())
                .bind(&batch.boot.as_bytes()[..])
                .bind(batch.lane)
                .bind(int(group.first))
                .bind(int(group.count))
                .bind(int(batch.first))
                .bind(&group.salt[..])
                .bind(&group.digest[..]);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Moves a tenant's generation on.
pub(super) async fn bump_generation(
    tenant: &TenantName,
    by: u64,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO generations (tenant, generation) VALUES (?, ?) \
         ON CONFLICT (tenant) DO UPDATE SET generation = generation + excluded.generation",
    )
    .bind(tenant.as_str())
    .bind(int(by))
    .execute(connection)
    .await
    .map(|_| ())
}
