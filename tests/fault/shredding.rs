//! A crash at every step of the end of a tenant's keys (docs/formats.md section 4): before the approval is durable nothing
//! is destroyed; after it the next start destroys what is left, and says so once.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Actor, Siv};

use crate::two_places::{running, sample};

/// So generous that only what never comes meets it.
const LONG: Duration = Duration::from_secs(60);

/// A stopped vault whose custodian asked for the end of the tenant's keys.
struct Asked {
    siv: Siv,
    card: String,
    second: String,
    approval: String,
}

impl Asked {
    async fn new() -> Self {
        let mut siv = Siv::start();
        let body = json!({"kind": "custodian", "name": "second"});
        let second = siv.operator().post("/v1/credentials", &body).await.expect(201).json();
        let item = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let card = siv.app().post("/v1/values", &item).await.expect(200).json();
        let asked = siv.custodian().post("/v1/keks/shred", &json!({})).await.expect(202).json();
        assert_eq!(siv.terminate(), Some(0));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (card, second) = (text(&card["results"][0]["secureValueKey"]), text(&second["credential"]));
        Self { siv, card, second, approval: text(&asked["approval"]["approvalId"]) }
    }

    fn second(&self, siv: &Siv) -> Actor {
        siv.custodian().with_bearer(&self.second)
    }

    async fn approve(&self, siv: &Siv) -> tests::Answer {
        self.second(siv).post(&format!("/v1/approvals/{}", self.approval), &json!({})).await
    }

    async fn opens(&self, siv: &Siv) -> bool {
        let inputs = json!({"inputs": {"card": self.card}});
        siv.flow("card-summary").post("/v1/flows/card-summary/invoke", &inputs).await.status == 200
    }

    /// What the keys' rows say now.
    async fn states(&self, siv: &Siv) -> Vec<Value> {
        let listed = self.second(siv).get("/v1/keks").await.expect(200).json();
        listed["data"].as_array().unwrap().iter().map(|kek| kek["state"].clone()).collect()
    }

    /// Waits until all of it is done, and holds it to what was promised.
    async fn is_at_its_end(&self, siv: &Siv, point: &str) {
        let end = Instant::now() + LONG;
        // What a list shows may be a second old, so both are waited for.
        let is_done = async || {
            let certified = self.second(siv).get("/v1/keks/certificate").await.status == 200;
            certified && self.states(siv).await.iter().all(|state| *state == "destroyed")
        };
        while !is_done().await {
            assert!(Instant::now() < end, "{point}: {:?}", self.states(siv).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!self.opens(siv).await, "{point}: a value opens");
        let store = siv.data().join("key-store");
        assert!(store.is_dir() && keks_of("demo", &store).is_empty(), "{point}: {:?}", keks_of("demo", &store));
        let page = siv.auditor().get("/v1/log/entries?action=key.tenant.shredded&limit=10").await.expect(200).json();
        assert_eq!(page["data"].as_array().unwrap().len(), 1, "{point}: it is said once");
        siv.verify_log().unwrap_or_else(|why| panic!("{point}: {why}"));
    }
}

/// The files in which a tenant's key-encryption keys lie.
fn keks_of(tenant: &str, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(keks_of(tenant, &path));
        } else if path.display().to_string().contains("/kek") && path.display().to_string().contains(tenant) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shredding_that_is_killed_anywhere_did_not_begin_or_comes_to_its_end() {
    let asked = Asked::new().await;
    let steps = {
        let (siv, crash) = running(&asked.siv).await;
        assert!(asked.opens(&siv).await && !keks_of("demo", &siv.data().join("key-store")).is_empty());
        let before = crash.counted();
        asked.approve(&siv).await.expect(200);
        let steps = crash.counted() - before;
        asked.is_at_its_end(&siv, "not killed").await;
        steps
    };
    let (mut inside, mut begun, points) = (0, 0, sample(steps, 10));
    for step in &points {
        let point = format!("killed at step {step} of {steps}");
        let (mut siv, crash) = running(&asked.siv).await;
        crash.at_step(*step);
        if asked.approve(&siv).await.status == 0 {
            inside += 1;
            assert_eq!(siv.ended_by(), Some(9), "{point}: it was not the step that ended it");
        } else {
            siv.kill();
        }
        siv.set_environment(Vec::new());
        siv.begin().unwrap_or_else(|why| panic!("{point}, it does not start again: {why}"));
        if asked.states(&siv).await.iter().all(|state| *state == "active") {
            // Not begun: nothing is lost, and it can be approved still.
            assert!(asked.opens(&siv).await, "{point}: it did not begin, and the value does not open");
            asked.approve(&siv).await.expect(200);
        } else {
            begun += 1;
        }
        asked.is_at_its_end(&siv, &point).await;
    }
    println!("{steps} steps, {inside} of {} before the answer, {begun} after it had begun", points.len());
    assert!(inside * 2 >= points.len(), "only {inside} of {} points lay inside", points.len());
    assert!(begun > 0 && begun < points.len(), "both happened");
}
