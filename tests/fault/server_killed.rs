//! PostgreSQL in the file's place: the node is killed under load, and the server under the node.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tests::{Load, Postgres, Served, Told};

use super::kill::rounds;

/// Callers at work at the same time.
const CALLERS: usize = 16;

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
        served.begin().unwrap();
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
        println!("it serves {:?} after its database", started.elapsed());
        load.runs(20).await;
        load.end().await;
        served.kept(&told).await;
    }
    served.recorded(&told).await;
    let seen = told.lock().unwrap();
    assert_eq!(seen.unanswered, 0, "the node itself lives");
    assert_eq!(seen.without_time, 0, "every 503 says when to come back");
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
