//! Runs on a real store: single use, one refusal for everything, failures, repeats, tampering, outbound steps.

use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::capture::Capture;
use crate::capture::tests::{capture, item, read};
use crate::domain::{DataKeyClass, RunId, SecureValueKey};
use crate::store::Caller;
use crate::store::idempotency::{Answer, IdempotencyKey, Repeated};
use crate::store::testing::TestVault;

const APP: &str = r#"
name = "shop"
[fields.card]
type = "card-number"
retention = "stored"
flows = ["summary", "reveal", "charge"]
purposes = ["payment"]
[fields.once]
type = "card-number"
flows = ["peek"]
purposes = ["payment"]
uses = 1
[fields.other]
type = "card-number"
flows = ["summary"]
purposes = ["payment"]
[fields.cvc]
type = "card-cvc"
flows = ["same", "charge"]
purposes = ["payment"]
[fields.password]
type = "password"
flows = ["login"]
purposes = ["payment"]
"#;

const FLOWS: [(&str, &str); 5] = [
    ("summary", "[inputs]\ncard = { secure = \"card\" }\n[outputs]\nlast4 = \"{{ inputs.card | last4 }}\"\n"),
    (
        "reveal",
        "reveal = [\"card\"]\n[inputs]\ncard = { secure = \"card\" }\n[outputs]\ncard = \"{{ inputs.card }}\"\n",
    ),
    ("peek", "[inputs]\ncard = { secure = \"once\" }\n[outputs]\nlast4 = \"{{ inputs.card | last4 }}\"\n"),
    (
        "same",
        "[inputs]\na = { secure = \"cvc\" }\nb = { secure = \"cvc\" }\n[[steps]]\nid = \"c\"\n[steps.equals]\n\
         left = \"{{ inputs.a }}\"\nright = \"{{ inputs.b }}\"\n[outputs]\nequal = \"{{ steps.c.equal }}\"\n",
    ),
    (
        "login",
        "[inputs]\npassword = { secure = \"password\" }\nphc = { type = \"text\", max = 200 }\n[[steps]]\nid = \"v\"\n\
         [steps.verify]\npassword = \"{{ inputs.password }}\"\nphc = \"{{ inputs.phc }}\"\n[outputs]\n\
         verified = \"{{ steps.v.verified }}\"\n",
    ),
];

struct Bench {
    vault: TestVault,
    capture: Capture,
    runner: Runner,
    app: Caller,
}

impl Bench {
    async fn start() -> Self {
        let vault = TestVault::start().await;
        vault.apply_app(APP).await;
        for (name, rest) in FLOWS {
            vault.apply_flow(name, "shop", "payment", &document(name, rest)).await;
        }
        let egress = EgressPolicy { allow_loopback_http: true, ..EgressPolicy::default() };
        let tools = (Relay::new(egress), Passwords::new(2));
        let TestVault { store, committer, keys, catalog, clock, .. } = &vault;
        let runner = Runner::new(store.clone(), committer.clone(), keys.clone(), catalog.clone(), clock.clone(), tools);
        let (app, capture) = (vault.app("shop").await, capture(&vault));
        Self { vault, capture, runner, app }
    }

    async fn put(&self, field: &str, text: &str) -> String {
        let app = self.vault.again(&self.app).await;
        let answer = self.capture.put_values(&app, vec![item(field, text)], None).await.unwrap();
        read(&answer)["results"][0]["secureValueKey"].as_str().unwrap().to_owned()
    }

    async fn invoke(&self, caller: &Caller, inputs: Value) -> Result<Answer, RunError> {
        self.repeat(caller, inputs, None).await
    }

    async fn repeat(&self, caller: &Caller, inputs: Value, key: Option<&str>) -> Result<Answer, RunError> {
        let body = json!({"inputs": inputs, "reference": "order-1"});
        let request = serde_json::from_value(body.clone()).unwrap();
        let key = key.and_then(|key| IdempotencyKey::new(key, Zeroizing::new(body.to_string().into_bytes())));
        let caller = self.vault.again(caller).await;
        let flow = caller.credential.flow.clone().unwrap();
        self.runner.invoke(&caller, &flow, request, key).await
    }
}

fn document(name: &str, rest: &str) -> String {
    format!("name = \"{name}\"\npurpose = \"payment\"\napp = \"shop\"\n{rest}")
}

fn is_not_found(result: &Result<Answer, RunError>) -> bool {
    matches!(result, Err(RunError::ValueNotFound))
}

