//! The sequencer's rows. `log_lanes` and `log_heads` fence: who compares and swaps them first is the sequencer.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::column::{Columns, column, int, millis};
use super::fault::fault;
use crate::access_log::{Batch, Group};
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::{Checkpointed, Integration, LaneAdvance, LogAdvance, LogHead};

/// Only behind the newest stretch of the log, and of the lane: one that somebody put there before is not written over.
const INSERT_STRETCH: &str = "INSERT INTO log_index (tenant, leaf_index, count, boot, lane, number) \
     SELECT $1, $2, $3, $4, $5, $6 WHERE $2 = coalesce((SELECT leaf_index + count FROM log_index WHERE tenant = $1 \
     ORDER BY leaf_index DESC LIMIT 1), 0) AND $6 >= coalesce((SELECT number + count FROM log_index WHERE tenant = $1 \
     AND boot = $4 AND lane = $5 ORDER BY number DESC LIMIT 1), 0)";
const UPSERT_TILE: &str = "INSERT INTO log_tiles (tenant, level, tile, hashes) \
     SELECT $1, unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::bytea[]) \
     ON CONFLICT (tenant, level, tile) DO UPDATE SET hashes = excluded.hashes \
     WHERE length(excluded.hashes) > length(log_tiles.hashes)";

impl PostgresStore {
    /// One step of integration in one commit; [`Error::Conflict`] if another sequencer came first.
    pub(in crate::store) async fn integrate(&self, step: &Integration) -> Result<(), Error> {
        super::writing!(self, |connection| {
            write(step, connection).await.map_err(|error| match error {
                Error::Database(error) if fault(&error).is_own_row() => Error::Tampered("log_index"),
                error => error,
            })
        })
    }

    /// Stores a checkpoint; gives back the one that is stored for this size, were it another.
    pub(in crate::store) async fn insert_checkpoint(
        &self,
        checkpoint: &Checkpointed,
        log: &TenantName,
    ) -> Result<Checkpointed, Error> {
        self.write_checkpoint(checkpoint, log).await?;
        self.checkpoint(log, Some(checkpoint.size)).await?.ok_or(Error::Unavailable)
    }

    async fn write_checkpoint(&self, checkpoint: &Checkpointed, log: &TenantName) -> Result<(), Error> {
        super::writing!(self, |connection| insert_checkpoint(checkpoint, log, connection)
            .await
            .map_err(Error::Database))
    }

    /// The newest checkpoint of a log, or that of a size.
    pub(in crate::store) async fn checkpoint(
        &self,
        log: &TenantName,
        size: Option<u64>,
    ) -> Result<Option<Checkpointed>, Error> {
        super::reading!(self, |connection| {
            let row = sqlx::query(
                "SELECT size, time, note FROM checkpoints WHERE tenant = $1 AND ($2::bigint IS NULL OR size = $2) \
             ORDER BY size DESC LIMIT 1",
            )
            .bind(log.as_str())
            .bind(size.map(int))
            .fetch_optional(connection)
            .await?;
            row.map(|row| {
                let columns = Columns::of("checkpoints", &row);
                Ok(Checkpointed {
                    size: columns.number("size")?,
                    time: columns.time("time")?,
                    note: columns.get("note")?,
                })
            })
            .transpose()
        })
    }

    /// The heads of all logs; a row that does not read is one fault among them.
    pub(in crate::store) async fn heads(&self) -> Result<Vec<Result<(TenantName, LogHead), Error>>, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query("SELECT * FROM log_heads ORDER BY tenant").fetch_all(connection).await?;
            let read = |row: &PgRow| {
                let columns = Columns::of("log_heads", row);
                let log = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
                Ok((log, LogHead { size: columns.number("size")?, root: columns.bytes("root")? }))
            };
            Ok(rows.iter().map(read).collect())
        })
    }

    /// The head of a log.
    pub(in crate::store) async fn head(&self, log: &TenantName) -> Result<Option<LogHead>, Error> {
        super::reading!(self, |connection| head(log, connection).await)
    }

    /// A hash tile as wide as it is.
    pub(in crate::store) async fn tile(
        &self,
        level: u8,
        tile: u64,
        log: &TenantName,
    ) -> Result<Option<Vec<u8>>, Error> {
        super::reading!(self, |connection| {
            let hashes =
                sqlx::query_scalar("SELECT hashes FROM log_tiles WHERE tenant = $1 AND level = $2 AND tile = $3")
                    .bind(log.as_str())
                    .bind(i64::from(level))
                    .bind(int(tile))
                    .fetch_optional(connection)
                    .await?;
            Ok(hashes)
        })
    }
}

