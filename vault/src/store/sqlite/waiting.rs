//! What waits for integration, log by log, as the shares of the batches count it.

use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::column::Columns;
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::waiting::Waiting;

/// From the lanes on (CROSS JOIN), and by the index that is named: by the key that begins with the tenant every batch that there
/// ever was would be read, or all its groups of a lane.
pub(super) const WAITING: &str = "SELECT g.tenant AS tenant, sum(g.count) AS entries, min(waiting.time) AS oldest FROM \
     (SELECT b.boot, b.lane, b.first, b.time FROM log_lanes l CROSS JOIN log_batches b ON b.tenant = l.tenant \
     AND b.boot = l.boot AND b.lane = l.lane AND b.first >= l.next WHERE l.tenant = ?1 AND \
     (?3 IS NULL OR EXISTS (SELECT 1 FROM log_groups n INDEXED BY log_groups_by_batch WHERE n.boot = b.boot AND n.lane = b.lane AND \
     n.batch = b.first AND n.tenant = ?3)) LIMIT ?2) AS waiting \
     JOIN log_groups g INDEXED BY log_groups_by_batch ON g.boot = waiting.boot AND g.lane = waiting.lane AND g.batch = waiting.first \
     WHERE ?3 IS NULL OR g.tenant = ?3 \
     GROUP BY g.tenant ORDER BY g.tenant";

impl SqliteStore {
    /// Of the first `most` batches that nothing has integrated yet; of one log alone where it is named.
    pub(in crate::store) async fn waiting(&self, most: i64, log: Option<&TenantName>) -> Result<Vec<Waiting>, Error> {
        let rows = sqlx::query(WAITING)
            .bind(TenantName::SYSTEM)
            .bind(most)
            .bind(log.map(TenantName::as_str))
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read_waiting).collect()
    }
}

fn read_waiting(row: &SqliteRow) -> Result<Waiting, Error> {
    let columns = Columns::of("log_groups", row);
    let log = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
    Ok(Waiting { log, entries: columns.number("entries")?, since: columns.time("oldest")? })
}
