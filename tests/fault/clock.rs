//! The machine's clock is set while a node runs: what is over stays over, the log keeps its order, and the node goes on.

use std::time::Duration;

use tests::crash::Crash;
use tests::{Answer, Postgres, Served};

const HALF_AN_HOUR: i64 = 1800;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_revives_nothing_and_leaves_the_log_in_order() {
    let mut served = Served::on_sqlite();
    assert_eq!(served.terminate(), Some(0));
    let crash = Crash::new(served.folder());
    served.set_environment(crash.environment());
    served.begin().unwrap();
    jumps(served, crash).await;
}

/// On PostgreSQL the server's clock is the one that counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_databases_clock_that_jumps_revives_nothing_and_leaves_the_log_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let crash = Crash::for_everybody(folder.path());
    let postgres = Postgres::start_in(crash.environment());
    jumps(Served::on_postgres(&postgres), crash).await;
}

async fn jumps(mut served: Served, crash: Crash) {
    let (stays, over) = (served.put("card-number").await.unwrap(), served.put("once").await.unwrap());
    let (spent, brief) = (served.put("once").await.unwrap(), served.put("brief").await.unwrap());
    served.invoke("peek", &spent, None).await.expect(200);

    crash.clock_is_ahead(HALF_AN_HOUR + 60);
    // A database's clock is looked at now and then; without the jump this one would be over in ten seconds.
    let noticed = async {
        while served.invoke("glance", &brief, None).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.expect("the new time is noticed");
    let refused = |answer: Answer| assert_eq!(answer.refusal(), (404, "value.not_found".to_owned()), "{}", answer.text);
    refused(served.invoke("peek", &over, None).await);
    served.invoke("card-summary", &stays, None).await.expect(200);
    let purged = async {
        while served.entries("action=value.expired").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), purged).await.expect("what is over is taken away");

    // Back by more than it was ahead, and by more than anything of this installation is old.
    for ahead in [0, -HALF_AN_HOUR, -86_400] {
        crash.clock_is_ahead(ahead);
        served.serves_again().await;
        for key in [&over, &spent] {
            refused(served.invoke("peek", key, None).await);
        }
        refused(served.invoke("glance", &brief, None).await);
        served.invoke("card-summary", &stays, None).await.expect(200);
    }
    crash.clock_is_ahead(0);
    served.serves_again().await;
    served.verify_log().unwrap_or_else(|why| panic!("{why}"));
    let entries = served.entries("outcome=allowed").await;
    let indices: Vec<u64> = entries.iter().filter_map(|entry| entry["index"].as_u64()).collect();
    let ordered = indices.windows(2).all(|two| two[0] < two[1]) || indices.windows(2).all(|two| two[0] > two[1]);
    assert!(ordered && indices.len() > 10, "{indices:?}");
    assert_eq!(served.terminate(), Some(0));
    served.begin().unwrap();
    served.invoke("card-summary", &stays, None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_lengthens_no_lifetime() {
    let mut served = Served::on_sqlite();
    assert_eq!(served.terminate(), Some(0));
    let crash = Crash::new(served.folder());
    served.set_environment(crash.environment());
    served.begin().unwrap();
    let brief = served.put("brief").await.unwrap();
    served.invoke("glance", &brief, None).await.expect(200);
    crash.clock_is_ahead(-HALF_AN_HOUR);
    // By the clock that was set back it would live for half an hour.
    let over = async {
        while served.invoke("glance", &brief, None).await.status == 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), over).await.expect("ten seconds are over, whatever the clock says");
    let refused = served.invoke("glance", &brief, None).await;
    assert_eq!(refused.refusal(), (404, "value.not_found".to_owned()), "{}", refused.text);
    shows_its_clock(&served, |behind| (1700.0..1900.0).contains(&behind)).await;
    // And what is captured now is whole.
    let stays = served.put("card-number").await.unwrap();
    served.invoke("card-summary", &stays, None).await.expect(200);
    served.verify_log().unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_works_by_the_databases_and_says_so() {
    let postgres = Postgres::start();
    let mut served = Served::on_postgres(&postgres);
    assert_eq!(served.terminate(), Some(0));
    let crash = Crash::new(served.folder());
    served.set_environment(crash.environment());
    crash.clock_is_ahead(HALF_AN_HOUR);
    served.begin().unwrap();
    let brief = served.put("brief").await.unwrap();
    served.invoke("glance", &brief, None).await.expect(200);
    let once = served.put("once").await.unwrap();
    served.invoke("peek", &once, None).await.expect(200);
    shows_its_clock(&served, |behind| (-1900.0..-1700.0).contains(&behind)).await;
    let captured = served.entries("action=value.captured").await;
    let newest = captured.iter().filter_map(|entry| entry["time"].as_str()).max().unwrap();
    let newest: jiff::Timestamp = newest.parse().unwrap();
    let off = newest.duration_since(jiff::Timestamp::now()).abs();
    assert!(off < jiff::SignedDuration::from_mins(10), "{newest} is the node's own time");
    served.verify_log().unwrap_or_else(|why| panic!("{why}"));
}

/// The metric tells by how much the clock is wrong, and an entry of the system's log says that it is.
async fn shows_its_clock(served: &Served, is: impl Fn(f64) -> bool) {
    let (node, recorded) = (served.stranger(), "siv_log_entries_total{action=\"admin\",outcome=\"failed\"}");
    let shown = async {
        loop {
            if node.metric("siv_clock_behind_seconds").await.is_some_and(&is)
                && node.metric(recorded).await.is_some_and(|count| count >= 1.0)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), shown).await.expect("the wrong clock is shown and recorded");
}
