//! Lists of the access log from a streaming standby: never older than a second, never anything else.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Actor, Answer, Postgres, Served};

/// What comes at all comes sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many lists came from the standby.
async fn reads(served: &Served) -> u64 {
    served.stranger().metric("siv_read_replica_reads_total").await.expect("there is a standby") as u64
}

async fn is_fresh(served: &Served) -> bool {
    served.stranger().metric("siv_read_replica_fresh").await.expect("there is a standby") > 0.0
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let comes = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, comes).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn lookup(key: &str, served: &Served) -> Answer {
    served.app().post("/v1/values/lookup", &json!({ "secureValueKey": key })).await
}

/// How many captures a list shows.
async fn captures(served: &Served) -> usize {
    let page = served.auditor().get("/v1/log/entries?action=value.captured&limit=1000").await.expect(200).json();
    page["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_the_log_come_from_a_standby_that_is_not_behind_and_values_never_do() {
    let primary = Postgres::start();
    let standby = Postgres::standby_of(&primary);
    let mut served = Served::on_postgres(&primary);
    assert_eq!(served.terminate(), Some(0));
    let settings = served.folder().join("siv.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("read_replica = \"{}\"\n{text}", standby.address())).unwrap();
    served.begin().unwrap();
    let card = served.put("card-number").await.unwrap();
    until("the standby keeps up", async || is_fresh(&served).await).await;
    let before = reads(&served).await;
    until("a list shows what was captured", async || captures(&served).await == 1).await;
    assert!(reads(&served).await > before, "the list came from the primary");

    // It stands still: what it shows is soon too old, and the primary is asked.
    standby.freeze();
    let second = served.put("card-number").await.unwrap();
    until("it is found to be behind", async || !is_fresh(&served).await).await;
    let read = reads(&served).await;
    assert_eq!(captures(&served).await, 2, "what the standby does not know yet");
    let deleted = served.app().post("/v1/values/delete", &json!({ "secureValueKey": second })).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(lookup(&second, &served).await.refusal(), (404, "value.not_found".to_owned()));
    served.invoke("card-summary", &card, None).await.expect(200);
    assert_eq!(reads(&served).await, read);

    standby.thaw();
    until("it catches up", async || is_fresh(&served).await).await;
    assert_eq!(lookup(&second, &served).await.status, 404, "at no time is a look-up the standby's");
    assert_eq!(captures(&served).await, 2);
    served.verify_log().unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_replica_that_is_none_of_this_database_is_refused_at_the_start() {
    let (primary, other) = (Postgres::start(), Postgres::start());
    let foreign = Served::on_postgres(&other);
    let standby_of_other = Postgres::standby_of(&other);
    drop(foreign);
    let mut served = Served::on_postgres(&primary);
    assert_eq!(served.terminate(), Some(0));
    let settings = served.folder().join("siv.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    for (address, why) in [
        (standby_of_other.address(), "another installation"),
        (primary.address(), "no standby"),
        ("sqlite:rows/siv.db".to_owned(), "read_replica"),
    ] {
        std::fs::write(&settings, format!("read_replica = \"{address}\"\n{text}")).unwrap();
        let refused = served.begin().unwrap_err();
        assert!(refused.contains(why), "{address}: {refused}");
    }
    // One that does not answer is no reason not to serve.
    standby_of_other.freeze();
    std::fs::write(&settings, format!("read_replica = \"{}\"\n{text}", standby_of_other.address())).unwrap();
    served.begin().unwrap();
    let answer: Value = Actor::new(served.stranger().base(), None).get("/readyz").await.expect(200).json();
    assert_eq!(answer["status"], "ready");
    assert!(!is_fresh(&served).await);
}
