//! A node at work for an hour (`SOAK_SECONDS`): its memory and its open files do not grow, and its log verifies.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::{Load, Postgres, Served, Told, process};

/// How often it is looked at.
const LOOKS: u32 = 60;

fn length() -> Duration {
    let told = std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(told.unwrap_or(3600))
}

/// The kilobytes a node has in use, and its open files.
type Look = (u64, usize);

async fn stays_as_it_is(served: Served) {
    let told = Arc::new(Mutex::new(Told::default()));
    let (began, length) = (Instant::now(), length());
    let load = Load::begin_paced(8, Duration::from_millis(20), &served, &told);
    let mut looks: Vec<Look> = Vec::new();
    while began.elapsed() < length {
        tokio::time::sleep(length / LOOKS).await;
        looks.push((process::resident_kilobytes(served.pid()), process::open_files(served.pid())));
    }
    load.end().await;
    assert_eq!(told.lock().unwrap().refused, 0, "a node that has time refuses nobody");
    let (first, last) = looks.split_at(looks.len() / 2);
    let mean = |looks: &[Look]| looks.iter().map(|look| look.0).sum::<u64>() / u64::try_from(looks.len()).unwrap();
    // Caches fill first, so that halves of the second half are compared: what grows then grows for ever.
    let (early, late) = last.split_at(last.len() / 2);
    let (before, after) = (mean(early), mean(late));
    let hours = length.as_secs_f64() / 4.0 / 3600.0;
    let slope = (after as f64 - before as f64) / 1024.0 / hours;
    let files = |looks: &[Look]| looks.iter().map(|look| look.1).max().unwrap();
    let runs = told.lock().unwrap().runs.len();
    println!(
        "{length:?}: {runs} runs; {before} kB, then {after} kB: {slope:.2} MB/h; open files {}, then {}",
        files(first),
        files(last)
    );
    // A megabyte an hour is what is allowed; the pages that the allocator holds come and go by more in a short run.
    assert!(after <= before + 2048 + (1024.0 * hours) as u64, "memory grows: {looks:?}");
    assert!(files(last) <= files(first) + 8, "open files grow: {looks:?}");
    served.kept(&told).await;
    served.recorded(&told).await;
}

#[ignore = "an hour: make test-long runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_work_leaves_memory_and_open_files_as_they_were() {
    stays_as_it_is(Served::on_sqlite()).await;
}

#[ignore = "an hour: make test-long runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_work_on_postgresql_leaves_memory_and_open_files_as_they_were() {
    let postgres = Postgres::start();
    stays_as_it_is(Served::on_postgres(&postgres)).await;
}
