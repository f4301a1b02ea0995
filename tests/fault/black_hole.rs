//! A database that takes connections and answers nothing, as behind a broken network.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::{Load, Postgres, Served, Told, bound, process};

const CALLERS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_costs_503_in_time_and_piles_nothing_up() {
    let postgres = Postgres::start();
    let mut served = Served::on_postgres(&postgres);
    let told = Arc::new(Mutex::new(Told::default()));
    let load = Load::begin(CALLERS, &served, &told);
    load.runs(40).await;
    let files = process::open_files(served.pid());
    let mut healths = Vec::new();
    // The second time it is met while the node still has the connections that the first one left.
    for _ in 0..2 {
        postgres.freeze();
        load.told().forget_refusals();
        let enough = |told: &Told| told.refused >= 5 * CALLERS;
        while !enough(&load.told()) {
            let asked = Instant::now();
            let alive = served.browser().get("/healthz").await;
            assert_eq!(alive.status, 200, "whoever asks whether it lives is answered");
            healths.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(served.browser().get("/readyz").await.status, 503);
        let open = process::open_files(served.pid());
        assert!(open < files + 2 * CALLERS, "{open} open files where there were {files}: something piles up");
        assert_in_time(&load, &mut healths);
        postgres.thaw();
        let thawed = Instant::now();
        load.runs(40).await;
        println!("it serves {:?} after its database", thawed.elapsed());
    }
    load.end().await;
    assert!(served.runs());
    served.kept(&told).await;
    served.recorded(&told).await;
}

fn assert_in_time(load: &Load, healths: &mut [Duration]) {
    let (slowest, counts) = {
        let told = load.told();
        println!("503 after {:?} at most ({:?})", told.slowest_refusal, told.codes);
        (told.slowest_refusal, (told.unanswered, told.without_time))
    };
    assert!(slowest < bound(Duration::from_secs(2), Duration::from_secs(10)), "503 after {slowest:?}");
    assert_eq!(counts, (0, 0));
    healths.sort_unstable();
    // But for one in twenty: who asks shares the processors with the callers, and waits for its own turn too.
    let (health, longest) = (healths[healths.len() * 19 / 20], healths[healths.len() - 1]);
    println!("/healthz after {health:?}, {longest:?} at most, of {}", healths.len());
    assert!(health < bound(Duration::from_millis(100), Duration::from_secs(2)), "/healthz after {health:?}");
}
