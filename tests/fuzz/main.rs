//! Requests that were valid until something in them was changed by chance, sent to a real node in great numbers: each is answered in
//! the vault's own words, nothing of it is repeated, and the node goes on. `make fuzz` sends more of them.

mod changed;
mod dice;
mod seeds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tests::{Siv, process, wire};

use changed::MARKER;
use dice::Dice;
use seeds::Seed;

/// Callers at once.
const CALLERS: u64 = 8;
/// Requests in all, unless `SIV_TEST_REQUESTS` says another number.
const REQUESTS: u64 = 4_000;
/// Who cuts a request short, or says that it is longer, is not waited for.
const PATIENCE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(20)];

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How often each status came; 0 is no answer.
type Tally = BTreeMap<u16, usize>;

async fn caller(seeds: Arc<Vec<Seed>>, mut dice: Dice, requests: u64) -> Tally {
    let mut tally = Tally::new();
    for _ in 0..requests {
        let seed = dice.one_of(&seeds);
        let changed = seed.changed(&mut dice);
        let reply = wire::send(&seed.host, &changed.bytes, PATIENCE[usize::from(changed.is_whole)]).await;
        let sent = || String::from_utf8_lossy(&changed.bytes[..changed.bytes.len().min(2_000)]).into_owned();
        let is_ours = reply.status < 500 || reply.status == 503;
        assert!(is_ours && !reply.text.contains("HTTP/1.1 500"), "{}\n\n{}", reply.text, sent());
        assert!(reply.status != 0 || !changed.is_whole, "no answer to\n{}", sent());
        if reply.status >= 400 {
            // An operator's document is told which of its keys is not known.
            let names_it = seed.media == "application/toml" && reply.status == 422;
            assert!(names_it || !reply.text.contains(MARKER), "it is repeated: {}\n\n{}", reply.text, sent());
            let is_problem = reply.text.contains("application/problem+json") && reply.body().contains("\"code\":\"");
            // A target that is none is refused by the library, without a word; a person reads pages.
            let is_none = changed.has_other_path && reply.status == 400 && reply.body().is_empty();
            let is_for_people = seed.path == "/console/";
            assert!(is_problem || is_none || is_for_people || !changed.is_whole, "{}\n\n{}", reply.text, sent());
        }
        *tally.entry(reply.status).or_default() += 1;
    }
    tally
}

async fn fuzz(seeds: &Arc<Vec<Seed>>, seed: u64, part: u64, requests: u64) -> Tally {
    let callers: Vec<_> = (0..CALLERS)
        .map(|at| tokio::spawn(caller(Arc::clone(seeds), Dice::new(seed, part * CALLERS + at), requests / CALLERS)))
        .collect();
    let mut all = Tally::new();
    for caller in callers {
        for (status, times) in caller.await.unwrap() {
            *all.entry(status).or_default() += times;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_request_was_changed_to_it_is_answered_in_our_words_and_the_node_goes_on() {
    let (requests, day) =
        (told("SIV_TEST_REQUESTS").unwrap_or(REQUESTS), std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400);
    let seed = told("SIV_TEST_SEED").unwrap_or(day);
    println!("SIV_TEST_SEED={seed}");
    let siv = Siv::start();
    let seeds = Arc::new(seeds::seeds(&siv).await);
    let mut tally = fuzz(&seeds, seed, 0, requests / 2).await;
    let before = process::resident_kilobytes(siv.pid());
    for (status, times) in fuzz(&seeds, seed, 1, requests / 2).await {
        *tally.entry(status).or_default() += times;
    }
    let after = process::resident_kilobytes(siv.pid());
    println!("{requests} requests, by status {tally:?}; {before} kB in use after the first half, {after} in the end");
    for status in [200, 201, 400, 404, 405, 415, 422] {
        assert!(tally.contains_key(&status), "no {status} came: nothing of that kind was tried");
    }
    assert!(after < before + before / 5 + 8 * 1024, "memory grew from {before} to {after} kB");
    let log = siv.log_text();
    // At its most talkative; the hook for panics says this word.
    assert!(log.contains("\"DEBUG\"") && !log.contains("\"panic\"") && !log.contains(MARKER), "the node's own log");
    let card = siv.capture("card-number", "4242424242424242").await;
    let looked_up = siv.app().post("/v1/values/lookup", &json!({"secureValueKey": card})).await;
    assert_eq!(looked_up.status, 200, "{}", looked_up.text);
    siv.verify_log().unwrap();
}