/// Such a flow is saved, with a warning: what a value is bound to is judged at its use, and by nothing else.
#[tokio::test]
async fn a_value_opens_for_no_flow_and_no_purpose_that_it_was_not_bound_to() {
    let bench = Bench::start().await;
    let card = bench.put("card", "4242424242424242").await;
    for (name, purpose, rule) in [("stranger", "payment", "binding.flow"), ("charge", "marketing", "binding.purpose")] {
        let text = document(name, FLOWS[0].1).replace("\"payment\"", &format!("\"{purpose}\""));
        bench.vault.apply_flow(name, "shop", purpose, &text).await;
        let flow = bench.vault.flow(name).await;
        let refused = bench.invoke(&flow, json!({"card": card})).await;
        assert!(matches!(&refused, Err(RunError::NotBound(input)) if input == "card"), "{name}: {refused:?}");
        let denied = bench.vault.entries("access.denied").await;
        assert_eq!(denied.last().and_then(|entry| entry.rule.as_deref()), Some(rule));
    }
    assert!(bench.vault.entries("value.dereferenced").await.is_empty());
}

#[tokio::test]
async fn a_run_gives_its_outputs_a_receipt_and_one_entry() {
    let bench = Bench::start().await;
    let (card, flow) = (bench.put("card", "4242424242424242").await, bench.vault.flow("summary").await);
    let answer = read(&bench.invoke(&flow, json!({"card": card})).await.unwrap());
    assert_eq!(answer["outputs"], json!({"last4": "4242"}));
    assert_eq!(answer["receipts"].as_array().unwrap().len(), 1);
    let entries = bench.vault.entries("value.dereferenced").await;
    assert_eq!((entries.len(), entries[0].state_version), (1, None), "what is not counted is not rewritten");
    let run_id: RunId = answer["runId"].as_str().unwrap().parse().unwrap();
    assert_eq!(bench.runner.run(&flow, run_id).await.unwrap().state, "completed");
    let stranger = bench.vault.flow("reveal").await;
    assert!(matches!(bench.runner.run(&stranger, run_id).await, Err(RunError::NotFound)));
}

#[tokio::test]
async fn fifty_parallel_uses_of_a_single_use_value_succeed_once() {
    let bench = Bench::start().await;
    let (once, flow) = (bench.put("once", "4242424242424242").await, bench.vault.flow("peek").await);
    let runs = futures_util::future::join_all((0..50).map(|_| bench.invoke(&flow, json!({"card": once})))).await;
    assert_eq!(runs.iter().filter(|run| run.is_ok()).count(), 1);
    assert_eq!(runs.iter().filter(|run| is_not_found(run)).count(), 49);
    let used = bench.vault.entries("value.dereferenced").await;
    assert_eq!((used.len(), used[0].uses, used[0].state_version), (1, Some(0), Some(1)));
    assert_eq!(bench.vault.entries("access.denied").await.len(), 49);
}

#[tokio::test]
async fn one_value_in_two_inputs_is_two_uses() {
    let bench = Bench::start().await;
    let (cvc, flow) = (bench.put("cvc", "123").await, bench.vault.flow("same").await);
    assert!(is_not_found(&bench.invoke(&flow, json!({"a": cvc, "b": cvc})).await));
    let other = bench.put("cvc", "123").await;
    let answer = bench.invoke(&flow, json!({"a": cvc, "b": other})).await.unwrap();
    assert_eq!(read(&answer)["outputs"]["equal"], true, "a refused run spent nothing");
    let key: SecureValueKey = cvc.parse().unwrap();
    let gone = bench.vault.store.value(&bench.vault.tenant, key.value_id()).await.unwrap();
    assert!(gone.is_none(), "spent sensitive authentication data is deleted with its last use");
}

