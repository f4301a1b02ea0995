//! How much of a lane is there, by its own signed batches: `log_lanes` is nobody's word.

use sqlx::PgConnection;

use super::PostgresStore;
use super::column::int;
use super::integration::{batch, lane};
use crate::access_log::Batch;
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, TenantName};
use crate::store::Error;
use crate::store::integration::LaneTail;

/// A batch's entries that are there, and those of them that have an index.
const THERE: &str = "SELECT count(*), count(i.leaf_index) FROM log_groups g \
     JOIN access_log a ON a.tenant = g.tenant AND a.boot = g.boot AND a.lane = g.lane AND a.number >= g.first \
     AND a.number < g.first + g.count \
     LEFT JOIN log_index i ON i.tenant = a.tenant AND i.boot = a.boot AND i.lane = a.lane AND i.number = a.number \
     WHERE g.boot = $1 AND g.lane = $2 AND g.batch = $3";

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
            let (there, indexed): (i64, i64) = sqlx::query_as(THERE)
                .bind(&boot.as_bytes()[..])
                .bind(i64::from(number))
                .bind(int(last.first))
                .fetch_one(&mut *connection)
                .await?;
            let progress = sqlx::query("SELECT * FROM log_lanes WHERE tenant = $1 AND boot = $2 AND lane = $3")
                .bind(TenantName::SYSTEM)
                .bind(&boot.as_bytes()[..])
                .bind(i64::from(number))
                .fetch_optional(&mut *connection)
                .await?;
            let progress = progress.map(|row| lane(&row)).transpose()?;
            let waits = progress.is_some_and(|lane| lane.next <= last.first);
            let is_whole = there == int(last.count) && (waits || indexed == there);
            Ok(Some(LaneTail { end: last.end(), is_whole }))
        })
    }

    /// Where every lane of a boot ends by its newest batch.
    pub(in crate::store) async fn lane_ends(&self, boot: BootId) -> Result<Vec<LaneEnd>, Error> {
        super::snapshot!(self, |connection| {
            let lanes: Vec<i64> = sqlx::query_scalar(
                "SELECT DISTINCT lane FROM log_batches WHERE tenant = $1 AND boot = $2 ORDER BY lane",
            )
            .bind(TenantName::SYSTEM)
            .bind(&boot.as_bytes()[..])
            .fetch_all(&mut *connection)
            .await?;
            let mut ends = Vec::with_capacity(lanes.len());
            for lane in lanes {
                let lane = u32::try_from(lane).map_err(|_| Error::Unreadable("log_batches"))?;
                ends.extend(last_before(boot, lane, u64::MAX, connection).await?.map(|batch| batch.end()));
            }
            Ok(ends)
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
