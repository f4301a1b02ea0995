//! A crash at every step between the key store and the database (docs/formats.md section 4): the next start goes on, what
//! was acknowledged is there, and what was cut short can be done again.
//!
//! A step is a call that changes a file or makes a change durable, counted over all threads from the moment the request is
//! sent (`crash.c`). What is destroyed in both places is destroyed by the clock, and has its crash tests beside the keys.

use serde_json::{Value, json};
use tests::crash::Crash;
use tests::{Answer, Siv};

/// What a shop was told.
#[derive(Default, Clone)]
struct Told {
    values: Vec<String>,
    credentials: Vec<String>,
}

impl Told {
    /// Remembers what an answer acknowledges.
    fn note(&mut self, answer: &Answer) {
        let answer = answer.json();
        self.values.extend(answer["results"][0]["secureValueKey"].as_str().map(str::to_owned));
        self.credentials.extend(answer["credential"].as_str().map(str::to_owned));
    }
}

/// Steps to be ended at: all of them, or a sample that moves with every day unless `SIV_TEST_ROUNDS` is set.
pub(crate) fn sample(steps: usize, size: usize) -> Vec<usize> {
    if std::env::var_os("SIV_TEST_ROUNDS").is_some() {
        return (1..=steps).collect();
    }
    let day = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let stride = steps.div_ceil(size);
    let first = usize::try_from(day).unwrap() % stride;
    println!("a sample of the steps: every {stride}th from {}", first + 1);
    (1..=steps).skip(first).step_by(stride).collect()
}

/// Nothing acknowledged is lost, every tenant can be served, and the log is whole.
async fn check(siv: &Siv, told: &Told, point: &str) {
    for key in &told.values {
        let found = siv.app().post("/v1/values/lookup", &json!({"secureValueKey": key})).await;
        assert_eq!(found.status, 200, "{point}: an acknowledged value is gone: {}", found.text);
    }
    for credential in &told.credentials {
        let found = siv.auditor().with_bearer(credential).get("/v1/log/entries?limit=1").await;
        assert_eq!(found.status, 200, "{point}: an acknowledged credential is gone: {}", found.text);
    }
    let ready = siv.stranger().get("/readyz").await.json();
    let tenants = ready["tenants"].as_object().cloned().unwrap_or_default();
    assert!(!tenants.is_empty(), "{point}: {ready}");
    assert!(tenants.values().all(|reasons| *reasons == Value::Array(Vec::new())), "{point}: {ready}");
    siv.verify_log().unwrap_or_else(|why| panic!("{point}: {why}"));
}

/// Puts one value in as the shop's server.
async fn put(siv: &Siv, field: &str) -> Answer {
    let value = if field == "card-number" { "4242424242424242" } else { "123" };
    siv.app().post("/v1/values", &json!({"items": [{"field": field, "value": value}]})).await
}

/// A vault that has run, holds one card and was stopped; every point of a sweep begins with a copy of it.
async fn stopped() -> (Siv, Told) {
    let (mut siv, mut told) = (Siv::start(), Told::default());
    told.note(&put(&siv, "card-number").await.expect(200));
    assert_eq!(siv.terminate(), Some(0));
    (siv, told)
}

/// A copy of a stopped vault, running, and its counter: what the node does by itself after a start is done.
pub(crate) async fn running(template: &Siv) -> (Siv, Crash) {
    let mut siv = Siv::copy_of(template);
    let crash = Crash::new(siv.folder());
    siv.set_environment(crash.environment());
    siv.begin().unwrap_or_else(|why| panic!("{why}"));
    settled(&crash).await;
    (siv, crash)
}

/// Begins to count, and waits until the node takes no step of its own.
pub(crate) async fn settled(crash: &Crash) {
    crash.count();
    let (mut counted, mut still) = (0, 0);
    for _ in 0..400 {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        still = if crash.counted() == counted { still + 1 } else { 0 };
        counted = crash.counted();
        if still == 12 {
            break;
        }
    }
}

