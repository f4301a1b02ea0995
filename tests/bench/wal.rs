//! What a vault wrote to PostgreSQL's write-ahead log, read from that log itself: exact bytes and commits, whoever's counters
//! are late. Each transaction belongs to the requests, to the sequencer, or to neither.

use sqlx::{AssertSqlSafe, Row as _};

use super::database::{Look, Rows};

/// A place in the write-ahead log.
#[derive(Clone)]
pub struct Place(String);

/// What stands between two places.
#[derive(Default, Clone, Copy)]
pub struct Written {
    /// Bytes of transactions that wrote values or entries.
    pub requests: f64,
    /// Of these, images of whole pages: what follows a checkpoint.
    pub images: f64,
    /// Commits of them.
    pub commits: f64,
    /// Bytes of transactions that wrote the log's tree.
    pub sequencer: f64,
}

/// Transactions by the tables they touched. Relations are named in the log by their files.
const SHARES: &str = r"
WITH files AS (
    SELECT c.relfilenode::text AS file, coalesce(t.relname, c.relname) AS name
    FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
    WHERE c.relkind IN ('r', 'i')
), records AS (
    SELECT xid, record_length, fpi_length, resource_manager, record_type,
        substring(block_ref FROM '^blkref #0: rel [0-9]+/[0-9]+/([0-9]+)') AS file
    FROM pg_get_wal_records_info(cast($1 AS pg_lsn), cast($2 AS pg_lsn))
), transactions AS (
    SELECT xid, sum(record_length) AS bytes, sum(fpi_length) AS images,
        bool_or(resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%') AS committed,
        bool_or(name IN ('log_heads', 'log_tiles', 'log_index', 'checkpoints')) AS sequencer,
        bool_or(name IN ('access_log', 'secure_values', 'captured', 'entries', 'hashes', 'lockers')) AS requests
    FROM records LEFT JOIN files USING (file) GROUP BY xid
)
SELECT coalesce(sum(bytes) FILTER (WHERE requests), 0)::float8,
    coalesce(sum(images) FILTER (WHERE requests), 0)::float8,
    (count(*) FILTER (WHERE requests AND committed))::float8,
    coalesce(sum(bytes) FILTER (WHERE sequencer), 0)::float8
FROM transactions";

/// Where the log ends now; nothing for a file.
pub async fn end(rows: &Rows) -> Option<Place> {
    let Look::Postgres(mut connection) = rows.look().await else { return None };
    let place = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text").fetch_one(&mut connection).await;
    place.ok().map(Place)
}

/// What was written since then; nothing for a file, and for a server without the extension `pg_walinspect`.
pub async fn since(begin: &Place, rows: &Rows) -> Option<Written> {
    let end = end(rows).await?;
    let Look::Postgres(mut connection) = rows.look().await else { return None };
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pg_walinspect").execute(&mut connection).await.ok()?;
    let query = sqlx::query(SHARES).bind(&begin.0).bind(&end.0);
    let row = match query.fetch_one(&mut connection).await {
        Ok(row) => row,
        Err(why) => {
            eprintln!("the write-ahead log cannot be read: {why}");
            return None;
        }
    };
    let at = |column: usize| row.get::<f64, _>(column);
    Some(Written { requests: at(0), images: at(1), commits: at(2), sequencer: at(3) })
}

/// Bytes in the columns of one captured value and of its entry, on average.
pub async fn columns(rows: &Rows) -> f64 {
    let mut sum = 0.0;
    for (table, only) in [("secure_values", ""), ("access_log", " WHERE action = 'value.captured'")] {
        let Look::Postgres(mut connection) = rows.look().await else { return 0.0 };
        let listed = sqlx::query_as::<_, (String, String)>(
            "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = $1",
        );
        let listed = listed.bind(table).fetch_all(&mut connection).await.unwrap();
        let size = |(name, kind): &(String, String)| match kind.as_str() {
            "bigint" => format!("CASE WHEN {name} IS NULL THEN 0 ELSE 8 END"),
            _ => format!("coalesce(octet_length({name}), 0)"),
        };
        let sizes: Vec<String> = listed.iter().map(size).collect();
        let query = format!(
            "SELECT coalesce(avg({}), 0)::float8 FROM (SELECT * FROM {table}{only} LIMIT 2000) AS sample",
            sizes.join(" + ")
        );
        sum += sqlx::query_scalar::<_, f64>(AssertSqlSafe(query)).fetch_one(&mut connection).await.unwrap();
    }
    sum
}
