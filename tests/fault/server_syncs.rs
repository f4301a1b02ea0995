//! PostgreSQL is killed on entry to a sync, under load: of the log of a commit, or of a checkpoint's files. Nothing
//! acknowledged is lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tests::{Load, Postgres, Served};

use super::kill::rounds;
use super::seed;

const CALLERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_killed_at_a_sync_under_load_loses_nothing_acknowledged() {
    // It does not start again by itself: it would under strace, and be killed for ever.
    let mut postgres = Postgres::start_with(&["restart_after_crash=off"]);
    let served = Served::on_postgres(&postgres);
    let told = Arc::new(Mutex::new(tests::Told::default()));
    for round in 0..rounds() {
        // strace counts in each process on its own: whoever comes to so many is killed, and takes the server with it.
        let number = seed::number(round);
        let fault = match round % 3 {
            // The postmaster needs eight of them to start.
            1 => format!("fsync:signal=KILL:when={}", 12 + number % 60),
            _ => format!("fdatasync:signal=KILL:when={}", 20 + number % 140),
        };
        postgres.stop();
        postgres.inject(&fault);
        postgres.start_again();
        let load = Load::begin(CALLERS, &served, &told);
        let before = load.told().runs.len();
        let died = async {
            while postgres.runs() {
                if round % 3 == 1 && load.told().runs.len() > before {
                    checkpoint(&postgres).await;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), died).await.unwrap_or_else(|_| panic!("{fault}: never met"));
        let ran = load.told().runs.len() - before;
        let refused = load.told().refused;
        load.until(|told| told.refused >= refused + CALLERS).await;
        assert!(postgres.log_text().contains("was terminated by signal 9"), "{fault}: {}", postgres.log_text());
        postgres.mend();
        postgres.start_again();
        load.runs(20).await;
        load.end().await;
        served.kept(&told).await;
        println!("{fault}: {ran} runs were answered before");
    }
    served.recorded(&told).await;
    let told = told.lock().unwrap();
    assert_eq!(told.unanswered, 0, "the node itself lives");
    println!(
        "{} values, {} spent, {} runs kept, {} refused",
        told.cards.len(),
        told.spent.len(),
        told.runs.len(),
        told.refused
    );
}

/// Asks for a checkpoint; the server may die of it.
async fn checkpoint(postgres: &Postgres) {
    let Ok(mut connection) = PgConnection::connect(&postgres.address()).await else { return };
    let _ = sqlx::query("CHECKPOINT").execute(&mut connection).await;
}
