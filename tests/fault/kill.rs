//! `kill -9` under load: nothing acknowledged is lost, nothing was released without an entry, spent stays spent.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Actor, Siv};
use tokio::task::JoinHandle;

use super::seed;

/// What the callers were told before the process died.
#[derive(Default)]
struct Told {
    cards: Vec<String>,
    spent: Vec<String>,
    runs: Vec<String>,
}

/// Rounds: a sample by default, hundreds for `make test-long`.
pub(super) fn rounds() -> usize {
    std::env::var("SIV_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

struct Callers {
    app: Actor,
    charge: Actor,
    summary: Actor,
}

/// Works until the vault stops answering.
async fn work(callers: Arc<Callers>, told: Arc<Mutex<Told>>) {
    for turn in 0..10_000_u32 {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}, {"field": "card-cvc", "value": "123"}]});
        let answer = callers.app.post("/v1/values", &items).await;
        if answer.status == 0 {
            return;
        }
        let keys: Vec<String> = answer.json()["results"].as_array().into_iter().flatten().filter_map(key).collect();
        let [card, cvc] = keys.as_slice() else { continue };
        told.lock().unwrap().cards.push(card.clone());
        let inputs = json!({"inputs": {"card": card, "cvc": cvc, "amount": 1, "order": format!("o-{turn}")}});
        let answer = callers.charge.post("/v1/flows/charge-card/invoke", &inputs).await;
        if answer.status == 200 {
            let mut told = told.lock().unwrap();
            told.spent.push(cvc.clone());
            told.runs.push(answer.json()["runId"].as_str().unwrap().to_owned());
        }
        let answer = callers.summary.post("/v1/flows/card-summary/invoke", &json!({"inputs": {"card": card}})).await;
        if answer.status == 200 {
            told.lock().unwrap().runs.push(answer.json()["runId"].as_str().unwrap().to_owned());
        }
    }
}

fn key(result: &Value) -> Option<String> {
    result["secureValueKey"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_under_load_loses_nothing_acknowledged() {
    let mut siv = Siv::start();
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..rounds() {
        let workers = set_to_work(&siv, &told);
        // Killed when this round has had some work acknowledged, a little more of it each round.
        let (before, more) = (told.lock().unwrap().runs.len(), 12 + round * 7 % 40);
        let worked = async {
            while told.lock().unwrap().runs.len() < before + more {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), worked).await.expect("the callers get nothing done");
        siv.kill();
        for worker in workers {
            worker.await.unwrap();
        }
        siv.begin().unwrap();
        check(&siv, &told).await;
    }
    siv.verify_log().unwrap();
    say(&told);
}

/// Killed on entry to a sync: what was being made durable was written, and nobody was told that it is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_at_a_sync_under_load_loses_nothing_acknowledged() {
    let mut siv = Siv::start();
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..rounds() {
        // `siv dev` needs dozens of them to start.
        let fault = format!("fsync:signal=KILL:when={}", 120 + seed::number(round) % 120);
        siv.kill();
        siv.begin_with_faults(std::slice::from_ref(&fault)).unwrap_or_else(|why| panic!("{fault}: {why}"));
        let before = told.lock().unwrap().runs.len();
        let workers = set_to_work(&siv, &told);
        let ended = tokio::task::block_in_place(|| siv.ended_by());
        assert_eq!(ended, Some(9), "{fault}: it was not the sync that ended it");
        for worker in workers {
            worker.await.unwrap();
        }
        println!("{fault}: {} runs were answered", told.lock().unwrap().runs.len() - before);
        siv.begin().unwrap_or_else(|why| panic!("{fault}: {why}"));
        check(&siv, &told).await;
    }
    siv.verify_log().unwrap();
    say(&told);
}

fn set_to_work(siv: &Siv, told: &Arc<Mutex<Told>>) -> Vec<JoinHandle<()>> {
    let callers =
        Arc::new(Callers { app: siv.app(), charge: siv.flow("charge-card"), summary: siv.flow("card-summary") });
    (0..16).map(|_| tokio::spawn(work(Arc::clone(&callers), Arc::clone(told)))).collect()
}

fn say(told: &Mutex<Told>) {
    let told = told.lock().unwrap();
    let (cards, spent, runs) = (told.cards.len(), told.spent.len(), told.runs.len());
    println!("{} rounds: {cards} cards, {spent} spent codes, {runs} runs kept", rounds());
    assert!(runs > 0, "nothing was answered before");
}

/// Everything the callers were told still holds.
async fn check(siv: &Siv, told: &Mutex<Told>) {
    let (cards, spent, runs) = {
        let told = told.lock().unwrap();
        (told.cards.clone(), told.spent.clone(), told.runs.clone())
    };
    for card in cards.iter().rev().take(60) {
        let answer = siv.invoke("card-summary", json!({"card": card})).await;
        assert_eq!(answer.status, 200, "an acknowledged value is gone: {}", answer.text);
    }
    let card = siv.capture("card-number", "4242424242424242").await;
    for cvc in spent.iter().rev().take(30) {
        let answer = siv.invoke("charge-card", json!({"card": card, "cvc": cvc, "amount": 1, "order": "again"})).await;
        assert_eq!(answer.refusal(), (404, "value.not_found".to_owned()), "a spent code came back");
    }
    let entries = siv.entries("outcome=allowed").await;
    let recorded: HashSet<&str> = entries.iter().filter_map(|e| e["runId"].as_str()).collect();
    for run in &runs {
        assert!(recorded.contains(run.as_str()), "run {run} answered and has no entry");
    }
}
