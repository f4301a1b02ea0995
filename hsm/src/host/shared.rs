//! What a host and its supervisor share, under one lock: where the HSM stands, its worker, who is under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::breaker::Breaker;
use super::limits::Limits;
use super::status::{Phase, Status};
use crate::backoff::Backoff;
use crate::configuration::Configuration;
use crate::error::HsmError;
use crate::logins::MayTry;
use crate::process::{Launch, Worker};

/// Who waits for a worker without a call under way waits no longer: what calls give up meanwhile is still wished for.
const WISH: Duration = Duration::from_secs(30);

/// All that both know.
pub(crate) struct Shared {
    pub(super) launch: Launch,
    pub(super) limits: Limits,
    /// Who is asked before the first PIN is tried, where somebody has just said it.
    pub(super) may_try: Option<MayTry>,
    pub(super) inner: Mutex<Inner>,
    pub(super) changed: Condvar,
}

/// What changes.
pub(super) struct Inner {
    pub(super) configuration: Configuration,
    /// Rises with each new configuration: a connection made with an older one is thrown away.
    pub(super) revision: u64,
    pub(super) worker: Option<Arc<Worker>>,
    pub(super) status: Status,
    pub(super) breaker: Breaker,
    pub(super) backoff: Backoff,
    /// When the supervisor acts next: starts, or asks the canaries.
    pub(super) due: Instant,
    /// The canary that is asked first the next time: a look that ran out of time goes on where it ended.
    pub(super) next_canary: usize,
    /// When a caller last came or was answered.
    pub(super) used: Instant,
    /// Whether a worker is to be started though the host rests.
    pub(super) wanted: bool,
    /// When somebody last had it woken who waits without a call.
    pub(super) woken: Option<Instant>,
    pub(super) stopping: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing while somebody holds it: a host that is busy with itself is not idle, and nobody else's start waits for it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Some(inner),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The worker to ask, counted as a call under way. A start under way is waited for; a known outage is answered at once.
    pub(super) fn enter(&self, until: Instant) -> Result<Arc<Worker>, HsmError> {
        let mut inner = self.lock();
        if inner.status.in_flight >= self.limits.in_flight {
            return Err(HsmError::Overloaded);
        }
        inner.status.in_flight += 1;
        inner.used = Instant::now();
        if inner.status.phase == Phase::Down {
            // Looked for more often from now on than what nobody asks for.
            inner.due = inner.due.min(inner.used + self.limits.backoff_last);
        }
        let entered = loop {
            match (inner.status.phase, &inner.worker) {
                (Phase::Ready, Some(worker)) if !worker.is_dead() => break Ok(Arc::clone(worker)),
                (Phase::Quarantined | Phase::Degraded, _) => break Err(inner.why()),
                (Phase::Down, _) if inner.status.failed > 1 => break Err(inner.why()),
                (Phase::Idle, _) if !inner.wanted => {
                    inner.wanted = true;
                    self.changed.notify_all();
                }
                _ => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && inner.is_beginning() {
                // As many workers run as may, and all are at work; or one is on its way, and nothing was heard of the token.
                break Err(HsmError::Overloaded);
            }
            if left.is_zero() || inner.stopping {
                break Err(HsmError::Unavailable("the worker is being started".to_owned()));
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        if entered.is_err() {
            inner.status.in_flight -= 1;
            // What nobody waits for any more takes no place, and no other's worker for it.
            inner.wanted &= inner.status.in_flight > 0 || inner.woken.is_some_and(|woken| woken.elapsed() < WISH);
        }
        entered
    }

    /// Counts the outcome of a call.
    pub(super) fn leave(&self, worker: &Arc<Worker>, failed: Option<&HsmError>) {
        let mut inner = self.lock();
        inner.status.in_flight -= 1;
        inner.status.calls += 1;
        inner.used = Instant::now();
        let Some(error) = failed else { return };
        inner.status.failures += 1;
        let current = inner.worker.as_ref().is_some_and(|current| Arc::ptr_eq(current, worker));
        match error {
            HsmError::Quarantined(_) if current => inner.fall(Phase::Quarantined, Some(error)),
            // What its caller could have waited for longer is no failure of the HSM; a hung call the supervisor sees itself.
            HsmError::Overloaded | HsmError::DeadlineExceeded => {}
            error if error.is_outage() && current => inner.count_failure(error),
            error if error.is_alarm() => inner.status.note(error),
            _ => {}
        }
        self.changed.notify_all();
    }
}

impl Shared {
    /// Since when its worker has had nothing to do, if there is one.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let inner = self.try_lock()?;
        inner.is_idle().then_some(inner.used)
    }

    /// Ends its worker, unless somebody came since.
    pub(crate) fn rest(&self, since: Instant) -> bool {
        let Some(mut inner) = self.try_lock() else { return false };
        let rests = inner.is_idle() && inner.used == since;
        if rests {
            inner.fall(Phase::Idle, None);
            self.changed.notify_all();
        }
        rests
    }
}

impl Inner {
    /// Of a host whose token nobody has asked for yet.
    pub(super) fn new(configuration: Configuration, limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            configuration,
            revision: 0,
            worker: None,
            status: Status::new(),
            breaker: Breaker::new(limits.breaker_failures, limits.breaker_window),
            backoff: Backoff::new(limits.backoff_first, limits.backoff_last),
            due: now,
            next_canary: 0,
            used: now,
            wanted: false,
            woken: None,
            stopping: false,
        }
    }

    /// Whether a worker runs that is asked nothing, by nobody: neither a caller nor the look at the canaries.
    pub(super) fn is_idle(&self) -> bool {
        let is_free = |worker: &Arc<Worker>| !worker.is_asked();
        self.status.phase == Phase::Ready && self.status.in_flight == 0 && self.worker.as_ref().is_some_and(is_free)
    }

    /// Whether a worker is waited for, or is starting, of which nothing bad was heard since it was last well.
    fn is_beginning(&self) -> bool {
        self.status.phase == Phase::Idle || self.status.phase == Phase::Connecting && self.status.failed == 0
    }

    /// Opens the breaker where it is one failure too many; the supervisor asks the canaries after the back-off.
    pub(super) fn count_failure(&mut self, error: &HsmError) {
        self.status.note(error);
        if self.breaker.fail(Instant::now()) && self.status.phase == Phase::Ready {
            self.status.turn(Phase::Degraded, Some(error));
            self.due = Instant::now() + self.backoff.after_failure();
        }
    }

    /// Ends the worker and takes on `phase`.
    pub(super) fn fall(&mut self, phase: Phase, why: Option<&HsmError>) {
        if let Some(worker) = self.worker.take() {
            worker.kill();
        }
        self.status.worker_pid = None;
        self.status.turn(phase, why);
    }

    pub(super) fn why(&self) -> HsmError {
        let reason = self.status.last_error.clone().unwrap_or_else(|| "no worker".to_owned());
        if self.status.phase == Phase::Quarantined {
            HsmError::Quarantined(reason)
        } else {
            HsmError::Unavailable(reason)
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Host's drop has ended the supervisor, which has ended the worker; this is for a supervisor that never ran.
        if let Some(worker) = self.worker.take() {
            worker.kill();
        }
    }
}

#[cfg(test)]
impl Shared {
    /// One that no supervisor looks after.
    pub(crate) fn for_tests(launch: Launch) -> Self {
        let limits = Limits::default();
        let configuration = Configuration {
            module: "/none".into(),
            module_sha256: None,
            token: crate::TokenSelector::default(),
            pin: crate::PinSource::File("/none".into()),
            sessions: 1,
            memory_bytes: 0,
            canaries: Vec::new(),
            sha1_for_tests: false,
        };
        let inner = Inner::new(configuration, &limits);
        Self { launch, limits, may_try: None, inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// Its lock, as a host that is stuck keeps it.
    pub(crate) fn hold_for_tests(&self) -> impl Drop + '_ {
        self.lock()
    }
}
