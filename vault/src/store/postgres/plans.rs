//! How PostgreSQL finds what the statements ask for: never by reading a whole table, whether it plans for the parameters or for
//! any, and whatever it takes a table's size for.

use sqlx::{Connection, Executor, PgConnection};

use super::log_read::{INTEGRATED, INTEGRATED_NEWEST, INTEGRATED_OF_VALUE, NEWEST_OF_VALUE, PENDING};
use super::waiting::WAITING;
use super::{bounded, connect};
use crate::store::contract::postgres::{Cluster, run};
use crate::store::settings::PostgresAddress;

/// A long log of many tenants, one batch of two entries after the other: half of the entries are the first tenant's, and all
/// but the newest batches are integrated. One entry in a hundred says that something was denied.
const LONG_LOG: &str = "
    INSERT INTO log_lanes SELECT '-system', decode(repeat('ab', 16), 'hex'), 0, 0, 79990, '\\x00';
    INSERT INTO log_batches SELECT '-system', decode(repeat('ab', 16), 'hex'), 0, n * 2, 2, n, '\\x00', '\\x00', '\\x00'
        FROM generate_series(0, 39999) n;
    INSERT INTO log_groups SELECT CASE n % 2 WHEN 0 THEN 'demo' ELSE 't' || n % 40 END, decode(repeat('ab', 16), 'hex'), 0,
        n * 2, 2, n * 2, '\\x00', '\\x00' FROM generate_series(0, 39999) n;
    INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, value_id, actor_id, leaf)
        SELECT CASE (n / 2) % 2 WHEN 0 THEN 'demo' ELSE 't' || (n / 2) % 40 END, decode(repeat('ab', 16), 'hex'), 0, n, n,
        'value.captured', CASE n % 100 WHEN 0 THEN 'denied' ELSE 'allowed' END, decode(md5((n / 8)::text), 'hex'), 'a', '\\x00'
        FROM generate_series(0, 79999) n;
    INSERT INTO log_index SELECT 'demo', n * 2, 2, decode(repeat('ab', 16), 'hex'), 0, n * 4
        FROM generate_series(0, 19990) n;
    ANALYZE";

async fn long_log() -> PostgresAddress {
    let address = Cluster::shared().database().await;
    let mut connection = connect(&address.options().unwrap()).await.unwrap();
    let schema = sqlx::migrate!("migrations/postgres");
    schema.run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    run(&address, LONG_LOG).await;
    address
}

/// The plan of a statement with these parameters.
async fn plan(text: &'static str, parameters: &str, connection: &mut PgConnection) -> String {
    // A test's own text, made once: the architecture allows no other way to a statement put together.
    let prepare: &'static str = format!("DEALLOCATE ALL; PREPARE asked AS {text}").leak();
    let explain: &'static str = format!("EXPLAIN EXECUTE asked ({parameters})").leak();
    connection.execute(prepare).await.unwrap();
    let lines: Vec<String> =
        sqlx::raw_sql(explain).fetch_all(connection).await.unwrap().iter().map(|row| sqlx::Row::get(row, 0)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_list_of_the_log_takes_each_step_by_its_key() {
    let address = long_log().await;
    let options = bounded(&address.options().unwrap());
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    let value = "decode(md5('7'), 'hex')";
    let page = |filter: &str| format!("'demo', {filter}, 0, 39980, 100");
    let of_value = page(&format!("{value}, NULL, NULL, NULL, NULL, NULL, NULL, NULL"));
    for mode in ["SET plan_cache_mode = force_custom_plan", "SET plan_cache_mode = force_generic_plan"] {
        connection.execute(mode).await.unwrap();
        for filter in [
            "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
            "NULL, NULL, NULL, NULL, NULL, 'denied', NULL, NULL",
            "NULL, 'a', NULL, NULL, 'value.captured', NULL, NULL, NULL",
            "NULL, NULL, NULL, NULL, NULL, NULL, 79000, NULL",
        ] {
            for text in [INTEGRATED, INTEGRATED_NEWEST] {
                let plan = plan(text, &page(filter), &mut connection).await;
                assert!(!plan.contains("Seq Scan"), "{mode}, {filter}:\n{plan}");
            }
            let waiting = format!("'demo', {filter}, '\\x', 0, 0, 100");
            let plan = plan(PENDING, &waiting, &mut connection).await;
            assert!(!plan.contains("Seq Scan on access_log") && !plan.contains("log_groups_pkey"), "{mode}:\n{plan}");
            assert!(plan.contains("log_groups_by_batch"), "{mode}:\n{plan}");
        }
        for text in [INTEGRATED_OF_VALUE, NEWEST_OF_VALUE] {
            let plan = plan(text, &of_value, &mut connection).await;
            assert!(plan.contains("access_log_by_value") && !plan.contains("Seq Scan"), "{mode}:\n{plan}");
        }
        for log in ["NULL", "'demo'"] {
            let plan = plan(WAITING, &format!("'-system', 100, {log}"), &mut connection).await;
            assert!(plan.contains("log_batches_pkey") && plan.contains("log_groups_by_batch"), "{mode}:\n{plan}");
        }
    }
}

/// Plans of the connection that writes are kept: one that was made for an empty table would read all of it once it is full.
#[tokio::test]
async fn a_batch_looks_for_its_rows_by_their_keys_in_an_empty_table_too() {
    let address = long_log().await;
    let mut connection = connect(&address.options().unwrap()).await.unwrap();
    for (table, text, parameters) in [
        (
            "capture_encs",
            "SELECT enc FROM capture_encs WHERE tenant = $1 AND session = $2 AND enc = ANY($3)",
            "'a', '', '{}'",
        ),
        ("idempotency", "SELECT * FROM idempotency WHERE tenant = $1 AND lookup = ANY($2)", "'a', '{}'"),
        ("capture_sessions", "SELECT * FROM capture_sessions WHERE tenant = $1 AND key = ANY($2)", "'a', '{}'"),
        ("secure_values", "SELECT * FROM secure_values WHERE tenant = $1 AND value_id = ANY($2)", "'a', '{}'"),
    ] {
        let vacuum: &'static str = format!("VACUUM (ANALYZE) {table}").leak();
        connection.execute(vacuum).await.unwrap();
        let plan = plan(text, parameters, &mut connection).await;
        assert!(!plan.contains("Seq Scan"), "{table}:\n{plan}");
    }
}