/// The head of a log.
pub(super) async fn head(log: &TenantName, connection: &mut PgConnection) -> Result<Option<LogHead>, Error> {
    let row = sqlx::query("SELECT size, root FROM log_heads WHERE tenant = $1")
        .bind(log.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let columns = Columns::of("log_heads", &row);
        Ok(LogHead { size: columns.number("size")?, root: columns.bytes("root")? })
    })
    .transpose()
}

pub(super) fn batch(row: &PgRow, boot: BootId, lane: u32) -> Result<Batch, Error> {
    let columns = Columns::of("log_batches", row);
    Ok(Batch {
        boot,
        lane,
        first: columns.number("first")?,
        count: columns.number("count")?,
        time: columns.time("time")?,
        previous: columns.bytes("previous")?,
        root: columns.bytes("root")?,
        signature: columns.bytes("signature")?,
    })
}

pub(super) fn group(row: &PgRow) -> Result<Group, Error> {
    let columns = Columns::of("log_groups", row);
    Ok(Group {
        tenant: TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?,
        first: columns.number("first")?,
        count: columns.number("count")?,
        salt: columns.bytes("salt")?,
        digest: columns.bytes("hash")?,
    })
}

async fn write(step: &Integration, connection: &mut PgConnection) -> Result<(), Error> {
    // The lanes first: a sequencer that read a lane before another one integrated it, and the head after, must meet the
    // lane that moved on and not the indices that are taken.
    for lane in &step.lanes {
        move_lane(lane, connection).await?;
    }
    for log in &step.logs {
        swap_head(log, connection).await?;
        write_log(log, connection).await?;
    }
    Ok(())
}

async fn swap_head(log: &LogAdvance, connection: &mut PgConnection) -> Result<(), Error> {
    let query = match &log.from {
        None => sqlx::query("INSERT INTO log_heads (size, root, tenant) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"),
        Some(_) => {
            sqlx::query("UPDATE log_heads SET size = $1, root = $2 WHERE tenant = $3 AND size = $4 AND root = $5")
        }
    };
    let query = query.bind(int(log.to.size)).bind(&log.to.root[..]).bind(log.log.as_str());
    let query = match &log.from {
        None => query,
        Some(head) => query.bind(int(head.size)).bind(&head.root[..]),
    };
    one(query.execute(connection).await?)
}

async fn write_log(log: &LogAdvance, connection: &mut PgConnection) -> Result<(), Error> {
    for stretch in log.stretches() {
        let done = sqlx::query(INSERT_STRETCH)
            .bind(log.log.as_str())
            .bind(int(stretch.index))
            .bind(int(stretch.count))
            .bind(&stretch.begin.boot.as_bytes()[..])
            .bind(i64::from(stretch.begin.lane))
            .bind(int(stretch.begin.number))
            .execute(&mut *connection)
            .await?;
        // Lane and head were swapped, so no other sequencer wrote these: somebody put a row there before.
        if done.rows_affected() != 1 {
            return Err(Error::Tampered("log_index"));
        }
    }
    sqlx::query(UPSERT_TILE)
        .bind(log.log.as_str())
        .bind(column(&log.tiles, |tile| i64::from(tile.level)))
        .bind(column(&log.tiles, |tile| int(tile.tile)))
        .bind(column(&log.tiles, |tile| &tile.hashes[..]))
        .execute(&mut *connection)
        .await?;
    match &log.checkpoint {
        Some(checkpoint) => Ok(insert_checkpoint(checkpoint, &log.log, connection).await?),
        None => Ok(()),
    }
}

async fn insert_checkpoint(
    checkpoint: &Checkpointed,
    log: &TenantName,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO checkpoints (tenant, size, time, note) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(log.as_str())
        .bind(int(checkpoint.size))
        .bind(millis(checkpoint.time))
        .bind(&checkpoint.note[..])
        .execute(connection)
        .await
        .map(|_| ())
}

async fn move_lane(lane: &LaneAdvance, connection: &mut PgConnection) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE log_lanes SET next = $1, previous = $2 WHERE tenant = $3 AND boot = $4 AND lane = $5 AND next = $6",
    )
    .bind(int(lane.next))
    .bind(&lane.previous[..])
    .bind(TenantName::SYSTEM)
    .bind(&lane.boot.as_bytes()[..])
    .bind(i64::from(lane.lane))
    .bind(int(lane.from))
    .execute(connection)
    .await?;
    one(done)
}

/// A compare-and-swap that did not find its row: somebody came first.
fn one(done: sqlx::postgres::PgQueryResult) -> Result<(), Error> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Conflict) }
}
