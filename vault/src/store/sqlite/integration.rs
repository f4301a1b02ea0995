//! The sequencer's rows. Only `log_heads` fences: who compares and swaps it first is the sequencer.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::column::{Columns, int, millis};
use super::fault::fault;
use super::sql::{self, Texts, texts};
use crate::access_log::{Batch, Group, Position};
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::{Checkpointed, Integration, LaneAdvance, LogAdvance, LogHead, PendingBatch};

/// So many batches are read at once.
const BATCHES: usize = 256;
/// Only behind the newest stretch of the log, and of the lane: one that somebody put there before is not written over.
const INSERT_STRETCH: &str = "INSERT INTO log_index (tenant, leaf_index, count, boot, lane, number) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?2 = coalesce((SELECT leaf_index + count FROM log_index WHERE tenant = ?1 \
     ORDER BY leaf_index DESC LIMIT 1), 0) AND ?6 >= coalesce((SELECT number + count FROM log_index WHERE tenant = ?1 \
     AND boot = ?4 AND lane = ?5 ORDER BY number DESC LIMIT 1), 0)";
const UPSERT_TILE: Texts = texts!(
    "INSERT INTO log_tiles (tenant, level, tile, hashes) VALUES ",
    "(?,?,?,?)",
    " ON CONFLICT (tenant, level, tile) DO UPDATE SET hashes = excluded.hashes \
     WHERE length(excluded.hashes) > length(log_tiles.hashes)"
);

impl SqliteStore {
    /// Batches of a lane from its number `from` on, until they hold `most` entries (at least one batch), and whether more
    /// may wait behind them.
    pub(in crate::store) async fn pending(
        &self,
        boot: BootId,
        lane: u32,
        from: u64,
        most: u64,
    ) -> Result<(Vec<PendingBatch>, bool), Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let rows = sqlx::query(
            "SELECT * FROM log_batches WHERE tenant = ? AND boot = ? AND lane = ? AND first >= ? ORDER BY first LIMIT ?",
        )
        .bind(TenantName::SYSTEM)
        .bind(&boot.as_bytes()[..])
        .bind(lane)
        .bind(int(from))
        .bind(int(BATCHES as u64))
        .fetch_all(&mut *snapshot)
        .await?;
        let (mut found, mut sum) = (Vec::new(), 0_u64);
        for row in &rows {
            let batch = batch(row, boot, lane)?;
            sum = sum.saturating_add(batch.count);
            if sum > most && !found.is_empty() {
                break;
            }
            found.push(with_entries(batch, &mut snapshot).await?);
        }
        snapshot.commit().await?;
        Ok((found, sum >= most || rows.len() == BATCHES))
    }

    /// One step of integration in one commit; [`Error::Conflict`] if another sequencer came first.
    pub(in crate::store) async fn integrate(&self, step: &Integration) -> Result<(), Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let written = write(step, &mut batch.transaction).await.map_err(|error| match error {
            Error::Database(error) if fault(&error).is_own_row() => Error::Tampered("log_index"),
            error => error,
        });
        let done = batch.finish(written).await;
        writer.settle(done).await
    }

    /// Stores a checkpoint; gives back the one that is stored for this size, were it another.
    pub(in crate::store) async fn insert_checkpoint(
        &self,
        checkpoint: &Checkpointed,
        log: &TenantName,
    ) -> Result<Checkpointed, Error> {
        let mut writer = self.writer().await;
        let mut batch = writer.begin().await?;
        let written = insert_checkpoint(checkpoint, log, &mut batch.transaction).await.map_err(Error::Database);
        let done = batch.finish(written).await;
        writer.settle(done).await?;
        drop(writer);
        self.checkpoint(log, Some(checkpoint.size)).await?.ok_or(Error::Unavailable)
    }

    /// The newest checkpoint of a log, or that of a size.
    pub(in crate::store) async fn checkpoint(
        &self,
        log: &TenantName,
        size: Option<u64>,
    ) -> Result<Option<Checkpointed>, Error> {
        let row = sqlx::query(
            "SELECT size, time, note FROM checkpoints WHERE tenant = ?1 AND (?2 IS NULL OR size = ?2) \
             ORDER BY size DESC LIMIT 1",
        )
        .bind(log.as_str())
        .bind(size.map(int))
        .fetch_optional(&mut *self.reader().await?)
        .await?;
        row.map(|row| {
            let columns = Columns::of("checkpoints", &row);
            Ok(Checkpointed { size: columns.number("size")?, time: columns.time("time")?, note: columns.get("note")? })
        })
        .transpose()
    }

    /// The heads of all logs; a row that does not read is one fault among them.
    pub(in crate::store) async fn heads(&self) -> Result<Vec<Result<(TenantName, LogHead), Error>>, Error> {
        let rows = sqlx::query("SELECT * FROM log_heads ORDER BY tenant").fetch_all(&mut *self.reader().await?).await?;
        let read = |row: &SqliteRow| {
            let columns = Columns::of("log_heads", row);
            let log = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
            Ok((log, LogHead { size: columns.number("size")?, root: columns.bytes("root")? }))
        };
        Ok(rows.iter().map(read).collect())
    }

    /// The head of a log.
    pub(in crate::store) async fn head(&self, log: &TenantName) -> Result<Option<LogHead>, Error> {
        head(log, &mut *self.reader().await?).await
    }

    /// A hash tile as wide as it is.
    pub(in crate::store) async fn tile(
        &self,
        level: u8,
        tile: u64,
        log: &TenantName,
    ) -> Result<Option<Vec<u8>>, Error> {
        let hashes = sqlx::query_scalar("SELECT hashes FROM log_tiles WHERE tenant = ? AND level = ? AND tile = ?")
            .bind(log.as_str())
            .bind(level)
            .bind(int(tile))
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        Ok(hashes)
    }
}

