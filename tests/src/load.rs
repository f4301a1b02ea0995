//! Callers of a node at work, who remember what they were told, and what must hold of that afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Actor, Answer, Served};

/// What the callers of one node were told.
#[derive(Debug, Default)]
pub struct Told {
    /// Values that were acknowledged.
    pub cards: Vec<String>,
    /// How many others were, whose time is over in ten seconds.
    pub brief: usize,
    /// Values of one use that were used.
    pub spent: Vec<String>,
    /// Uses of such values whose callers heard 503 or nothing, with the `Idempotency-Key` of each.
    pub unknown: Vec<(String, String)>,
    /// Runs that gave their outputs.
    pub runs: Vec<String>,
    /// Captures that were sent, by request id, with the status that came back; 0 is none.
    pub sent: BTreeMap<String, u16>,
    /// Answers of 503.
    pub refused: usize,
    /// Broken connections.
    pub unanswered: usize,
    /// How much was acknowledged since the first refusal.
    pub after: usize,
    /// The longest that a refusal took.
    pub slowest_refusal: Duration,
    /// The codes of refusals.
    pub codes: BTreeSet<String>,
    /// Refusals that do not say when to come back.
    pub without_time: usize,
    checked: usize,
}

impl Told {
    fn note(&mut self, answer: &Answer, took: Duration) {
        match answer.status {
            0 => self.unanswered += 1,
            503 => {
                self.refused += 1;
                self.slowest_refusal = self.slowest_refusal.max(took);
                self.codes.insert(answer.code());
                self.without_time += usize::from(answer.header("retry-after").is_none());
            }
            _ => self.after += usize::from(self.refused > 0),
        }
    }

    /// Begins to count refusals, and what is acknowledged after one, anew.
    pub fn forget_refusals(&mut self) {
        let new = Self::default();
        (self.refused, self.unanswered, self.after) = (0, 0, 0);
        (self.slowest_refusal, self.codes) = (new.slowest_refusal, new.codes);
    }
}

/// Callers at work on a node.
pub struct Load {
    told: Arc<Mutex<Told>>,
    ending: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Caller {
    app: Actor,
    summary: Actor,
    peek: Actor,
    told: Arc<Mutex<Told>>,
    ending: Arc<AtomicBool>,
    pause: Duration,
    /// Whether each puts a value besides whose time is soon over.
    lets_expire: bool,
}

impl Load {
    /// So many callers begin to work, and go on whatever they are answered.
    pub fn begin(callers: usize, served: &Served, told: &Arc<Mutex<Told>>) -> Self {
        Self::begin_with((Duration::ZERO, false), callers, served, told)
    }

    /// The same, each with a pause after its turn, and in each turn with one more value, whose time is over in ten seconds.
    pub fn begin_paced(callers: usize, pause: Duration, served: &Served, told: &Arc<Mutex<Told>>) -> Self {
        Self::begin_with((pause, true), callers, served, told)
    }

    fn begin_with(
        (pause, lets_expire): (Duration, bool),
        callers: usize,
        served: &Served,
        told: &Arc<Mutex<Told>>,
    ) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let caller = Caller {
            app: served.app(),
            summary: served.flow("card-summary"),
            peek: served.flow("peek"),
            told: Arc::clone(told),
            ending: Arc::clone(&ending),
            pause,
            lets_expire,
        };
        let workers = (0..callers).map(|_| tokio::spawn(caller.clone().work())).collect();
        Self { told: Arc::clone(told), ending, workers }
    }

    /// What they were told so far.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Waits until this holds of what they were told.
    pub async fn until(&self, enough: impl Fn(&Told) -> bool) {
        let seen = async {
            while !enough(&self.told()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), seen).await.is_err() {
            let told = self.told();
            panic!("it does not come: {} runs, {} refused {:?}", told.runs.len(), told.refused, told.codes);
        }
    }

    /// Waits until so many more runs gave their outputs.
    pub async fn runs(&self, more: usize) {
        let before = self.told().runs.len();
        self.until(|told| told.runs.len() >= before + more).await;
    }

    /// Lets each caller finish what it asked for.
    pub async fn end(self) {
        self.ending.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.await.unwrap();
        }
    }
}

impl Caller {
    async fn work(self) {
        while !self.ending.load(Ordering::SeqCst) {
            let Some((card, once)) = self.put().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            self.spend(&once).await;
            let asked = self.summary.request(reqwest::Method::POST, "/v1/flows/card-summary/invoke");
            let answer = self.ask(&self.summary, asked.json(&json!({"inputs": {"card": card}}))).await;
            if answer.status == 200 {
                assert_eq!(answer.json()["outputs"]["last4"], "4242", "another value's outputs");
                self.ran(&answer);
            }
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
        }
    }

    async fn ask(&self, actor: &Actor, request: reqwest::RequestBuilder) -> Answer {
        let began = Instant::now();
        let answer = actor.send(request).await;
        assert!([0, 200, 503].contains(&answer.status), "{}: {}", answer.status, answer.text);
        self.told.lock().unwrap().note(&answer, began.elapsed());
        answer
    }