#[tokio::test]
async fn absent_wrong_expired_spent_and_deleted_get_one_answer() {
    let bench = Bench::start().await;
    let flow = bench.vault.flow("peek").await;
    let [spent, expired, deleted, wrong] = [
        bench.put("once", "4242424242424242").await,
        bench.put("once", "4242424242424242").await,
        bench.put("once", "4242424242424242").await,
        bench.put("once", "4242424242424242").await,
    ];
    bench.invoke(&flow, json!({"card": spent})).await.unwrap();
    let app = bench.vault.again(&bench.app).await;
    bench.capture.delete(&app, deleted.parse().unwrap()).await.unwrap();
    let wrong: SecureValueKey = wrong.parse().unwrap();
    let wrong = SecureValueKey::from_parts(wrong.value_id(), [1; 20]).reveal_text().to_string();
    let absent = SecureValueKey::generate(bench.vault.clock.now()).unwrap().reveal_text().to_string();
    let mut answers = Vec::new();
    for key in [&spent, &deleted, &wrong, &absent] {
        answers.push(bench.invoke(&flow, json!({"card": key})).await.map(|_| ()).unwrap_err());
    }
    bench.vault.clock.advance(Duration::from_secs(1801));
    answers.push(bench.invoke(&flow, json!({"card": expired})).await.map(|_| ()).unwrap_err());
    assert!(answers.iter().all(|error| matches!(error, RunError::ValueNotFound)), "{answers:?}");
    let denied = bench.vault.entries("access.denied").await;
    let rules: Vec<_> = denied.iter().filter_map(|entry| entry.rule.as_deref()).collect();
    assert_eq!(rules, ["value.spent", "value.absent", "value.wrong-secret", "value.absent", "value.expired"]);
    assert!(denied.iter().all(|entry| entry.reason.as_deref() == Some("value.not_found")));
}

#[tokio::test]
async fn a_value_s_own_binding_and_the_caller_s_are_refused_as_policy() {
    let bench = Bench::start().await;
    let flow = bench.vault.flow("summary").await;
    let other = bench.put("other", "4242424242424242").await;
    assert!(
        matches!(bench.invoke(&flow, json!({"card": other})).await, Err(RunError::NotBound(input)) if input == "card")
    );
    let card = bench.put("card", "4242424242424242").await;
    let request = || serde_json::from_value(json!({"inputs": {"card": card}})).unwrap();
    let reveal = "reveal".parse().unwrap();
    assert!(matches!(bench.runner.invoke(&flow, &reveal, request(), None).await, Err(RunError::PolicyDenied)));
    let malformed = bench.invoke(&flow, json!({"card": "svk_nope"})).await;
    assert!(matches!(malformed, Err(RunError::Flow { run_id: None, error: Error::Inputs(_) })));
    let rules: Vec<_> = bench.vault.entries("access.denied").await.into_iter().filter_map(|e| e.rule).collect();
    assert_eq!(rules, ["binding.field", "credential.flow"]);
}

#[tokio::test]
async fn no_member_of_a_value_can_be_moved_from_another() {
    const MOVES: [&str; 14] = [
        "UPDATE secure_values SET sealed = (SELECT v.sealed FROM secure_values v WHERE v.field = 'other')",
        "UPDATE secure_values SET verifier = (SELECT v.verifier FROM secure_values v WHERE v.field = 'other')",
        "UPDATE secure_values SET data_key_id = randomblob(16)",
        "UPDATE secure_values SET data_key_id = (SELECT k.data_key_id FROM data_keys k WHERE k.class = 'log-opening')",
        "UPDATE secure_values SET pepper_id = randomblob(16)",
        "UPDATE secure_values SET retention = 'session' WHERE field = 'card'",
        "UPDATE secure_values SET created = created + 1",
        "UPDATE secure_values SET expires = 4102444800000",
        "UPDATE secure_values SET uses = 9",
        "UPDATE secure_values SET flows = 'charge reveal summary summary2'",
        "UPDATE secure_values SET purposes = 'payment support'",
        "UPDATE secure_values SET kind = 'text'",
        "UPDATE secure_values SET session = randomblob(16)",
        "UPDATE secure_values SET subject = randomblob(32)",
    ];
    let bench = Bench::start().await;
    let flow = bench.vault.flow("summary").await;
    for sql in MOVES {
        let card = bench.put("card", "4242424242424242").await;
        bench.put("other", "5555555555554444").await;
        bench.invoke(&flow, json!({"card": card})).await.unwrap();
        bench.vault.meddle(sql).await;
        let refused = bench.invoke(&flow, json!({"card": card})).await;
        assert!(is_not_found(&refused), "{sql}: {:?}", refused.map(|_| ()));
        bench.vault.meddle("DELETE FROM secure_values").await;
    }
    let denied = bench.vault.entries("access.denied").await;
    let tampered = denied.iter().filter(|entry| entry.reason.as_deref() == Some("tampered")).count();
    // A verifier from elsewhere is a wrong secret to everyone.
    assert_eq!((denied.len(), tampered), (MOVES.len(), MOVES.len() - 1));
}

