//! A look at the canaries: one request each, so that many versions of a key are no hung call, and where there is not time for all of them,
//! the next look goes on.

use std::time::{Duration, Instant};

use super::Shared;
use crate::canary::{Anomaly, Canary, Finding};
use crate::error::HsmError;
use crate::message::{Verb, WorkerStatus};
use crate::process::Worker;

/// Asks the canaries, each within `each` and all within `whole`; what stands. What was found earlier of those that are not asked stays.
pub(super) fn look(
    shared: &Shared,
    worker: &Worker,
    each: Duration,
    whole: Duration,
) -> Result<WorkerStatus, HsmError> {
    let (mut canaries, from, before) = {
        let inner = shared.lock();
        let found = inner.status.worker.as_ref().map(|worker| worker.findings.clone());
        (inner.configuration.canaries.clone(), inner.next_canary, found.unwrap_or_default())
    };
    let count = canaries.len();
    let from = if from < count { from } else { 0 };
    canaries.rotate_left(from);
    let hung = || worker.hung_at(shared.limits.connect).is_some_and(|hung| hung <= Instant::now());
    let (mut findings, asked) = ask(worker, &canaries, (each, whole), hung)?;
    let is_unasked = |finding: &Finding| canaries[asked..].iter().any(|canary| canary.kek == finding.kek);
    findings.extend(before.into_iter().filter(is_unasked));
    let status: WorkerStatus = worker.ask(&Verb::Status, [&[], &[]], each, each)?.parse()?;
    shared.lock().next_canary = if asked < count { (from + asked) % count } else { 0 };
    Ok(WorkerStatus { findings, ..status })
}

/// What was found, and how many there was time for: one at least.
fn ask(
    worker: &Worker,
    canaries: &[Canary],
    (each, whole): (Duration, Duration),
    hung: impl Fn() -> bool,
) -> Result<(Vec<Finding>, usize), HsmError> {
    let (begun, mut findings) = (Instant::now(), Vec::new());
    for (at, canary) in canaries.iter().enumerate() {
        if at > 0 && begun.elapsed() >= whole {
            return Ok((findings, at));
        }
        // Nobody else looks for hung calls meanwhile.
        if hung() {
            return Err(HsmError::Unavailable("a call hung and its worker was killed".to_owned()));
        }
        let found: Option<Anomaly> = worker.ask(&Verb::AskCanary(canary.clone()), [&[], &[]], each, each)?.parse()?;
        findings.extend(found.map(|what| Finding { kek: canary.kek.clone(), what }));
    }
    Ok((findings, canaries.len()))
}
