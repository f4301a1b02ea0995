//! The disk under PostgreSQL fails or is full, under load: nothing acknowledged is lost, and after a sync that failed
//! nothing is acknowledged before the server was restarted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::{Load, Postgres, Served, Told, bound};

use super::seed;

const CALLERS: usize = 8;

/// A node at work on a server whose disk fails so, from its next start on.
async fn failing(mut postgres: Postgres, fault: &str) -> (Postgres, Served, Arc<Mutex<Told>>) {
    let served = Served::on_postgres(&postgres);
    let told = Arc::new(Mutex::new(Told::default()));
    // In order, so that the fault is met by the node's work and not by a recovery.
    postgres.stop();
    postgres.inject(fault);
    postgres.start_again();
    served.serves_again().await;
    (postgres, served, told)
}

/// With a server that runs again and a sound disk, everything that was acknowledged is there.
async fn everything_is_kept(fault: &str, served: &Served, told: &Mutex<Told>) {
    served.serves_again().await;
    served.kept(told).await;
    served.recorded(told).await;
    let told = told.lock().unwrap();
    let (kept, refused, slowest) = (told.cards.len(), told.refused, told.slowest_refusal);
    println!("{fault}: {kept} kept, {refused} refused ({:?}), the slowest after {slowest:?}", told.codes);
    assert!(kept > 0, "{fault}: nothing was acknowledged before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sync_of_postgresql_that_failed_nothing_is_acknowledged_before_its_restart() {
    for call in seed::calls(40, 160) {
        // One failure only: the next syncs would succeed, and say nothing about what the first one lost.
        acknowledges_nothing_before_a_restart(&format!("fdatasync:error=EIO:when={call}..{}", call + 1)).await;
    }
}

async fn acknowledges_nothing_before_a_restart(fault: &str) {
    // It does not start again by itself, so that nothing but the restart can be what heals.
    let postgres = Postgres::start_with(&["restart_after_crash=off"]);
    let (mut postgres, served, told) = failing(postgres, fault).await;
    let load = Load::begin(CALLERS, &served, &told);
    load.until(|told| told.refused >= 60).await;
    assert_eq!(load.told().after, 0, "acknowledged after a failed sync");
    assert_eq!(load.told().unanswered, 0, "the node itself lives");
    load.end().await;
    let said = postgres.log_text();
    assert!(said.contains("PANIC:  could not fdatasync"), "{said}");
    assert!(!postgres.runs(), "it ended itself");
    postgres.mend();
    postgres.start_again();
    everything_is_kept(fault, &served, &told).await;
}

/// Load until writing failed; then there is room again and the server runs, whether it had ended itself or not.
async fn heals(fault: &str, cause: &str) {
    let (mut postgres, served, told) = failing(Postgres::start(), fault).await;
    let load = Load::begin(CALLERS, &served, &told);
    load.until(|told| told.refused >= 20).await;
    let said = postgres.log_text();
    assert!(said.contains(cause), "the server met something else:\n{said}");
    postgres.kill();
    postgres.mend();
    postgres.start_again();
    load.runs(20).await;
    load.end().await;
    assert_eq!(told.lock().unwrap().unanswered, 0, "the node itself lives");
    everything_is_kept(fault, &served, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_postgresql_loses_nothing_acknowledged_and_the_node_goes_on_by_itself() {
    for call in seed::calls(120, 300) {
        heals(&format!("pwrite64:error=ENOSPC:when={call}+"), "No space left on device").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_under_postgresql_that_cannot_be_written_loses_nothing_acknowledged() {
    for call in seed::calls(120, 300) {
        heals(&format!("pwrite64:error=EIO:when={call}+"), "Input/output error").await;
    }
}

/// A second for each commit: who waits for too long is refused in time, and nothing is done without its entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_under_postgresql_costs_time_and_no_entry() {
    let fault = "fdatasync:delay_enter=1000000:when=20+";
    let (mut postgres, served, told) = failing(Postgres::start(), fault).await;
    let load = Load::begin(CALLERS, &served, &told);
    load.until(|told| told.runs.len() + told.refused >= 60).await;
    load.end().await;
    let slowest = told.lock().unwrap().slowest_refusal;
    assert!(slowest < bound(Duration::from_secs(2), Duration::from_secs(10)), "503 after {slowest:?}");
    assert_eq!(told.lock().unwrap().unanswered, 0, "the node itself lives");
    postgres.kill();
    postgres.mend();
    postgres.start_again();
    everything_is_kept(fault, &served, &told).await;
}
