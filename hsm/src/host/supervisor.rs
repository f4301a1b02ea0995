//! Keeps a worker alive: one start at a time, back-off, a look at the canaries, the end of a hung call. The only place that starts workers.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::shared::{Inner, Shared};
use super::{Phase, canaries};
use crate::error::HsmError;
use crate::message::WorkerStatus;
use crate::process::Worker;

enum Step {
    Start,
    Canary(Arc<Worker>),
    Wait(Duration),
    Stop,
}

/// Longest nap: a condition that nobody announces, such as a worker that died between two locks, is seen after it.
const NAP: Duration = Duration::from_millis(500);
/// The nap of one that has no worker and needs none: who needs one announces it.
const REST: Duration = Duration::from_secs(600);
/// So long a place for a worker is waited for at a time.
const ROOM: Duration = Duration::from_millis(200);

pub(super) fn run(shared: &Arc<Shared>) {
    loop {
        let mut inner = shared.lock();
        match next(shared, &mut inner) {
            Step::Stop => {
                inner.fall(Phase::Down, None);
                shared.changed.notify_all();
                return;
            }
            Step::Wait(left) => {
                drop(shared.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner));
            }
            Step::Start => {
                drop(inner);
                start(shared);
            }
            Step::Canary(worker) => {
                drop(inner);
                canary(shared, &worker);
            }
        }
    }
}

/// What to do now. A dead or hung worker is dealt with on the way.
fn next(shared: &Shared, inner: &mut Inner) -> Step {
    if inner.stopping {
        return Step::Stop;
    }
    let now = Instant::now();
    if let Some(worker) = inner.worker.clone() {
        let hung = worker.hung_at(shared.limits.connect).is_some_and(|at| at <= now);
        if hung || worker.is_dead() {
            let why = if hung { "a call hung and its worker was killed" } else { "the worker process ended" };
            down(shared, inner, &HsmError::Unavailable(why.to_owned()));
        }
    }
    let left = inner.due.saturating_duration_since(now);
    match (inner.status.phase, &inner.worker) {
        (Phase::Quarantined, _) => Step::Wait(REST),
        (Phase::Idle, _) if !inner.wanted => Step::Wait(REST),
        (Phase::Idle, _) => Step::Start,
        (Phase::Down | Phase::Connecting, _) if left.is_zero() => Step::Start,
        (Phase::Ready | Phase::Degraded, Some(worker)) if left.is_zero() => Step::Canary(Arc::clone(worker)),
        (_, Some(worker)) => {
            let hung = worker.hung_at(shared.limits.connect).map_or(NAP, |at| at.saturating_duration_since(now));
            Step::Wait(left.min(hung).min(NAP).max(Duration::from_millis(1)))
        }
        _ => Step::Wait(left.min(NAP).max(Duration::from_millis(1))),
    }
}

/// Starts a worker and waits until it is connected. Where as many run as may, it is tried again.
fn start(shared: &Arc<Shared>) {
    let has_failed = shared.lock().status.failed > 0;
    let Some(place) = shared.launch.crew.enter(has_failed, ROOM) else { return };
    let (configuration, revision) = {
        let mut inner = shared.lock();
        if inner.stopping {
            return;
        }
        inner.wanted = false;
        inner.status.turn(Phase::Connecting, None);
        inner.status.starts += 1;
        shared.changed.notify_all();
        (inner.configuration.clone(), inner.revision)
    };
    let waking = Arc::downgrade(shared);
    let gone = move || {
        if let Some(shared) = waking.upgrade() {
            drop(shared.lock());
            shared.changed.notify_all();
        }
    };
    let may_try = shared.may_try.clone().filter(|_| revision == 0);
    let worker = match Worker::start(&shared.launch, place, may_try, gone) {
        Ok(worker) => worker,
        Err(error) => return unstarted(shared, &error),
    };
    {
        // Known from now on, so that whoever stops or reconfigures the host kills a start that hangs.
        let mut inner = shared.lock();
        inner.status.worker_pid = Some(worker.pid);
        inner.worker = Some(Arc::clone(&worker));
        if inner.stopping || inner.revision != revision {
            worker.kill();
        }
    }
    let begun = Instant::now();
    let connected = worker.configure(&configuration, shared.limits.connect).and_then(|_| {
        // Half of what is left to begin with the last one, half for that one to answer; a slow login leaves time for one.
        let half = (shared.limits.connect.saturating_sub(begun.elapsed()) / 2).max(shared.limits.call);
        canaries::look(shared, &worker, half, half)
    });
    let mut inner = shared.lock();
    if inner.revision != revision || inner.stopping {
        worker.kill();
        inner.worker = None;
        return inner.status.turn(Phase::Down, None);
    }
    match connected {
        // The back-off is not reset: a module that connects and then crashes at every call is not restarted at its pace.
        Ok(status) => {
            // Whoever waits for it comes before those it was started after.
            inner.used = Instant::now();
            ready(shared, &mut inner, status);
            // What there was no time for is asked at once.
            if inner.next_canary > 0 {
                inner.due = Instant::now();
            }
        }
        Err(error) => down(shared, &mut inner, &error),
    }
}

/// No process could be had for a worker: no token was asked.
fn unstarted(shared: &Shared, error: &HsmError) {
    let mut inner = shared.lock();
    down(shared, &mut inner, error);
    inner.status.failure = Some(HsmError::Overloaded);
}

/// The regular look at the canaries, and the half-open test of the breaker.
fn canary(shared: &Shared, worker: &Arc<Worker>) {
    let asked = canaries::look(shared, worker, shared.limits.call, shared.limits.manage);
    let mut inner = shared.lock();
    if !inner.worker.as_ref().is_some_and(|current| Arc::ptr_eq(current, worker)) {
        return;
    }
    match asked {
        Ok(status) => {
            inner.backoff.reset();
            ready(shared, &mut inner, status);
        }
        // It logs in, and is not cut short in that.
        Err(HsmError::DeadlineExceeded)
            if worker.hung_at(shared.limits.connect).is_some_and(|hung| hung > Instant::now()) =>
        {
            inner.due = Instant::now() + NAP;
        }
        Err(error) => down(shared, &mut inner, &error),
    }
}

fn ready(shared: &Shared, inner: &mut Inner, status: WorkerStatus) {
    inner.status.answered(status);
    if let Some(worker) = &inner.worker {
        worker.is_proven();
    }
    inner.status.turn(Phase::Ready, None);
    inner.breaker.close();
    inner.due = Instant::now() + shared.limits.canary;
    shared.changed.notify_all();
}

/// Ends the worker. A refused PIN ends all attempts; everything else, a wrong configuration included, is tried again after the back-off:
/// a token that returns is not announced, and a file may be put right.
fn down(shared: &Shared, inner: &mut Inner, error: &HsmError) {
    let phase = if matches!(error, HsmError::Quarantined(_)) { Phase::Quarantined } else { Phase::Down };
    inner.fall(phase, Some(error));
    inner.status.downs += 1;
    inner.status.failed = inner.status.failed.saturating_add(1);
    let is_unused = inner.status.in_flight == 0 && inner.used.elapsed() >= shared.limits.idle;
    let pace = if is_unused { shared.limits.canary } else { Duration::ZERO };
    inner.due = Instant::now() + inner.backoff.after_failure().max(pace);
    shared.changed.notify_all();
}
