//! A disk that is full or fails, from some call on, under load: nothing acknowledged is lost, everybody gets an answer, and
//! after a sync that failed nothing is acknowledged before a restart.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Actor, Siv};

use super::seed;

/// What a caller saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<String>,
    refused: usize,
    /// How many were acknowledged after the first refusal.
    after: usize,
    slowest_refusal: Duration,
    codes: Vec<String>,
}

impl Seen {
    fn note(&mut self, acknowledged: Option<String>, code: String, took: Duration) {
        if let Some(key) = acknowledged {
            self.acknowledged.push(key);
            self.after += usize::from(self.refused > 0);
            return;
        }
        self.refused += 1;
        self.slowest_refusal = self.slowest_refusal.max(took);
        if !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }
}

/// Works until enough was seen, whatever the answers are; two minutes at most.
async fn work(app: Actor, seen: Arc<Mutex<Seen>>, enough: fn(&Seen) -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end && !enough(&seen.lock().unwrap()) {
        let (began, items) =
            (Instant::now(), json!({"items": [{"field": "card-number", "value": "4242424242424242"}]}));
        let answer = app.post("/v1/values", &items).await;
        assert!([200, 503].contains(&answer.status), "{}: {}", answer.status, answer.text);
        let key = answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned);
        let refused = key.is_none();
        seen.lock().unwrap().note(key, answer.code(), began.elapsed());
        if refused {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs load on a vault whose disk fails so, restarts it, and finds everything that was acknowledged.
async fn fails(fault: &str, enough: fn(&Seen) -> bool) -> Seen {
    let mut siv = Siv::start();
    siv.kill();
    siv.begin_with_faults(&[fault.to_owned()]).unwrap_or_else(|why| panic!("{fault}: it did not start: {why}"));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let workers: Vec<_> = (0..8).map(|_| tokio::spawn(work(siv.app(), Arc::clone(&seen), enough))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(siv.runs(), "{fault}: a failing disk ends the process");
    assert_eq!(siv.browser().get("/healthz").await.status, 200, "{fault}: it still answers");
    siv.kill();
    siv.begin().unwrap_or_else(|why| panic!("{fault}: it does not start again: {why}"));
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    for key in &seen.acknowledged {
        let found = siv.app().post("/v1/values/lookup", &json!({"secureValueKey": key})).await;
        assert_eq!(found.status, 200, "{fault}: an acknowledged value is gone: {}", found.text);
    }
    siv.verify_log().unwrap_or_else(|why| panic!("{fault}: {why}"));
    let (kept, refused, slowest) = (seen.acknowledged.len(), seen.refused, seen.slowest_refusal);
    println!("{fault}: {kept} kept, {refused} refused ({:?}), the slowest after {slowest:?}", seen.codes);
    assert!(refused > 0, "{fault}: the fault was never met");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_acknowledged_and_goes_on_answering() {
    for call in seed::calls(400, 800) {
        fails(&format!("pwrite64:error=ENOSPC:when={call}+"), |seen| seen.refused >= 40).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_for_a_while_is_written_to_again() {
    let seen = fails("pwrite64:error=ENOSPC:when=400..420", |seen| seen.after >= 20).await;
    assert!(seen.after > 0, "it goes on when there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_loses_nothing_acknowledged() {
    for call in seed::calls(400, 800) {
        fails(&format!("pwrite64:error=EIO:when={call}+"), |seen| seen.refused >= 40).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sync_that_failed_nothing_is_acknowledged_before_a_restart() {
    for call in seed::calls(90, 200) {
        // One failure only: the next syncs would succeed, and say nothing about what the first one lost.
        let seen = fails(&format!("fsync:error=EIO:when={call}..{}", call + 1), |seen| seen.refused >= 40).await;
        assert_eq!(seen.after, 0, "acknowledged after a failed sync");
    }
}
