//! How SQLite finds what the statements about the log ask for: by a key or an index that says which entries, never by reading
//! all of a tenant's. It plans without knowing how much a table holds.

use sqlx::{Connection, Row, SqliteConnection};

use super::lane_ends::{FAREWELLS, LAST_NUMBER};
use super::log_read::{AT, INTEGRATED, INTEGRATED_NEWEST, INTEGRATED_OF_VALUE, NEWEST_OF_VALUE, PENDING};
use super::purge::LEAVES_OF_END;
use super::values::READ;
use super::waiting::WAITING;
use super::{MIGRATIONS, deciding};
use crate::store::rows::Table;

/// The steps of a statement's plan.
async fn plan(text: &str, connection: &mut SqliteConnection) -> Vec<String> {
    // A test's own text, made once: the architecture allows no other way to a statement put together.
    let explain: &'static str = format!("EXPLAIN QUERY PLAN {text}").leak();
    let steps = sqlx::query(explain).fetch_all(connection).await.unwrap();
    steps.iter().map(|step| step.get("detail")).collect()
}

/// What is taken of a long table by less than its whole key or an index that is named for it.
fn walks(step: &str) -> bool {
    let long = ["access_log", "log_groups", "log_batches", "log_index"];
    let aliases = ["a", "e", "g", "b", "n", "w", "i"];
    let words: Vec<&str> = step.split(' ').collect();
    let about = words.get(1).is_some_and(|table| long.contains(table) || aliases.contains(table));
    about
        && (words[0] == "SCAN" && !step.contains("INDEX access_log_farewells")
            || step.ends_with("PRIMARY KEY (tenant=?)"))
}

#[tokio::test]
async fn what_is_asked_of_a_log_is_found_by_its_place_or_an_index() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    MIGRATIONS.run(&mut connection).await.unwrap();
    let rows = [Table::Flows, Table::Credentials].into_iter().flat_map(deciding::texts_of);
    let texts = [
        INTEGRATED,
        INTEGRATED_NEWEST,
        INTEGRATED_OF_VALUE,
        NEWEST_OF_VALUE,
        PENDING,
        AT,
        LEAVES_OF_END,
        FAREWELLS,
        LAST_NUMBER,
        WAITING,
    ];
    for text in texts.into_iter().chain(READ).chain(rows) {
        let steps = plan(text, &mut connection).await;
        assert!(!steps.iter().any(|step| walks(step)), "{text}\n{steps:#?}");
    }
    let all = plan("SELECT leaf FROM access_log WHERE tenant = ? AND value_id = ?", &mut connection).await;
    assert!(all.iter().any(|step| walks(step)), "this one would: {all:?}");
}
