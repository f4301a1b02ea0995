//! The machine's clock is set while a node runs: what is over stays over, the log keeps its order, and the node goes on.

use std::time::Duration;

use tests::crash::Crash;
use tests::{Answer, Served};

const HALF_AN_HOUR: i64 = 1800;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_revives_nothing_and_leaves_the_log_in_order() {
    let mut served = Served::on_sqlite();
    assert_eq!(served.terminate(), Some(0));
    let crash = Crash::new(served.folder());
    served.set_environment(crash.environment());
    served.begin().unwrap();
    let (stays, over) = (served.put("card-number").await.unwrap(), served.put("once").await.unwrap());
    let spent = served.put("once").await.unwrap();
    served.invoke("peek", &spent, None).await.expect(200);

    crash.clock_is_ahead(HALF_AN_HOUR + 60);
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
        for key in [&over, &spent] {
            refused(served.invoke("peek", key, None).await);
        }
        served.serves_again().await;
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
