//! Many times the callers a node takes at once: who is refused is told when to come back, and afterwards all is as before.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tests::{Load, Postgres, Served, Told, process};

/// Under way at once, and callers who want to be.
const LIMITS: &str = "[limits]\nrequests = 40\n";
const CALLERS: usize = 400;

async fn is_overloaded(served: Served) {
    let told = Arc::new(Mutex::new(Told::default()));
    let began = Instant::now();
    let load = Load::begin(CALLERS, &served, &told);
    load.until(|told| told.runs.len() >= 200 && told.refused >= 10 * CALLERS).await;
    let alive = served.stranger().get("/healthz").await;
    assert_eq!(alive.status, 200, "whoever asks whether it lives does not hear that it is full");
    load.end().await;
    let took = began.elapsed();
    for _ in 0..20 {
        served.put("card-number").await.unwrap_or_else(|answer| panic!("it is not as before: {}", answer.text));
    }
    let (kept, refused) = {
        let told = told.lock().unwrap();
        assert_eq!(told.without_time, 0, "a refusal without Retry-After");
        assert_eq!(told.unanswered, 0, "somebody was not answered");
        (told.runs.len(), told.refused)
    };
    println!("{kept} runs, {refused} refused in {took:?}, {} kB in use", process::resident_kilobytes(served.pid()));
    served.kept(&told).await;
    served.recorded(&told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_too_much_refuses_with_a_time_and_is_well_afterwards() {
    is_overloaded(Served::on("sqlite:rows/siv.db", LIMITS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_postgresql_that_is_asked_too_much_refuses_with_a_time_and_is_well_afterwards() {
    let postgres = Postgres::start();
    is_overloaded(Served::on(&postgres.address(), LIMITS)).await;
}
