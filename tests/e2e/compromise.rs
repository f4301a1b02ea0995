//! What follows when a custodian says that a key leaked: everything it protected is sealed anew while the nodes serve.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tests::Postgres;
use tests::custody::{Custody, Customer, until};

/// More than are sealed anew in one commit.
const VALUES: usize = 150;
/// A quarter of an hour is promised, then the next look.
const RETIRED: Duration = Duration::from_secs(20 * 60);

/// Captures them, rotates, and says that the version which wrapped their data keys leaked.
async fn compromised(custody: &Custody, acme: &Customer, values: usize) -> Vec<String> {
    let mut keys = Vec::new();
    for _ in 0..values {
        keys.push(custody.put(acme, "4242424242424242").await.unwrap());
    }
    assert_eq!(custody.keys(acme, &["rotate"])["version"], 2);
    assert_eq!(custody.keys(acme, &["state", "1", "compromised"])["state"], "compromised");
    keys
}

/// How many values the log says were sealed anew.
async fn resealed(custody: &Custody, acme: &Customer) -> u64 {
    let entries = custody.entries(acme, "key.values.resealed").await;
    entries.iter().filter_map(|entry| entry["count"].as_u64().or_else(|| entry["facts"]["count"].as_u64())).sum()
}

async fn opens(custody: &Custody, acme: &Customer, keys: &[String]) {
    for key in keys {
        assert_eq!(custody.read(acme, key).await.expect(200).json()["outputs"]["last4"], "4242");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_compromise_no_value_needs_a_data_key_of_before_and_every_value_opens_on_both_nodes() {
    let postgres = Postgres::start();
    let one = Custody::on_postgres(&[], &postgres);
    let acme = one.customer("acme", &[], 60);
    let two = one.beside(&postgres);
    let mut rows = PgConnection::connect(&postgres.address()).await.unwrap();
    let mut under_the_first = async || -> i64 {
        let count = "SELECT count(*) FROM secure_values v JOIN data_keys d \
             ON d.tenant = v.tenant AND d.data_key_id = v.data_key_id WHERE v.tenant = 'acme' AND d.kek_version = 1";
        sqlx::query_scalar(count).fetch_one(&mut rows).await.unwrap()
    };
    let keys = compromised(&one, &acme, VALUES).await;
    // Served meanwhile, by both.
    opens(&two, &acme, &keys[..8]).await;
    let late = two.put(&acme, "4242424242424242").await.unwrap();
    until("all are sealed anew", || async { resealed(&two, &acme).await >= VALUES as u64 }).await;
    assert_eq!(resealed(&one, &acme).await, VALUES as u64, "each once");
    assert_eq!(under_the_first().await, 0);
    for node in [&one, &two] {
        opens(node, &acme, &keys).await;
        opens(node, &acme, std::slice::from_ref(&late)).await;
    }
    // Nothing is left that needs the version: it can go, and with it what a copy of the database and that key would open.
    assert_eq!(one.keys(&acme, &["rewrap"])["left"], 0);
    assert_eq!(one.keys(&acme, &["state", "1", "destroyed"])["state"], "destroyed");
    for node in [&one, &two] {
        opens(node, &acme, &keys[..8]).await;
    }
    let states: Vec<Value> = one.keys(&acme, &["list"])["data"].as_array().unwrap().clone();
    assert!(states.iter().any(|kek| kek["version"] == 1 && kek["state"] == "destroyed"), "{states:?}");
}

#[tokio::test]
#[ignore = "make test-long: data keys of before stay a quarter of an hour"]
async fn a_quarter_of_an_hour_after_a_compromise_the_data_keys_of_before_are_gone() {
    let mut custody = Custody::of(&[]);
    let acme = custody.customer("acme", &[], 60);
    let keys = compromised(&custody, &acme, 3).await;
    // What a node knows of it does not outlive the node: it starts to count anew, and comes to the same end.
    custody.restart();
    let begun = Instant::now();
    while custody.entries(&acme, "key.data-key.retired").await.is_empty() {
        assert!(begun.elapsed() < RETIRED, "it stays");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    println!("retired after {:?}", begun.elapsed());
    opens(&custody, &acme, &keys).await;
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    assert_eq!(custody.keys(&acme, &["state", "1", "destroyed"])["state"], "destroyed");
    custody.restart();
    opens(&custody, &acme, &keys).await;
}