/// The head of a log.
pub(super) async fn head(log: &TenantName, connection: &mut SqliteConnection) -> Result<Option<LogHead>, Error> {
    let row = sqlx::query("SELECT size, root FROM log_heads WHERE tenant = ?")
        .bind(log.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let columns = Columns::of("log_heads", &row);
        Ok(LogHead { size: columns.number("size")?, root: columns.bytes("root")? })
    })
    .transpose()
}

pub(super) fn batch(row: &SqliteRow, boot: BootId, lane: u32) -> Result<Batch, Error> {
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

pub(super) async fn with_entries(batch: Batch, connection: &mut SqliteConnection) -> Result<PendingBatch, Error> {
    let groups = sqlx::query("SELECT * FROM log_groups WHERE boot = ? AND lane = ? AND batch = ? ORDER BY tenant")
        .bind(&batch.boot.as_bytes()[..])
        .bind(batch.lane)
        .bind(int(batch.first))
        .fetch_all(&mut *connection)
        .await?;
    let groups = groups.iter().map(group).collect::<Result<Vec<_>, _>>()?;
    let mut entries = Vec::new();
    for group in &groups {
        let rows = sqlx::query(
            "SELECT number, leaf FROM access_log WHERE tenant = ? AND boot = ? AND lane = ? AND number >= ? AND number < ? \
             ORDER BY number",
        )
        .bind(group.tenant.as_str())
        .bind(&batch.boot.as_bytes()[..])
        .bind(batch.lane)
        .bind(int(group.first))
        .bind(int(group.first.saturating_add(group.count)))
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            let columns = Columns::of("access_log", row);
            let position = Position { boot: batch.boot, lane: batch.lane, number: columns.number("number")? };
            entries.push((group.tenant.clone(), position, columns.get("leaf")?));
        }
    }
    Ok(PendingBatch { batch, groups, entries })
}

fn group(row: &SqliteRow) -> Result<Group, Error> {
    let columns = Columns::of("log_groups", row);
    Ok(Group {
        tenant: TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?,
        first: columns.number("first")?,
        count: columns.number("count")?,
        salt: columns.bytes("salt")?,
        digest: columns.bytes("hash")?,
    })
}

async fn write(step: &Integration, connection: &mut SqliteConnection) -> Result<(), Error> {
    for log in &step.logs {
        swap_head(log, connection).await?;
        write_log(log, connection).await?;
    }
    for lane in &step.lanes {
        move_lane(lane, connection).await?;
    }
    Ok(())
}

async fn swap_head(log: &LogAdvance, connection: &mut SqliteConnection) -> Result<(), Error> {
    let query = match &log.from {
        None => sqlx::query("INSERT INTO log_heads (size, root, tenant) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"),
        Some(_) => sqlx::query("UPDATE log_heads SET size = ?, root = ? WHERE tenant = ? AND size = ? AND root = ?"),
    };
    let query = query.bind(int(log.to.size)).bind(&log.to.root[..]).bind(log.log.as_str());
    let query = match &log.from {
        None => query,
        Some(head) => query.bind(int(head.size)).bind(&head.root[..]),
    };
    one(query.execute(connection).await?)
}

async fn write_log(log: &LogAdvance, connection: &mut SqliteConnection) -> Result<(), Error> {
    for stretch in log.stretches() {
        let done = sqlx::query(INSERT_STRETCH)
            .bind(log.log.as_str())
            .bind(int(stretch.index))
            .bind(int(stretch.count))
            .bind(&stretch.begin.boot.as_bytes()[..])
            .bind(stretch.begin.lane)
            .bind(int(stretch.begin.number))
            .execute(&mut *connection)
            .await?;
        // Lane and head were swapped, so no other sequencer wrote these: somebody put a row there before.
        if done.rows_affected() != 1 {
            return Err(Error::Tampered("log_index"));
        }
    }
    for (text, part) in sql::parts(&UPSERT_TILE, &log.tiles) {
        let mut query = sqlx::query(text);
        for tile in part {
            query = query.bind(log.log.as_str()).bind(tile.level).bind(int(tile.tile)).bind(&tile.hashes[..]);
        }
        query.execute(&mut *connection).await?;
    }
    match &log.checkpoint {
        Some(checkpoint) => Ok(insert_checkpoint(checkpoint, &log.log, connection).await?),
        None => Ok(()),
    }
}

async fn insert_checkpoint(
    checkpoint: &Checkpointed,
    log: &TenantName,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO checkpoints (tenant, size, time, note) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(log.as_str())
        .bind(int(checkpoint.size))
        .bind(millis(checkpoint.time))
        .bind(&checkpoint.note[..])
        .execute(connection)
        .await
        .map(|_| ())
}

async fn move_lane(lane: &LaneAdvance, connection: &mut SqliteConnection) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE log_lanes SET next = ?, previous = ? WHERE tenant = ? AND boot = ? AND lane = ? AND next = ?",
    )
    .bind(int(lane.next))
    .bind(&lane.previous[..])
    .bind(TenantName::SYSTEM)
    .bind(&lane.boot.as_bytes()[..])
    .bind(lane.lane)
    .bind(int(lane.from))
    .execute(connection)
    .await?;
    one(done)
}

/// A compare-and-swap that did not find its row: somebody came first.
fn one(done: sqlx::sqlite::SqliteQueryResult) -> Result<(), Error> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Conflict) }
}