    /// One value that stays and one of a single use.
    async fn put(&self) -> Option<(String, String)> {
        let item = |field: &str| json!({"field": field, "value": "4242424242424242"});
        let id = uuid::Uuid::now_v7().to_string();
        let request = self.app.request(reqwest::Method::POST, "/v1/values").header("x-request-id", &id);
        let mut items = vec![item("card-number"), item("once")];
        items.extend(self.lets_expire.then(|| item("brief")));
        let answer = self.ask(&self.app, request.json(&json!({ "items": items }))).await;
        let keys = answer.json();
        let key = |at: usize| keys["results"][at]["secureValueKey"].as_str().map(str::to_owned);
        let mut told = self.told.lock().unwrap();
        told.sent.insert(id, answer.status);
        told.brief += usize::from(key(2).is_some());
        let (card, once) = (key(0)?, key(1)?);
        told.cards.push(card.clone());
        Some((card, once))
    }

    async fn spend(&self, once: &str) {
        let key = uuid::Uuid::now_v7().to_string();
        let request = self.peek.request(reqwest::Method::POST, "/v1/flows/peek/invoke").header("idempotency-key", &key);
        let answer = self.ask(&self.peek, request.json(&json!({"inputs": {"card": once}}))).await;
        if answer.status == 200 {
            self.ran(&answer);
            self.told.lock().unwrap().spent.push(once.to_owned());
        } else {
            self.told.lock().unwrap().unknown.push((once.to_owned(), key));
        }
    }

    fn ran(&self, answer: &Answer) {
        self.told.lock().unwrap().runs.push(answer.json()["runId"].as_str().unwrap().to_owned());
    }
}

impl Served {
    /// What was acknowledged since the last check is there, what was spent stays spent, and a use whose answer was lost is
    /// answered when it is asked for again: it was done once or is done now.
    pub async fn kept(&self, told: &Mutex<Told>) {
        let (cards, spent, unknown) = {
            let mut told = told.lock().unwrap();
            let known = told.cards.len();
            let from = std::mem::replace(&mut told.checked, known);
            let spent: Vec<String> = told.spent.iter().rev().take(60).cloned().collect();
            (told.cards[from..].to_vec(), spent, std::mem::take(&mut told.unknown))
        };
        // After hours of work, a sample of them.
        let cards: Vec<String> = cards.iter().step_by(cards.len().div_ceil(4000).max(1)).cloned().collect();
        for some in cards.chunks(32) {
            let found = some.iter().map(|card| async move {
                self.app().post("/v1/values/lookup", &json!({"secureValueKey": card})).await.expect(200);
            });
            join_all(found).await;
        }
        for card in cards.iter().rev().take(20) {
            let answer = self.invoke("card-summary", card, None).await.expect(200);
            assert_eq!(answer.json()["outputs"]["last4"], "4242");
        }
        // The newest of them: thousands were refused under overload, long before anything was done.
        let unknown: Vec<_> = unknown.into_iter().rev().take(200).collect();
        for some in unknown.chunks(8) {
            let asked = some.iter().map(|(once, key)| async move {
                let answer = self.invoke("peek", once, Some(key)).await;
                assert_eq!(answer.status, 200, "a use whose answer was lost: {}", answer.text);
                (once.clone(), answer.json()["runId"].as_str().unwrap().to_owned())
            });
            for (once, run) in join_all(asked).await {
                let mut told = told.lock().unwrap();
                told.runs.push(run);
                told.spent.push(once);
            }
        }
        let spent: Vec<String> = spent.into_iter().chain(unknown.into_iter().map(|(once, _)| once)).collect();
        for some in spent.chunks(8) {
            let asked = some.iter().map(|once| async move {
                let again = self.invoke("peek", once, None).await;
                assert_eq!(again.refusal(), (404, "value.not_found".to_owned()), "a spent value came back");
            });
            join_all(asked).await;
        }
    }

    /// Every run that gave its outputs has its entry, every value of one use has one use, no key was given out twice, and
    /// the log verifies.
    pub async fn recorded(&self, told: &Mutex<Told>) {
        let (cards, runs) = {
            let told = told.lock().unwrap();
            (told.cards.clone(), told.runs.clone())
        };
        assert_eq!(cards.iter().collect::<HashSet<_>>().len(), cards.len(), "a key was given out twice");
        // After hours of work there are millions: one after the other.
        let (mut unrecorded, mut uses): (HashSet<String>, HashMap<String, usize>) =
            (runs.into_iter().collect(), HashMap::new());
        let see = |entry: &Value| {
            entry["runId"].as_str().map(|run| unrecorded.remove(run));
            if entry["field"] == "once" {
                *uses.entry(entry["valueId"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        };
        self.each_entry("action=value.dereferenced&outcome=allowed", see).await;
        let some: Vec<_> = unrecorded.iter().take(3).collect();
        assert!(some.is_empty(), "{} runs gave their outputs and have no entry: {some:?}", unrecorded.len());
        assert!(!uses.is_empty() && uses.values().all(|uses| *uses == 1), "a value of one use was used twice");
        self.verify_log().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Runs a flow of one card.
    pub async fn invoke(&self, flow: &str, card: &str, once: Option<&str>) -> Answer {
        let (path, inputs) = (format!("/v1/flows/{flow}/invoke"), json!({"inputs": {"card": card}}));
        match once {
            Some(key) => self.flow(flow).post_once(&path, key, &inputs).await,
            None => self.flow(flow).post(&path, &inputs).await,
        }
    }
}
