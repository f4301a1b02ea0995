//! Takes the steps of a random case on real nodes, and tells the model what was answered.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{Asked, Kind, Told, World, Worlds};
use super::node::{Node, is_unheard, is_unheard_run, told_of_run};
use super::random::{Asking, Fate, Request, Step, Tally, Value};
use super::*;
use crate::capture::PutItem;
use crate::store::EntryFilter;

const APP: &str = r#"
name = "shop"
[fields.card]
type = "card-number"
retention = "stored"
flows = ["card"]
purposes = ["payment"]
[fields.few]
type = "card-number"
flows = ["few"]
purposes = ["payment"]
uses = 4
[fields.code]
type = "card-number"
retention = "sensitive-authentication"
flows = ["code"]
purposes = ["payment"]
[fields.password]
type = "password"
flows = ["password"]
purposes = ["payment"]
"#;

/// Numbers with what their flow gives out.
const CARDS: [(&str, &str); 3] =
    [("4242424242424242", "4242"), ("5555555555554444", "4444"), ("4000000000000002", "0002")];
const PASSWORD: &str = "correct horse";

/// All nodes on one database, with the callers that every node knows.
pub(super) struct Nodes {
    all: Vec<Node>,
    app: Caller,
    flows: Vec<(Kind, Caller)>,
    /// bcrypt strings of the right password and of another.
    hashes: [String; 2],
    keys: AtomicUsize,
    tally: Mutex<Tally>,
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Card => "card",
        Kind::Few => "few",
        Kind::Code => "code",
        Kind::Password => "password",
    }
}

impl Nodes {
    pub(super) async fn on_sqlite() -> Self {
        Self::of(vec![TestVault::start().await]).await
    }

    pub(super) async fn on_postgres() -> Self {
        let first = TestVault::start_on_postgres().await;
        let second = first.second_node().await;
        Self::of(vec![first, second]).await
    }

    async fn of(vaults: Vec<TestVault>) -> Self {
        vaults[0].apply_app(APP).await;
        let output = |kind| {
            format!(
                "[inputs]\ncard = {{ secure = \"{kind}\" }}\n[outputs]\nlast4 = \"{{{{ inputs.card | last4 }}}}\"\n"
            )
        };
        let guess = "[inputs]\ncard = { secure = \"password\" }\nphc = { type = \"text\", max = 200 }\n[[steps]]\n\
                     id = \"v\"\n[steps.verify]\npassword = \"{{ inputs.card }}\"\nphc = \"{{ inputs.phc }}\"\n\
                     [outputs]\nverified = \"{{ steps.v.verified }}\"\n";
        let mut flows = Vec::new();
        for kind in [Kind::Card, Kind::Few, Kind::Code, Kind::Password] {
            let rest = if kind == Kind::Password { guess.to_owned() } else { output(name(kind)) };
            vaults[0].apply_flow(name(kind), "shop", "payment", &document(name(kind), &rest)).await;
            flows.push((kind, vaults[0].flow(name(kind)).await));
        }
        let app = vaults[0].app("shop").await;
        let hashes = [PASSWORD, "another one"].map(|text| bcrypt::hash(text, 10).unwrap());
        let all = vaults.into_iter().map(Node::of).collect();
        Self { all, app, flows, hashes, keys: AtomicUsize::new(0), tally: Mutex::default() }
    }

    fn node(&self, wanted: usize) -> &Node {
        &self.all[wanted % self.all.len()]
    }

    fn now(&self) -> u64 {
        self.all[0].vault.clock.now().as_millis()
    }

    fn caller(&self, kind: Kind) -> &Caller {
        &self.flows.iter().find(|(known, _)| *known == kind).unwrap().1
    }