#[tokio::test]
async fn an_old_state_cannot_be_put_back_nor_a_state_be_changed() {
    const MEDDLING: [&str; 5] = [
        "DELETE FROM value_states",
        "UPDATE value_states SET failures = 0",
        "UPDATE value_states SET version = version + 1",
        "UPDATE value_states SET data_key_id = randomblob(16)",
        "UPDATE value_states SET expires = 4102444800000",
    ];
    let bench = Bench::start().await;
    let (flow, phc) = (bench.vault.flow("login").await, hash("right password").await);
    for sql in MEDDLING {
        let key = bench.put("password", "wrong password").await;
        let inputs = json!({"password": key, "phc": *phc});
        let answer = bench.invoke(&flow, inputs.clone()).await.unwrap();
        assert_eq!(read(&answer)["outputs"]["verified"], false);
        bench.vault.meddle(sql).await;
        assert!(is_not_found(&bench.invoke(&flow, inputs).await), "{sql}");
        bench.vault.meddle("DELETE FROM secure_values").await;
    }
}

#[tokio::test]
async fn ten_failures_end_a_value_and_a_success_counts_none() {
    let bench = Bench::start().await;
    let (flow, phc, other) = (bench.vault.flow("login").await, hash("the password").await, hash("another one").await);
    let key = bench.put("password", "the password").await;
    for _ in 0..2 {
        let answer = bench.invoke(&flow, json!({"password": key, "phc": *phc})).await.unwrap();
        assert_eq!(read(&answer)["outputs"]["verified"], true);
    }
    let entries = bench.vault.entries("value.dereferenced").await;
    let versions: Vec<_> = entries.iter().map(|entry| entry.state_version).collect();
    assert_eq!(versions, [Some(1), Some(2), Some(3), Some(4)], "each change of the state stands in the log");
    assert!(bench.vault.entries("relay.outcome").await.is_empty(), "nothing was relayed");
    for _ in 0..10 {
        let answer = bench.invoke(&flow, json!({"password": key, "phc": *other})).await.unwrap();
        assert_eq!(read(&answer)["outputs"]["verified"], false);
    }
    assert!(is_not_found(&bench.invoke(&flow, json!({"password": key, "phc": *phc})).await));
    // The last letter of a bcrypt string has two bits too many, which are zero.
    let bcrypt =
        format!("{}/", "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy".strip_suffix('y').unwrap());
    for phc in ["plain", &bcrypt] {
        let bad = bench.invoke(&flow, json!({"password": key, "phc": phc})).await;
        assert!(
            matches!(bad, Err(RunError::Flow { run_id: None, .. })),
            "a wrong hash is refused before anything is spent"
        );
    }
}

#[tokio::test]
async fn a_repeat_is_answered_and_not_run_again() {
    let bench = Bench::start().await;
    let (once, flow) = (bench.put("once", "4242424242424242").await, bench.vault.flow("peek").await);
    let first = bench.repeat(&flow, json!({"card": once}), Some("k")).await.unwrap();
    let again = bench.repeat(&flow, json!({"card": once}), Some("k")).await.unwrap();
    assert_eq!(first.body, again.body);
    let other = bench.repeat(&flow, json!({"card": bench.put("once", "4242424242424242").await}), Some("k")).await;
    assert!(matches!(other, Err(RunError::Repeated(Repeated::Mismatch))));
    let stranger = bench.vault.flow("peek").await;
    let foreign = bench.repeat(&stranger, json!({"card": once}), Some("k")).await;
    assert!(matches!(foreign, Err(RunError::Repeated(Repeated::Completed))));
    let (card, reveal) = (bench.put("card", "4242424242424242").await, bench.vault.flow("reveal").await);
    for _ in 0..2 {
        let answer = bench.repeat(&reveal, json!({"card": card}), Some("r")).await.unwrap();
        assert_eq!(read(&answer)["outputs"]["card"], "4242424242424242");
    }
    assert_eq!(bench.vault.entries("value.revealed").await.len(), 2, "each is a new access");
    let other = bench.put("card", "4000000000000002").await;
    let other = bench.repeat(&reveal, json!({"card": other}), Some("r")).await;
    assert!(matches!(other, Err(RunError::Repeated(Repeated::Mismatch))));
}

async fn hash(text: &str) -> Zeroizing<String> {
    let password = crate::domain::Plaintext::new(Zeroizing::new(text.to_owned()));
    Passwords::new(1).hash(&"demo".parse().unwrap(), &password).await.unwrap()
}

mod model;
mod node;
mod outbound;
mod random;
mod repeats;
mod working;
