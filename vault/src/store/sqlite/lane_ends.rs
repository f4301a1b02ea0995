//! How much of a lane is there, by its own signed batches: `log_lanes` is nobody's word.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::column::int;
use super::integration::{batch, lane};
use crate::access_log::Batch;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::LaneTail;

/// A batch's entries that are there, and those of them that have an index.
const THERE: &str = "SELECT count(*), count(i.leaf_index) FROM log_groups g \
     CROSS JOIN access_log a ON a.tenant = g.tenant AND a.boot = g.boot AND a.lane = g.lane AND a.number >= g.first \
     AND a.number < g.first + g.count \
     LEFT JOIN log_index i ON i.tenant = a.tenant AND i.boot = a.boot AND i.lane = a.lane AND i.number = a.number \
     WHERE g.boot = ? AND g.lane = ? AND g.batch = ?";

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
        let (there, indexed): (i64, i64) = sqlx::query_as(THERE)
            .bind(&boot.as_bytes()[..])
            .bind(number)
            .bind(int(last.first))
            .fetch_one(&mut *snapshot)
            .await?;
        let progress = sqlx::query("SELECT * FROM log_lanes WHERE tenant = ? AND boot = ? AND lane = ?")
            .bind(TenantName::SYSTEM)
            .bind(&boot.as_bytes()[..])
            .bind(number)
            .fetch_optional(&mut *snapshot)
            .await?;
        let progress = progress.map(|row| lane(&row)).transpose()?;
        snapshot.commit().await?;
        let waits = progress.is_some_and(|lane| lane.next <= last.first);
        let is_whole = there == int(last.count) && (waits || indexed == there);
        Ok(Some(LaneTail { end: last.end(), is_whole }))
    }

    /// Where every lane of a boot ends by its newest batch.
    pub(in crate::store) async fn lane_ends(&self, boot: BootId) -> Result<Vec<LaneEnd>, Error> {
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
            ends.extend(last_before(boot, lane, u64::MAX, &mut snapshot).await?.map(|batch| batch.end()));
        }
        snapshot.commit().await?;
        Ok(ends)
    }

    /// The exact bytes of every `node.stopped` of the system log.
    pub(in crate::store) async fn farewells(&self) -> Result<Vec<Vec<u8>>, Error> {
        let leaves = sqlx::query_scalar("SELECT leaf FROM access_log WHERE tenant = ? AND action = 'node.stopped'")
            .bind(TenantName::SYSTEM)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        Ok(leaves)
    }
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
