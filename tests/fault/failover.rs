//! The machine of the leading PostgreSQL is gone, under load (docs/failover.md): its synchronous standby takes over, and the
//! node goes on by itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::{Load, Served, Told, bound, patroni::Patroni};

/// How often the leader is lost.
const ROUNDS: usize = 2;

#[ignore = "needs Patroni and etcd: make test-long installs them and runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_the_database_loses_nothing_acknowledged() {
    let mut patroni = Patroni::start().await;
    let mut served = Served::on(&patroni.address(), "");
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 1..=ROUNDS {
        let load = Load::begin(16, &served, &told);
        load.runs(200).await;
        load.told().forget_refusals();
        let killed = Instant::now();
        let old = patroni.kill_the_leader();
        patroni.has_another_leader(old).await;
        let promoted = Instant::now();
        let (refused, slowest) = {
            let told = load.told();
            (told.refused, told.slowest_refusal)
        };
        load.runs(1).await;
        let behind = promoted.elapsed();
        println!(
            "round {round}: another leader after {:?}, refused {refused} times meanwhile, the slowest after {slowest:?}",
            promoted - killed
        );
        println!("round {round}: siv serves {behind:?} after its database");
        assert!(refused > 0 && served.runs(), "there was no gap");
        assert!(behind < bound(Duration::from_secs(5), Duration::from_secs(20)), "{behind:?} after its database");
        let in_time = bound(Duration::from_secs(2), Duration::from_secs(10));
        assert!(slowest < in_time, "503 after {slowest:?}");
        load.runs(200).await;
        load.end().await;
        served.kept(&told).await;
        let back = Instant::now();
        patroni.start_again(old);
        patroni.is_whole().await;
        println!("round {round}: the old leader is the synchronous standby after {:?}", back.elapsed());
    }
    served.recorded(&told).await;
    let told = told.lock().unwrap();
    assert_eq!((told.unanswered, told.without_time), (0, 0), "503 and nothing else");
    println!("{} values and {} runs acknowledged, all kept", told.cards.len(), told.runs.len());
}