    fn count(&self, what: &'static str) {
        *self.tally.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// A vault that refused everything would fit the model too.
    pub(super) fn assert_that_little_was_lost_by_itself(&self) {
        let tally = self.tally();
        let of = |what| tally.get(what).copied().unwrap_or(0);
        assert!(of("unheard") <= of("losses") + of("steps") / 20, "{tally:?}");
        assert!(of("used") > 0 && of("losses") > 0, "{tally:?}");
    }

    /// Takes one step.
    pub(super) async fn take(&self, asking: &Asking, values: &mut Vec<Value>, requests: &mut Vec<Request>) {
        let (step, fate, wanted) = asking;
        let node = self.node(*wanted);
        self.count("steps");
        match step {
            Step::Wait { seconds } => return node.vault.clock.advance(Duration::from_secs(*seconds)),
            Step::Purge => return node.purge(*fate).await,
            Step::Change => return node.vault.apply_app(APP).await,
            Step::Revoke => return self.revoke(node, *wanted).await,
            Step::Put { kind, uses, seconds, card } => {
                let value = self.put(node, (*kind, *uses, *seconds, *card), *fate).await;
                return values.push(value);
            }
            Step::Repeat { .. } if requests.is_empty() => return,
            Step::Repeat { request } => {
                let at = request.index(requests.len());
                return self.repeat(node, at, *fate, values, requests).await;
            }
            _ => {}
        }
        let Some(at) = step.value().filter(|_| !values.is_empty()).map(|index| index.index(values.len())) else {
            return;
        };
        let value = &mut values[at];
        let guesses = value.worlds.kind() == Kind::Password;
        match step {
            Step::Burst { times, .. } if !guesses => self.burst(*times, *wanted, value).await,
            Step::Guess { right, .. } if guesses => self.ask(node, Asked::Guess { right: *right }, *fate, value).await,
            Step::Lookup { .. } => self.ask(node, Asked::Lookup, *fate, value).await,
            Step::Delete { .. } => self.ask(node, Asked::Delete, *fate, value).await,
            Step::Extend { seconds, .. } => {
                self.ask(node, Asked::Extend(self.now() + seconds * 1000), *fate, value).await;
            }
            Step::Use { keyed: true, .. } if !guesses => {
                let key = self.fresh_key();
                requests.push(Request { value: at, at: self.now(), key, answer: None });
                self.repeat(node, requests.len() - 1, *fate, values, requests).await;
            }
            Step::Use { .. } if !guesses => self.ask(node, Asked::Use(None), *fate, value).await,
            _ => {}
        }
    }

    fn fresh_key(&self) -> String {
        format!("k-{}", self.keys.fetch_add(1, Ordering::SeqCst))
    }

    /// Puts a value in. Where the answer is lost, the same request comes again until it is heard: it is captured once.
    async fn put(&self, node: &Node, what: (Kind, u32, u64, usize), fate: Fate) -> Value {
        let (kind, uses, seconds, card) = what;
        let (number, last4) = CARDS[card];
        let mut one = item(name(kind), if kind == Kind::Password { PASSWORD } else { number });
        if kind == Kind::Few {
            (one.uses, one.ttl_seconds) = (Some(uses), Some(seconds));
        }
        let (key, mut fate, mut created) = (self.fresh_key(), fate, None);
        let again = || IdempotencyKey::new(&key, Zeroizing::new(b"the same".to_vec()));
        let body = loop {
            // An answer that was lost may be of a capture at this moment.
            let now = *created.get_or_insert_with(|| self.now());
            let app = node.vault.again(&self.app).await;
            let item = PutItem { uses: one.uses, ttl_seconds: one.ttl_seconds, ..item(&one.field, &one.value) };
            let asked = node.capture.put_values(&app, vec![item], again());
            match self.fated(node, fate, asked).await {
                Some(Ok(answer)) => break (now, read(&answer)),
                Some(Err(error)) => assert!(is_unheard(&error), "{error}"),
                None => {}
            }
            self.count("unheard");
            fate = Fate::Heard;
        };
        let (created, key) = (body.0, body.1["results"][0]["secureValueKey"].as_str().unwrap().to_owned());
        let (lifetime, uses) = match kind {
            Kind::Card => (None, None),
            Kind::Few => (Some(seconds * 1000), Some(uses)),
            Kind::Code => (Some(900_000), Some(1)),
            Kind::Password => (Some(1_800_000), None),
        };
        self.count("put");
        Value { key, last4, uses, worlds: Worlds::new(World::new(kind, created, lifetime, uses)) }
    }

    /// Asks, unless the asker goes away at once; loses the answer, if that is the step's fate.
    async fn fated<T>(&self, node: &Node, fate: Fate, asked: impl Future<Output = T>) -> Option<T> {
        match fate {
            Fate::Heard => Some(asked.await),
            Fate::AnswerLost => {
                self.count("losses");
                node.vault.lose_the_next_answer(true).await;
                let told = asked.await;
                // A request that was refused before it was written lost nothing, and the next commit is another step's.
                node.vault.lose_the_next_answer(false).await;
                Some(told)
            }
            Fate::Abandoned => {
                self.count("losses");
                let told = asked.now_or_never();
                node.is_idle(&self.app).await;
                told
            }
        }
    }

    async fn ask(&self, node: &Node, asked: Asked, fate: Fate, value: &mut Value) {
        let now = self.now();
        let told = match asked {
            Asked::Use(_) | Asked::Guess { .. } if fate == Fate::Abandoned => return,
            Asked::Use(_) => self.fated(node, fate, self.run(node, value, None)).await.and_then(|told| told.0),
            Asked::Guess { right } => {
                let phc = &self.hashes[usize::from(!right)];
                let inputs = json!({"card": value.key, "phc": phc});
                let run = node.invoke(self.caller(Kind::Password), inputs, None);
                match self.fated(node, fate, run).await {
                    // It compares no faster than that, and says so before it spends anything.
                    Some(Err(RunError::RateLimited)) => return,
                    Some(answer) => told_of_run(answer, |body| Told::Verified(body["outputs"]["verified"] == true)),
                    None => None,
                }
            }
            Asked::Lookup | Asked::Delete | Asked::Extend(_) => {
                self.fated(node, fate, node.own(&self.app, asked, &value.key)).await.flatten()
            }
        };
        self.note(asked, told.as_ref(), now, value);
    }

    fn note(&self, asked: Asked, told: Option<&Told>, now: u64, value: &mut Value) {
        match told {
            Some(told) => {
                if *told == Told::Used {
                    self.count("used");
                }
                value.worlds.heard(asked, told, now);
            }
            None => {
                self.count("unheard");
                value.worlds.unheard(asked, now);
            }
        }
    }

    /// Uses a value: nothing where nobody heard the answer.
    async fn run(&self, node: &Node, value: &Value, key: Option<&str>) -> (Option<Told>, Option<Vec<u8>>) {
        let run = node.invoke(self.caller(value.worlds.kind()), json!({"card": value.key}), key).await;
        let body = run.as_ref().ok().map(|answer| answer.body.to_vec());
        let told = told_of_run(run, |body| {
            assert_eq!(body["outputs"]["last4"], value.last4, "another value's outputs");
            Told::Used
        });
        (told, body)
    }

    /// Sends a request with an `Idempotency-Key`, for the first time or again.
    async fn repeat(&self, node: &Node, at: usize, fate: Fate, values: &mut [Value], requests: &mut [Request]) {
        let (request, now) = (&mut requests[at], self.now());
        let value = &mut values[request.value];
        // Its record is kept for a day.
        if now > request.at + 20 * 3_600_000 || fate == Fate::Abandoned {
            return;
        }
        let run = self.fated(node, fate, self.run(node, value, Some(&request.key))).await;
        let (told, body) = run.unwrap_or_default();
        self.note(Asked::Use(Some(at)), told.as_ref(), now, value);
        if let (Some(first), Some(body)) = (&request.answer, &body) {
            assert_eq!(first, body, "a repeat is given another answer");
            self.count("repeated");
        }
        request.answer = request.answer.take().or(body);
    }

    /// Uses at once, on all nodes: as many succeed as were left.
    async fn burst(&self, times: usize, wanted: usize, value: &mut Value) {
        let now = self.now();
        let shared: &Value = value;
        let runs = (0..times).map(|one| self.run(self.node(wanted + one), shared, None));
        let told: Vec<_> = join_all(runs).await.into_iter().map(|(told, _)| told).collect();
        // In the order in which they can have been done: what was heard to succeed, what was not heard, what was refused.
        for kind in [Some(Told::Used), None, Some(Told::NotFound)] {
            for told in told.iter().filter(|told| **told == kind) {
                self.note(Asked::Use(None), told.as_ref(), now, value);
            }
        }
        self.count("bursts");
    }

    /// A credential that was revoked on one node is none on every node.
    async fn revoke(&self, node: &Node, wanted: usize) {
        let flow = node.vault.flow("card").await;
        node.vault.revoke(&flow).await;
        let absent = SecureValueKey::generate(node.vault.clock.now()).unwrap().reveal_text().to_string();
        let request = serde_json::from_value(json!({"inputs": {"card": absent}})).unwrap();
        let other = self.node(wanted + 1);
        let run = other.runner.invoke(&flow, &"card".parse().unwrap(), request, None).await;
        assert!(matches!(run, Err(RunError::AuthInvalid)) || run.is_err_and(|error| is_unheard_run(&error)));
    }

    /// After everything: what the value is now is what some world says, and its counted uses are what the log says.
    pub(super) async fn settle(&self, value: &mut Value) {
        self.ask(&self.all[0], Asked::Lookup, Fate::Heard, value).await;
        let key: SecureValueKey = value.key.parse().unwrap();
        let filter = EntryFilter {
            value_id: Some(key.value_id()),
            action: Some("value.dereferenced".to_owned()),
            outcome: Some("allowed".to_owned()),
            ..EntryFilter::default()
        };
        let vault = &self.all[0].vault;
        let page = vault.store.entries(&vault.tenant, &filter, None, 1000).await.unwrap();
        if let Some(uses) = value.uses {
            let used: BTreeSet<u32> = value.worlds.used(uses);
            let entries = u32::try_from(page.entries.len()).unwrap();
            assert!(used.contains(&entries), "{entries} entries of a value that was used {used:?} times");
        }
    }
}

impl Step {
    fn value(&self) -> Option<&proptest::sample::Index> {
        match self {
            Self::Use { value, .. }
            | Self::Burst { value, .. }
            | Self::Guess { value, .. }
            | Self::Lookup { value }
            | Self::Delete { value }
            | Self::Extend { value, .. } => Some(value),
            _ => None,
        }
    }
}
