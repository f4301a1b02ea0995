//! The yardstick of bulk: PostgreSQL's own `COPY … BINARY` of rows that are byte for byte as long as the vault's.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgPoolCopyExt as _};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use super::database::{Look, Rows};

/// Signature, flags and length of nothing: what comes before the rows.
const HEAD: usize = 19;

/// A table with the columns and keys of `secure_values`, and a block of rows for it.
pub struct Copying {
    pool: PgPool,
    head: Vec<u8>,
    rows: Vec<u8>,
    /// Where the id of each row stands.
    ids: Vec<usize>,
}

impl Copying {
    /// Takes a thousand rows of a vault as they are, into a database beside it; nothing where there is none.
    pub async fn like(vault: &Rows, reference: Option<&Rows>) -> Option<Self> {
        let (Look::Postgres(mut from), Some(Rows::Postgres(address))) = (vault.look().await, reference) else {
            return None;
        };
        let taken = PgPool::connect_with(address_of(vault)?).await.unwrap();
        let copied = taken.copy_out_raw("COPY (SELECT * FROM secure_values LIMIT 1000) TO STDOUT BINARY").await;
        let bytes = copied.unwrap().try_fold(Vec::new(), async |all, part| Ok([all, part.to_vec()].concat()));
        let bytes = bytes.await.unwrap();
        let pool = PgPool::connect_with(PgConnectOptions::from_str(address).unwrap()).await.unwrap();
        create(&mut from, &pool).await;
        let rows = bytes[HEAD..bytes.len() - 2].to_vec();
        Some(Self { pool, head: bytes[..HEAD].to_vec(), ids: ids(&rows), rows })
    }

    /// Copies for so long, in one stream and one transaction: rows a second.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub async fn run(&self, length: Duration) -> f64 {
        let begun = Instant::now();
        let mut copy = self.pool.copy_in_raw("COPY copied FROM STDIN BINARY").await.unwrap();
        copy.send(&self.head[..]).await.unwrap();
        let mut block = self.rows.clone();
        while begun.elapsed() < length {
            for id in &self.ids {
                block[*id..id + 16].copy_from_slice(Uuid::now_v7().as_bytes());
            }
            copy.send(&block[..]).await.unwrap();
        }
        copy.send(&(-1_i16).to_be_bytes()[..]).await.unwrap();
        let rows = copy.finish().await.unwrap();
        rows as f64 / begun.elapsed().as_secs_f64()
    }
}

fn address_of(rows: &Rows) -> Option<PgConnectOptions> {
    match rows {
        Rows::Postgres(address) => PgConnectOptions::from_str(address).ok(),
        Rows::Sqlite(_) => None,
    }
}

async fn create(like: &mut PgConnection, pool: &PgPool) {
    let listed = sqlx::query_scalar::<_, String>(
        "SELECT string_agg(column_name || ' ' || data_type || CASE WHEN collation_name = 'C' THEN ' COLLATE \"C\"' ELSE '' END \
         || CASE WHEN is_nullable = 'NO' THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY ordinal_position) \
         FROM information_schema.columns WHERE table_name = 'secure_values'",
    );
    let columns = listed.fetch_one(like).await.unwrap();
    for statement in [
        format!("CREATE TABLE copied ({columns}, PRIMARY KEY (tenant, value_id))"),
        "CREATE INDEX ON copied (purge_after, tenant) WHERE purge_after IS NOT NULL".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(pool).await.unwrap();
    }
}

/// Where the second field of each row, its id, begins.
fn ids(rows: &[u8]) -> Vec<usize> {
    let number = |at: usize| i32::from_be_bytes(rows[at..at + 4].try_into().unwrap());
    let (mut found, mut at) = (Vec::new(), 0);
    while at < rows.len() {
        let fields = i16::from_be_bytes(rows[at..at + 2].try_into().unwrap());
        at += 2;
        for field in 0..fields {
            let length = usize::try_from(number(at)).unwrap_or(0);
            at += 4;
            if field == 1 {
                assert_eq!(length, 16, "the second column is the id");
                found.push(at);
            }
            at += length;
        }
    }
    found
}
