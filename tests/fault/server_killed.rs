//! PostgreSQL in the file's place: the node is killed under load, and the server under the node.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::{Load, Postgres, Served, Told, bound};

use super::kill::rounds;

/// Callers at work at the same time.
const CALLERS: usize = 16;

/// What is promised within five seconds: a node serves again after its database.
fn soon() -> Duration {
    bound(Duration::from_secs(5), Duration::from_secs(60))
}

/// So long a node that was killed waits at most, with a key store in a folder, to tell its own ghost from another node.
const GHOST: Duration = Duration::from_secs(11);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_of_a_node_on_postgresql_loses_nothing_acknowledged() {
    let postgres = Postgres::start();
    let mut served = Served::on_postgres(&postgres);
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..rounds() {
        let load = Load::begin(CALLERS, &served, &told);
        load.runs(12 + round * 7 % 40).await;
        served.kill();
        load.end().await;
        let begun = Instant::now();
        served.begin().unwrap();
        let ready = begun.elapsed();
        println!("ready after {ready:?}");
        assert!(ready < GHOST + soon(), "ready after {ready:?}");
        served.kept(&told).await;
    }
    served.recorded(&told).await;
    say(&told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_restarted_under_load_costs_503_and_nothing_acknowledged() {
    let mut postgres = Postgres::start();
    let served = Served::on_postgres(&postgres);
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..rounds() {
        let load = Load::begin(CALLERS, &served, &told);
        load.runs(20 + round * 7 % 40).await;
        // Every second time as a machine that runs out of memory does it: no process of it hears a word.
        if round % 2 == 0 {
            postgres.kill()
        } else {
            postgres.kill_nine()
        }
        let refused = load.told().refused;
        load.until(|told| told.refused >= refused + CALLERS).await;
        postgres.start_again();
        let started = Instant::now();
        load.runs(1).await;
        let behind = started.elapsed();
        println!("it serves {behind:?} after its database");
        assert!(behind < soon(), "it serves {behind:?} after its database");
        load.runs(20).await;
        load.end().await;
        served.kept(&told).await;
    }
    served.recorded(&told).await;
    let seen = told.lock().unwrap();
    assert_eq!(seen.unanswered, 0, "the node itself lives");
    assert_eq!(seen.without_time, 0, "every 503 says when to come back");
    let slowest = seen.slowest_refusal;
    assert!(slowest < bound(Duration::from_secs(2), Duration::from_secs(10)), "503 after {slowest:?}");
    drop(seen);
    say(&told);
}

fn say(told: &Mutex<Told>) {
    let told = told.lock().unwrap();
    let (cards, spent, runs) = (told.cards.len(), told.spent.len(), told.runs.len());
    let (refused, slowest) = (told.refused, told.slowest_refusal);
    println!("{} rounds: {cards} values, {spent} spent, {runs} runs kept", rounds());
    println!("{refused} refused ({:?}), the slowest after {slowest:?}", told.codes);
}
