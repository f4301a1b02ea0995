//! How much of a lane is there, by its own signed batches: `log_lanes` is nobody's word.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::column::{Columns, int};
use super::integration::{batch, with_entries};
use super::lanes::lane;
use crate::access_log::Batch;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::{LaneTail, PlacedBatch, THERE};

/// The next batches of a lane.
const BATCHES: &str = "SELECT * FROM log_batches WHERE tenant = ? AND boot = ? AND lane = ? AND first >= ? AND first < ? \
     ORDER BY first LIMIT 256";

/// The index is named: SQLite would rather read all of the log by its key.
pub(super) const FAREWELLS: &str =
    "SELECT leaf FROM access_log INDEXED BY access_log_farewells WHERE tenant = ? AND action = 'node.stopped'";

pub(super) const LAST_NUMBER: &str = "SELECT first + count - 1 AS last FROM log_groups WHERE tenant = ? AND boot = ? AND lane = ? \
     ORDER BY first DESC LIMIT 1";

impl SqliteStore {
    /// The last batch of a lane that begins before `next`.
    pub(in crate::store) async fn lane_tail(
        &self,
        boot: BootId,
        number: u32,
        next: u64,
    ) -> Result<Option<LaneTail>, Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let Some(last) = last_before(boot, number, next, &mut snapshot).await? else { return Ok(None) };
        let tail = tail(&last, &mut snapshot).await?;
        snapshot.commit().await?;
        Ok(Some(tail))
    }

    /// How far a lane is there from one of its ends on: batches with so many entries, at least one, on the way to the end
    /// `to`. Nothing if one is missing, not chained, or without an entry.
    pub(in crate::store) async fn chained(
        &self,
        boot: BootId,
        from: LaneEnd,
        to: LaneEnd,
        most: u64,
    ) -> Result<Option<LaneEnd>, Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let rows = sqlx::query(BATCHES)
            .bind(TenantName::SYSTEM)
            .bind(&boot.as_bytes()[..])
            .bind(to.lane)
            .bind(int(from.next))
            .bind(int(to.next))
            .fetch_all(&mut *snapshot)
            .await?;
        let mut end = from;
        for row in &rows {
            let batch = batch(row, boot, to.lane)?;
            if (batch.first, batch.previous) != (end.next, end.previous) || batch.count == 0 {
                return Ok(None);
            }
            if end != from && batch.end().next - from.next > most {
                break;
            }
            end = batch.end();
        }
        let is_there = end != from && are_there(boot, to.lane, from.next..end.next, &mut snapshot).await?;
        snapshot.commit().await?;
        Ok(is_there.then_some(end))
    }

    /// The last batch of a lane that begins before `next`, with the indices of its entries.
    pub(in crate::store) async fn batch_before(
        &self,
        boot: BootId,
        lane: u32,
        next: u64,
    ) -> Result<Option<PlacedBatch>, Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let Some(last) = last_before(boot, lane, next, &mut snapshot).await? else { return Ok(None) };
        let batch = with_entries(last, &mut snapshot).await?;
        let mut indices = Vec::with_capacity(batch.entries.len());
        for (log, position, _) in &batch.entries {
            let row = sqlx::query(
                "SELECT leaf_index + (?4 - number) AS leaf_index FROM log_index WHERE tenant = ?1 AND boot = ?2 AND lane = ?3 \
                 AND number = (SELECT max(number) FROM log_index WHERE tenant = ?1 AND boot = ?2 AND lane = ?3 \
                 AND number <= ?4) AND ?4 < number + count",
            )
            .bind(log.as_str())
            .bind(&boot.as_bytes()[..])
            .bind(lane)
            .bind(int(position.number))
            .fetch_optional(&mut *snapshot)
            .await?;
            indices.push(row.map(|row| Columns::of("log_index", &row).number("leaf_index")).transpose()?);
        }
        snapshot.commit().await?;
        Ok(Some((batch, indices)))
    }

    /// Where every lane of a boot ends by its newest batch, and whether that batch's entries are there.
    pub(in crate::store) async fn lane_ends(&self, boot: BootId) -> Result<Vec<LaneTail>, Error> {
        let mut reader = self.reader().await?;
        let mut snapshot = sqlx::Connection::begin(&mut *reader).await?;
        let lanes: Vec<u32> =
            sqlx::query_scalar("SELECT DISTINCT lane FROM log_batches WHERE tenant = ? AND boot = ? ORDER BY lane")
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .fetch_all(&mut *snapshot)
                .await?;
        let mut ends = Vec::with_capacity(lanes.len());
        for lane in lanes {
            if let Some(last) = last_before(boot, lane, u64::MAX, &mut snapshot).await? {
                ends.push(tail(&last, &mut snapshot).await?);
            }
        }
        snapshot.commit().await?;
        Ok(ends)
    }

    /// The number of a log's last entry in a lane.
    pub(in crate::store) async fn last_number(
        &self,
        log: &TenantName,
        boot: BootId,
        lane: u32,
    ) -> Result<Option<u64>, Error> {
        let row = sqlx::query(LAST_NUMBER)
            .bind(log.as_str())
            .bind(&boot.as_bytes()[..])
            .bind(lane)
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        row.map(|row| Columns::of("log_groups", &row).number("last")).transpose()
    }

    /// The exact bytes of every `node.stopped` of the system log.
    pub(in crate::store) async fn farewells(&self) -> Result<Vec<Vec<u8>>, Error> {
        let leaves =
            sqlx::query_scalar(FAREWELLS).bind(TenantName::SYSTEM).fetch_all(&mut *self.reader().await?).await?;
        Ok(leaves)
    }
}

async fn tail(last: &Batch, connection: &mut SqliteConnection) -> Result<LaneTail, Error> {
    let numbers = last.first..last.end().next;
    Ok(LaneTail { end: last.end(), is_whole: are_there(last.boot, last.lane, numbers, connection).await? })
}

/// Whether all entries of the batches that make up a range of a lane's numbers are there: with an index if the lane's row
/// says that they are integrated.
async fn are_there(
    boot: BootId,
    number: u32,
    numbers: std::ops::Range<u64>,
    connection: &mut SqliteConnection,
) -> Result<bool, Error> {
    let progress = sqlx::query("SELECT * FROM log_lanes WHERE tenant = ? AND boot = ? AND lane = ?")
        .bind(TenantName::SYSTEM)
        .bind(&boot.as_bytes()[..])
        .bind(number)
        .fetch_optional(&mut *connection)
        .await?;
    // A lane without its row waits for nothing.
    let integrated = progress.map(|row| lane(&row)).transpose()?.map_or(u64::MAX, |lane| lane.next);
    let (there, missed): (i64, i64) = sqlx::query_as(THERE)
        .bind(&boot.as_bytes()[..])
        .bind(number)
        .bind(int(numbers.start))
        .bind(int(numbers.end))
        .bind(int(integrated))
        .fetch_one(connection)
        .await?;
    Ok(there == int(numbers.end.saturating_sub(numbers.start)) && missed == 0)
}

async fn last_before(
    boot: BootId,
    lane: u32,
    next: u64,
    connection: &mut SqliteConnection,
) -> Result<Option<Batch>, Error> {
    let row = sqlx::query(
        "SELECT * FROM log_batches WHERE tenant = ? AND boot = ? AND lane = ? AND first < ? ORDER BY first DESC LIMIT 1",
    )
    .bind(TenantName::SYSTEM)
    .bind(&boot.as_bytes()[..])
    .bind(lane)
    .bind(int(next))
    .fetch_optional(connection)
    .await?;
    row.map(|row| batch(&row, boot, lane)).transpose()
}
