//! What a start costs tenants whose workers are yet to come: each captures once, and asks again until it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::cost;
use super::request;
use super::stage::Stage;
use super::vault::Vault;

/// Between two looks at the machine.
const LOOK: Duration = Duration::from_millis(200);
/// Between a refusal and the next attempt.
const AGAIN: Duration = Duration::from_millis(20);
/// A tenant that captured nothing in so long never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
pub struct Cold {
    /// Tenants that asked at once.
    pub at_once: usize,
    /// Seconds until each had captured a value.
    pub whole: f64,
    /// Milliseconds of a tenant from its first request to its value: the median, and 99 of 100.
    pub each: [f64; 2],
    /// Answers that were 503 meanwhile.
    pub refused: usize,
    /// Workers that ran, at most.
    pub workers: usize,
    /// Gigabytes of the machine in use, at most; and before the start.
    pub memory: [f64; 2],
}

/// Starts the node anew, and lets the tenant of every credential capture once.
pub async fn run(vault: &mut Vault, apps: &[String], at_once: usize, stage: &mut Stage) -> Option<Cold> {
    vault.stop();
    let before = cost::memory_in_use();
    if let Err(why) = vault.start_again() {
        stage.void.push(format!("a start with keys in a token failed: {why}"));
        return None;
    }
    let watch = Watch::over(vault.pid());
    let begun = Instant::now();
    let (each, refused) = captured(vault, apps, at_once).await;
    let whole = begun.elapsed().as_secs_f64();
    let (workers, memory) = watch.end();
    if each.len() < apps.len() {
        stage.void.push(format!("after a start {} of {} tenants captured", each.len(), apps.len()));
    }
    let at = |share: usize| each.get((each.len() * share / 100).min(each.len().saturating_sub(1))).copied();
    let each = [50, 99].map(|share| at(share).unwrap_or(0.0));
    eprintln!("  {at_once} at once: {whole:.1} s, p50 {:.0} ms, p99 {:.0} ms, {refused} refused", each[0], each[1]);
    Some(Cold { at_once, whole, each, refused, workers, memory: [memory, before] })
}

/// How long each took in milliseconds, the shortest first, and how often one was refused.
async fn captured(vault: &Vault, apps: &[String], at_once: usize) -> (Vec<f64>, usize) {
    let shop = vault.app();
    let actors: Arc<Vec<_>> = Arc::new(apps.iter().map(|app| shop.with_bearer(app)).collect());
    let (next, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..at_once {
        let (actors, next, refused) = (Arc::clone(&actors), Arc::clone(&next), Arc::clone(&refused));
        clients.spawn(async move {
            let mut each = Vec::new();
            while let Some(actor) = actors.get(next.fetch_add(1, Ordering::Relaxed)) {
                let begun = Instant::now();
                while begun.elapsed() < PATIENCE {
                    let answer = actor.post("/v1/values", &request::items(1)).await;
                    if answer.status < 300 {
                        each.push(begun.elapsed().as_secs_f64() * 1000.0);
                        break;
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
            }
            each
        });
    }
    let mut each: Vec<f64> = clients.join_all().await.into_iter().flatten().collect();
    each.sort_by(f64::total_cmp);
    (each, refused.load(Ordering::Relaxed))
}

/// Looks at the machine from a thread of its own.
struct Watch {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, f64)>,
}

impl Watch {
    fn over(pid: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut most = (0, 0.0_f64);
            while !until.load(Ordering::Relaxed) {
                most = (most.0.max(cost::children(pid).len()), most.1.max(cost::memory_in_use()));
                std::thread::sleep(LOOK);
            }
            most
        });
        Self { over, thread }
    }

    /// Workers and gigabytes, at most.
    fn end(self) -> (usize, f64) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}
