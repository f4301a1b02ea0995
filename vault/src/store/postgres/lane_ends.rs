//! How much of a lane is there, by its own signed batches: `log_lanes` is nobody's word.

use sqlx::PgConnection;

use super::PostgresStore;
use super::column::{Columns, int};
use super::integration::batch;
use super::lanes::lane;
use super::pending::with_entries;
use crate::access_log::Batch;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::{LaneTail, PlacedBatch, THERE};

/// The next batches of a lane.
const BATCHES: &str = "SELECT * FROM log_batches WHERE tenant = $1 AND boot = $2 AND lane = $3 AND first >= $4 AND first < $5 \
     ORDER BY first LIMIT 256";

impl PostgresStore {
    /// The last batch of a lane that begins before `next`.
    pub(in crate::store) async fn lane_tail(
        &self,
        boot: BootId,
        number: u32,
        next: u64,
    ) -> Result<Option<LaneTail>, Error> {
        super::snapshot!(self, |connection| {
            let Some(last) = last_before(boot, number, next, connection).await? else { return Ok(None) };
            let tail = tail(&last, connection).await?;
            Ok(Some(tail))
        })
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
        super::snapshot!(self, |connection| {
            let rows = sqlx::query(BATCHES)
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .bind(i64::from(to.lane))
                .bind(int(from.next))
                .bind(int(to.next))
                .fetch_all(&mut *connection)
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
            let is_there = end != from && are_there(boot, to.lane, from.next..end.next, connection).await?;
            Ok(is_there.then_some(end))
        })
    }

    /// The last batch of a lane that begins before `next`, with the indices of its entries.
    pub(in crate::store) async fn batch_before(
        &self,
        boot: BootId,
        lane: u32,
        next: u64,
    ) -> Result<Option<PlacedBatch>, Error> {
        super::snapshot!(self, |connection| {
            let Some(last) = last_before(boot, lane, next, connection).await? else { return Ok(None) };
            let batch = with_entries(vec![last], (boot, lane), connection).await?.pop();
            let Some(batch) = batch else { return Ok(None) };
            let mut indices = Vec::with_capacity(batch.entries.len());
            for (log, position, _) in &batch.entries {
                let row = sqlx::query(
                    "SELECT leaf_index + ($4 - number) AS leaf_index FROM log_index WHERE tenant = $1 AND boot = $2 \
                     AND lane = $3 AND number = (SELECT max(number) FROM log_index WHERE tenant = $1 AND boot = $2 \
                     AND lane = $3 AND number <= $4) AND $4 < number + count",
                )
                .bind(log.as_str())
                .bind(&boot.as_bytes()[..])
                .bind(i64::from(lane))
                .bind(int(position.number))
                .fetch_optional(&mut *connection)
                .await?;
                indices.push(row.map(|row| Columns::of("log_index", &row).number("leaf_index")).transpose()?);
            }
            Ok(Some((batch, indices)))
        })
    }

    /// Where every lane of a boot ends by its newest batch, and whether that batch's entries are there.
    pub(in crate::store) async fn lane_ends(&self, boot: BootId) -> Result<Vec<LaneTail>, Error> {
        super::snapshot!(self, |connection| {
            // From lane to lane by the key: a boot that lived long has millions of batches, and few lanes.
            let lanes: Vec<i64> = sqlx::query_scalar(
                "WITH RECURSIVE lanes (lane) AS (SELECT min(lane) FROM log_batches WHERE tenant = $1 AND boot = $2 \
                 UNION ALL SELECT (SELECT min(b.lane) FROM log_batches b WHERE b.tenant = $1 AND b.boot = $2 \
                 AND b.lane > lanes.lane) FROM lanes WHERE lanes.lane IS NOT NULL) \
                 SELECT lane FROM lanes WHERE lane IS NOT NULL ORDER BY lane",
            )
            .bind(TenantName::SYSTEM)
            .bind(&boot.as_bytes()[..])
            .fetch_all(&mut *connection)
            .await?;
            let mut ends = Vec::with_capacity(lanes.len());
            for lane in lanes {
                let lane = u32::try_from(lane).map_err(|_| Error::Unreadable("log_batches"))?;
                if let Some(last) = last_before(boot, lane, u64::MAX, connection).await? {
                    ends.push(tail(&last, connection).await?);
                }
            }
            Ok(ends)
        })
    }

    /// The number of a log's last entry in a lane.
    pub(in crate::store) async fn last_number(
        &self,
        log: &TenantName,
        boot: BootId,
        lane: u32,
    ) -> Result<Option<u64>, Error> {
        super::reading!(self, |connection| {
            let row = sqlx::query(
                "SELECT first + count - 1 AS last FROM log_groups WHERE tenant = $1 AND boot = $2 AND lane = $3 \
                 ORDER BY first DESC LIMIT 1",
            )
            .bind(log.as_str())
            .bind(&boot.as_bytes()[..])
            .bind(i64::from(lane))
            .fetch_optional(connection)
            .await?;
            row.map(|row| Columns::of("log_groups", &row).number("last")).transpose()
        })
    }

    /// The exact bytes of every `node.stopped` of the system log.
    pub(in crate::store) async fn farewells(&self) -> Result<Vec<Vec<u8>>, Error> {
        super::reading!(self, |connection| {
            let leaves =
                sqlx::query_scalar("SELECT leaf FROM access_log WHERE tenant = $1 AND action = 'node.stopped'")
                    .bind(TenantName::SYSTEM)
                    .fetch_all(connection)
                    .await?;
            Ok(leaves)
        })
    }
}

async fn tail(last: &Batch, connection: &mut PgConnection) -> Result<LaneTail, Error> {
    let numbers = last.first..last.end().next;
    Ok(LaneTail { end: last.end(), is_whole: are_there(last.boot, last.lane, numbers, connection).await? })
}

/// Whether all entries of the batches that make up a range of a lane's numbers are there: with an index if the lane's row
/// says that they are integrated.
async fn are_there(
    boot: BootId,
    number: u32,
    numbers: std::ops::Range<u64>,
    connection: &mut PgConnection,
) -> Result<bool, Error> {
    let progress = sqlx::query("SELECT * FROM log_lanes WHERE tenant = $1 AND boot = $2 AND lane = $3")
        .bind(TenantName::SYSTEM)
        .bind(&boot.as_bytes()[..])
        .bind(i64::from(number))
        .fetch_optional(&mut *connection)
        .await?;
    // A lane without its row waits for nothing.
    let integrated = progress.map(|row| lane(&row)).transpose()?.map_or(u64::MAX, |lane| lane.next);
    let (there, missed): (i64, i64) = sqlx::query_as(THERE)
        .bind(&boot.as_bytes()[..])
        .bind(i64::from(number))
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
    connection: &mut PgConnection,
) -> Result<Option<Batch>, Error> {
    let row = sqlx::query(
        "SELECT * FROM log_batches WHERE tenant = $1 AND boot = $2 AND lane = $3 AND first < $4 ORDER BY first DESC LIMIT 1",
    )
    .bind(TenantName::SYSTEM)
    .bind(&boot.as_bytes()[..])
    .bind(i64::from(lane))
    .bind(int(next))
    .fetch_optional(connection)
    .await?;
    row.map(|row| batch(&row, boot, lane)).transpose()
}