/// Does something once to count its steps, and then once per step on a vault that dies there.
async fn ends_at_every_step(act: impl AsyncFn(&Siv) -> Answer) {
    let (template, before) = stopped().await;
    let steps = {
        let (siv, crash) = running(&template).await;
        let before = crash.counted();
        let answer = act(&siv).await;
        assert!((200..300).contains(&answer.status), "{}", answer.text);
        crash.counted() - before
    };
    assert!(steps >= 5, "only {steps} steps were seen");
    let mut inside = 0;
    for step in 1..=steps {
        let point = format!("killed at step {step} of {steps}");
        let (mut siv, crash) = running(&template).await;
        let mut told = before.clone();
        crash.at_step(step);
        let answer = act(&siv).await;
        told.note(&answer);
        if answer.status == 0 {
            inside += 1;
            assert_eq!(siv.ended_by(), Some(9), "{point}: it was not the step that ended it");
        } else {
            // The node's own steps between ours vary: this point lay behind the answer.
            siv.kill();
        }
        siv.set_environment(Vec::new());
        siv.begin().unwrap_or_else(|why| panic!("{point}, it does not start again: {why}"));
        check(&siv, &told, &point).await;
        let again = act(&siv).await;
        assert!((200..300).contains(&again.status), "{point}, it cannot be done again: {}", again.text);
        told.note(&again);
        check(&siv, &told, &point).await;
    }
    println!("{steps} steps, {inside} of them before the answer");
    assert!(inside * 5 >= steps * 3, "only {inside} of {steps} points lay inside what was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_capture_of_a_class_that_is_killed_anywhere_is_gone_on_with() {
    // The first value of its class makes an erasure key and a data key.
    ends_at_every_step(async |siv| put(siv, "card-cvc").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_a_tenant_that_is_killed_anywhere_is_gone_on_with() {
    ends_at_every_step(async |siv| {
        let answer = siv.operator().post("/v1/tenants", &json!({"name": "acme"})).await;
        if answer.status != 409 {
            return answer;
        }
        // It was made whole before the kill: then it is there, and can be put to work.
        siv.operator().post("/v1/credentials?tenant=acme", &json!({"kind": "auditor", "name": "one"})).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_a_credential_that_is_killed_anywhere_is_gone_on_with() {
    ends_at_every_step(async |siv| {
        siv.operator().post("/v1/credentials", &json!({"kind": "auditor", "name": "second"})).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotating_a_kek_that_is_killed_anywhere_is_gone_on_with() {
    ends_at_every_step(async |siv| {
        let rotated = siv.custodian().post("/v1/keks/rotate", &json!({})).await;
        if rotated.status != 201 {
            return rotated;
        }
        siv.custodian().post("/v1/keks/rewrap", &json!({})).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_is_killed_anywhere_is_gone_on_with() {
    let begin = |step: Option<usize>| {
        let mut siv = Siv::unstarted();
        let crash = Crash::new(siv.folder());
        step.map_or_else(|| crash.count(), |step| crash.at_step(step));
        siv.set_environment(crash.environment());
        let begun = siv.begin();
        siv.set_environment(Vec::new());
        (siv, crash, begun)
    };
    let (_siv, crash, begun) = begin(None);
    begun.unwrap_or_else(|why| panic!("{why}"));
    let steps = crash.counted();
    let points = sample(steps, 14);
    let (of, mut early) = (points.len(), 0);
    for step in points {
        let point = format!("first start, killed at step {step} of {steps}");
        let (mut siv, _crash, begun) = begin(Some(step));
        match begun {
            Err(_) => early += 1,
            Ok(()) => siv.kill(), // the node's own steps vary: this point lay behind the start
        }
        siv.begin().unwrap_or_else(|why| panic!("{point}, it does not start again: {why}"));
        let mut told = Told::default();
        told.note(&put(&siv, "card-number").await.expect(200));
        check(&siv, &told, &point).await;
        siv.kill();
        siv.begin().unwrap_or_else(|why| panic!("{point}, the third start fails: {why}"));
        check(&siv, &told, &point).await;
    }
    println!("{steps} steps, {early} of {of} points before it was ready");
    assert!(early * 4 >= of * 3, "only {early} of {of} points lay inside the first start");
}
