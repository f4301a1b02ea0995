//! A crash at every step between the key store and the database (docs/formats.md section 4): the next start goes on, and
//! what was acknowledged is there.
//!
//! The steps are system calls: strace kills the process at the n-th `fsync` (both places), `linkat`, `unlink` and `rename`
//! (the key store and the root key) or `pwrite64` (the database) of a thread.

use serde_json::{Value, json};
use tests::Siv;

/// A call and how often a thread makes it at most in what is swept.
type Sweep = [(&'static str, usize)];

/// Points of a sweep: a sample that moves with every day, or all of them where `SIV_TEST_ROUNDS` is set.
fn points(sweep: &Sweep, sample: usize) -> Vec<String> {
    let all: Vec<String> = sweep
        .iter()
        .flat_map(|(call, last)| (1..=*last).map(move |when| format!("{call}:signal=KILL:when={when}")))
        .collect();
    if std::env::var_os("SIV_TEST_ROUNDS").is_some() {
        return all;
    }
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let step = all.len().div_ceil(sample);
    let first = usize::try_from(seed).unwrap() % step;
    all.into_iter().skip(first).step_by(step).collect()
}

/// What a shop was told.
#[derive(Default)]
struct Told {
    values: Vec<String>,
    credentials: Vec<(String, String)>,
}

/// Nothing acknowledged is lost, and the log is whole.
async fn check(siv: &Siv, told: &Told, point: &str) {
    for key in &told.values {
        let found = siv.app().post("/v1/values/lookup", &json!({"secureValueKey": key})).await;
        assert_eq!(found.status, 200, "{point}: an acknowledged value is gone: {}", found.text);
    }
    for (id, credential) in &told.credentials {
        let found = siv.app().with_bearer(credential).get("/v1/log/entries?limit=1").await;
        assert_eq!(found.status, 200, "{point}: credential {id} is gone: {}", found.text);
    }
    siv.verify_log().unwrap_or_else(|why| panic!("{point}: {why}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_is_killed_anywhere_is_gone_on_with() {
    let sweep = [("fsync", 66), ("linkat", 8), ("unlink", 8), ("rename", 16), ("pwrite64", 150)];
    let mut killed = 0;
    for point in points(&sweep, 6) {
        let mut siv = Siv::unstarted();
        let first = siv.begin_with_faults(&[point.clone()]);
        let mut told = Told::default();
        if first.is_ok() {
            // The point lies beyond the first start, or in what the node does by itself.
            let answer = put(&siv, "card-number").await;
            told.values.extend(answer);
            siv.kill();
        } else {
            killed += 1;
        }
        siv.begin().unwrap_or_else(|why| panic!("killed at {point}, it does not start again: {why}"));
        told.values.push(put(&siv, "card-number").await.unwrap_or_else(|| panic!("{point}: nothing can be put in")));
        check(&siv, &told, &point).await;
        siv.kill();
        siv.begin().unwrap_or_else(|why| panic!("killed at {point}, the third start fails: {why}"));
        check(&siv, &told, &point).await;
    }
    assert!(killed > 0, "no point was met");
}

/// Puts one value in as the shop's server; its key, if that was acknowledged.
async fn put(siv: &Siv, field: &str) -> Option<String> {
    let value = if field == "card-number" { "4242424242424242" } else { "123" };
    let answer = siv.app().post("/v1/values", &json!({"items": [{"field": field, "value": value}]})).await;
    answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned)
}

/// A folder with a vault that has run once and holds no data key of any class of values yet.
async fn fresh() -> Siv {
    let mut siv = Siv::start();
    assert_eq!(siv.terminate(), Some(0));
    siv
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_capture_of_a_class_that_is_killed_anywhere_is_gone_on_with() {
    // A thread that made some of these calls at start has fewer left; the sweep runs over both.
    let sweep = [("fsync", 40), ("linkat", 5), ("rename", 6), ("pwrite64", 60)];
    let (mut siv, mut told) = (fresh().await, Told::default());
    for (turn, point) in points(&sweep, 3).into_iter().enumerate() {
        if turn > 0 {
            siv = fresh().await;
            told = Told::default();
        }
        if siv.begin_with_faults(&[point.clone()]).is_ok() {
            for _ in 0..3 {
                for field in ["card-number", "card-cvc", "card-number"] {
                    told.values.extend(put(&siv, field).await);
                }
            }
        }
        siv.kill();
        siv.begin().unwrap_or_else(|why| panic!("killed at {point}, it does not start again: {why}"));
        told.values.push(put(&siv, "card-cvc").await.unwrap_or_else(|| panic!("{point}: nothing can be put in")));
        check(&siv, &told, &point).await;
        siv.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_credentials_and_tenants_that_is_killed_anywhere_is_gone_on_with() {
    let sweep = [("fsync", 60), ("linkat", 8), ("rename", 10), ("pwrite64", 100)];
    let (mut siv, mut told) = (fresh().await, Told::default());
    for (turn, point) in points(&sweep, 3).into_iter().enumerate() {
        if siv.begin_with_faults(&[point.clone()]).is_ok() {
            for made in 0..6 {
                let body = json!({"kind": "auditor", "name": format!("auditor {turn} {made}")});
                let answer = siv.operator().post("/v1/credentials", &body).await.json();
                if let (Some(id), Some(text)) = (answer["credentialId"].as_str(), answer["credential"].as_str()) {
                    told.credentials.push((id.to_owned(), text.to_owned()));
                }
                let name = format!("tenant-{turn}-{made}");
                siv.operator().post("/v1/tenants", &json!({"name": name})).await;
            }
        }
        siv.kill();
        siv.begin().unwrap_or_else(|why| panic!("killed at {point}, it does not start again: {why}"));
        check(&siv, &told, &point).await;
        // A name that was half made is either whole or free.
        for made in 0..6 {
            let name = format!("tenant-{turn}-{made}");
            let again = siv.operator().post("/v1/tenants", &json!({"name": name})).await;
            assert!([201, 409].contains(&again.status), "{point}: {name}: {}", again.text);
        }
        let ready = siv.stranger().get("/readyz").await.json();
        let tenants = ready["tenants"].as_object().cloned().unwrap_or_default();
        assert!(tenants.values().all(|reasons| *reasons == Value::Array(Vec::new())), "{point}: {ready}");
        siv.kill();
    }
}
