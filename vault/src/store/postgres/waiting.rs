//! What waits for integration, log by log, as the shares of the batches count it.

use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::column::Columns;
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::waiting::Waiting;

impl PostgresStore {
    /// Of the first `most` batches that nothing has integrated yet; of one log alone where it is named.
    pub(in crate::store) async fn waiting(&self, most: i64, log: Option<&TenantName>) -> Result<Vec<Waiting>, Error> {
        super::reading!(self, |connection| {
            let rows = sqlx::query(
                "SELECT g.tenant AS tenant, sum(g.count)::bigint AS entries, min(b.time) AS oldest FROM \
                 (SELECT b.boot, b.lane, b.first, b.time FROM log_lanes l JOIN log_batches b ON b.tenant = l.tenant \
                 AND b.boot = l.boot AND b.lane = l.lane AND b.first >= l.next WHERE l.tenant = $1 AND \
                 ($3::text IS NULL OR EXISTS (SELECT 1 FROM log_groups n WHERE n.boot = b.boot AND n.lane = b.lane AND \
                 n.batch = b.first AND n.tenant = $3)) LIMIT $2) AS b \
                 JOIN log_groups g ON g.boot = b.boot AND g.lane = b.lane AND g.batch = b.first \
                 WHERE $3 IS NULL OR g.tenant = $3 \
                 GROUP BY g.tenant ORDER BY g.tenant",
            )
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
