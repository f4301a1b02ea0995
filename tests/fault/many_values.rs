//! A million values (`SIV_TEST_VALUES`): a node starts without reading them, and works as with a few.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tests::served::retried;
use tests::{Postgres, Served, bound};

fn values() -> usize {
    std::env::var("SIV_TEST_VALUES").ok().and_then(|values| values.parse().ok()).unwrap_or(1_000_000)
}

/// Starts the node, within five seconds.
fn begin(served: &mut Served) {
    let began = Instant::now();
    served.begin().unwrap();
    let started = began.elapsed();
    println!("ready after {started:?}");
    assert!(started < bound(Duration::from_secs(5), Duration::from_secs(60)), "ready after {started:?}");
}

/// Puts them in, a thousand at a time, and keeps the key of one in each thousand.
async fn fill(served: &Served) -> Vec<String> {
    let (began, item) = (Instant::now(), json!({"field": "card-number", "value": "4242424242424242"}));
    let (app, items, mut keys) = (served.app(), json!({"items": vec![item; 1000]}), Vec::new());
    while keys.len() * 1000 < values() {
        // A server that writes a checkpoint may be too slow for one of a thousand requests.
        let answer = retried(|| app.post("/v1/values", &items)).await.expect(200).json();
        keys.push(answer["results"][0]["secureValueKey"].as_str().unwrap().to_owned());
    }
    println!("{} values in {:?}", values(), began.elapsed());
    keys
}

async fn works(served: &Served, keys: &[String]) {
    let began = Instant::now();
    for key in keys.iter().step_by(keys.len().div_ceil(100)) {
        let answer = served.invoke("card-summary", key, None).await.expect(200);
        assert_eq!(answer.json()["outputs"]["last4"], "4242");
        served.put("card-number").await.unwrap();
    }
    println!("100 values opened and 100 put in in {:?}", began.elapsed());
    let began = Instant::now();
    for filter in ["", "&action=value.dereferenced", "&action=value.captured&outcome=allowed"] {
        served.auditor().get(&format!("/v1/log/entries?limit=100{filter}")).await.expect(200);
    }
    println!("3 pages of the log in {:?}", began.elapsed());
}

#[ignore = "minutes: make test-long runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_million_values_starts_without_reading_them() {
    let mut served = Served::on_sqlite();
    let keys = fill(&served).await;
    assert_eq!(served.terminate(), Some(0));
    begin(&mut served);
    // All that it read, from the page cache too.
    let io = fs::read_to_string(format!("/proc/{}/io", served.pid())).unwrap();
    let read: u64 = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    let size = fs::metadata(served.database()).unwrap().len();
    println!("{read} of {size} bytes read to start");
    assert!(read < size / 10, "it read {read} of {size} bytes to start");
    works(&served, &keys).await;
}

/// Rows that the server read by going through a whole table, of those that grow with the values.
async fn scanned(postgres: &Postgres) -> i64 {
    let mut connection = PgConnection::connect(&postgres.address()).await.unwrap();
    sqlx::query_scalar(
        "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables \
         WHERE relname IN ('secure_values', 'access_log', 'log_index')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap()
}

#[ignore = "minutes: make test-long runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_postgresql_with_a_million_values_starts_without_reading_them() {
    let postgres = Postgres::start();
    let mut served = Served::on_postgres(&postgres);
    let keys = fill(&served).await;
    assert_eq!(served.terminate(), Some(0));
    let before = scanned(&postgres).await;
    begin(&mut served);
    works(&served, &keys).await;
    // The server tells what a connection did when the connection has ended.
    assert_eq!(served.terminate(), Some(0));
    let rows = scanned(&postgres).await - before;
    println!("{rows} rows read by going through a table");
    assert!(usize::try_from(rows).unwrap() < values() / 10, "{rows} rows read by going through a table");
}
