//! What waits for integration, log by log, as the shares of the batches count it.

use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::column::Columns;
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::waiting::Waiting;

/// One step after the other, each by its key (OFFSET 0): of two tables that have every batch there ever was the server would
/// read all.
pub(super) const WAITING: &str = "SELECT g.tenant AS tenant, sum(g.count)::bigint AS entries, min(b.time) AS oldest FROM \
     (SELECT b.boot, b.lane, b.first, b.time FROM log_lanes l CROSS JOIN LATERAL \
     (SELECT w.boot, w.lane, w.first, w.time FROM log_batches w WHERE w.tenant = l.tenant \
     AND w.boot = l.boot AND w.lane = l.lane AND w.first >= l.next OFFSET 0) b WHERE l.tenant = $1 AND \
     ($3::text IS NULL OR EXISTS (SELECT 1 FROM log_groups n WHERE n.boot = b.boot AND n.lane = b.lane AND \
     n.batch = b.first AND n.tenant = $3)) LIMIT $2) AS b CROSS JOIN LATERAL \
     (SELECT w.tenant, w.count FROM log_groups w WHERE w.boot = b.boot AND w.lane = b.lane \
     AND w.batch = b.first OFFSET 0) AS g \
     WHERE $3 IS NULL OR g.tenant = $3 \
     GROUP BY g.tenant ORDER BY g.tenant";

impl PostgresStore {
    /// Of the first `most` batches that nothing has integrated yet; of one log alone where it is named.
    pub(in crate::store) async fn waiting(&self, most: i64, log: Option<&TenantName>) -> Result<Vec<Waiting>, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query(WAITING)
                .bind(TenantName::SYSTEM)
                .bind(most)
                .bind(log.map(TenantName::as_str))
                .fetch_all(connection)
                .await?;
            rows.iter().map(read_waiting).collect()
        })
    }
}

fn read_waiting(row: &PgRow) -> Result<Waiting, Error> {
    let columns = Columns::of("log_groups", row);
    let log = TenantName::from_store(columns.get("tenant")?).map_err(|_| columns.unreadable())?;
    Ok(Waiting { log, entries: columns.number("entries")?, since: columns.time("oldest")? })
}
