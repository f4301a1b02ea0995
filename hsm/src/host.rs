//! A tenant's HSM as its caller sees it: calls with deadlines, and a supervisor that keeps a worker process alive behind them.

mod breaker;
mod canaries;
mod limits;
mod shared;
mod status;
mod supervisor;

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use limits::Limits;
pub(crate) use shared::Shared;
pub use status::{Phase, Status};

use crate::canary::{Anomaly, Canary, Finding};
use crate::check::{CheckOptions, CheckReport};
use crate::configuration::Configuration;
use crate::destruction::Destruction;
use crate::error::{HsmError, NotMade};
use crate::host::shared::Inner;
use crate::kek::KekAttributes;
use crate::kek_kind::KekKind;
use crate::logins::MayTry;
use crate::message::{Answer, Making, Verb};
use crate::process::{Launch, Worker};
use crate::profile::{KekRef, KeyBytes, LONGEST_CONTEXT, LONGEST_WRAPPED, ProbeReport};
use crate::uri::KekSelector;

/// One HSM configuration with its worker. Its calls block; none of them longer than the deadline it is given.
pub struct Host {
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts the supervisor, which starts the worker at once. Returns without waiting for it: see [`Self::wait`].
    ///
    /// # Errors
    /// [`HsmError::Unavailable`] if no thread can be had.
    pub fn start(launch: Launch, configuration: Configuration, limits: Limits) -> Result<Self, HsmError> {
        Self::begin(launch, configuration, limits, None)
    }

    /// The same with a PIN that somebody has just said: where it was never accepted at the token, `may_try` is asked before it is tried.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn try_out(
        launch: Launch,
        configuration: Configuration,
        limits: Limits,
        may_try: MayTry,
    ) -> Result<Self, HsmError> {
        Self::begin(launch, configuration, limits, Some(may_try))
    }

    fn begin(
        launch: Launch,
        configuration: Configuration,
        limits: Limits,
        may_try: Option<MayTry>,
    ) -> Result<Self, HsmError> {
        let mut inner = Inner::new(configuration, &limits);
        inner.wanted = true;
        let (inner, changed) = (Mutex::new(inner), Condvar::new());
        let shared = Arc::new(Shared { launch, limits, may_try, inner, changed });
        shared.launch.crew.join(&shared);
        let supervised = Arc::clone(&shared);
        let supervisor = std::thread::Builder::new()
            .name("hsm-supervisor".to_owned())
            .stack_size(256 << 10)
            .spawn(move || supervisor::run(&supervised))
            .map_err(|e| HsmError::Unavailable(format!("no supervisor: {}", e.kind())))?;
        Ok(Self { shared, supervisor: Some(supervisor) })
    }

    /// Wraps a data key bound to `context` (at most [`LONGEST_CONTEXT`] bytes). What is returned has been unwrapped to the same key.
    ///
    /// # Errors
    /// Any [`HsmError`]; see [`HsmError::is_outage`] and [`HsmError::is_alarm`].
    pub fn wrap(&self, kek: &KekRef, key: &KeyBytes, context: &[u8], deadline: Duration) -> Result<Vec<u8>, HsmError> {
        short_enough(&key[..], context)?;
        Ok(self.call(&Verb::Wrap(kek.clone()), [&key[..], context], deadline)?.bytes.to_vec())
    }

    /// Unwraps what [`Self::wrap`] made with the same KEK and context.
    ///
    /// # Errors
    /// [`HsmError::Tampered`] if bytes or context are others while the KEK answers its canary; any other [`HsmError`].
    pub fn unwrap(
        &self,
        kek: &KekRef,
        wrapped: &[u8],
        context: &[u8],
        deadline: Duration,
    ) -> Result<KeyBytes, HsmError> {
        if wrapped.len() > LONGEST_WRAPPED {
            return Err(HsmError::Tampered);
        }
        short_enough(wrapped, context)?;
        let answer = self.call(&Verb::Unwrap(kek.clone()), [wrapped, context], deadline)?;
        let mut key = KeyBytes::default();
        if answer.bytes.len() != key.len() {
            return Err(HsmError::Protocol("a data key of another length".to_owned()));
        }
        key.copy_from_slice(&answer.bytes);
        Ok(key)
    }

    /// Finds out which profile the KEK does, by doing it: the one to pin.
    ///
    /// # Errors
    /// Any [`HsmError`]; that no profile works is a report, not an error.
    pub fn probe(&self, kek: &KekSelector, deadline: Duration) -> Result<ProbeReport, HsmError> {
        self.call(&Verb::Probe(kek.clone()), [&[], &[]], deadline)?.parse()
    }

    /// The same for a KEK that would be made: tried on a throw-away key of its kind, which ends with its session.
    ///
    /// # Errors
    /// Any [`HsmError`]; that no profile works is a report, not an error.
    pub fn probe_kind(&self, kind: KekKind, deadline: Duration) -> Result<ProbeReport, HsmError> {
        self.call(&Verb::ProbeKind(kind), [&[], &[]], deadline)?.parse()
    }

    /// What the token says of the KEK: evidence for onboarding.
    ///
    /// # Errors
    /// Any [`HsmError`].
    pub fn describe(&self, kek: &KekSelector, deadline: Duration) -> Result<KekAttributes, HsmError> {
        self.call(&Verb::Describe(kek.clone()), [&[], &[]], deadline)?.parse()
    }

    /// Makes the canary of a new KEK version, to be stored and handed to [`Self::watch`].
    ///
    /// # Errors
    /// Any [`HsmError`].
    pub fn make_canary(&self, kek: &KekRef, deadline: Duration) -> Result<Canary, HsmError> {
        self.call(&Verb::MakeCanary(kek.clone()), [&[], &[]], deadline)?.parse()
    }

    /// Watches these canaries from now on, also after a restart of the worker.
    ///
    /// # Errors
    /// Any [`HsmError`] of telling the running worker; the next one is told in any case.
    pub fn watch(&self, canaries: Vec<Canary>, deadline: Duration) -> Result<(), HsmError> {
        {
            let mut inner = self.shared.lock();
            inner.configuration.canaries.clone_from(&canaries);
            if inner.status.phase == Phase::Idle && !inner.wanted {
                return Ok(());
            }
        }
        self.call(&Verb::Watch(canaries), [&[], &[]], deadline).map(drop)
    }

    /// Asks all canaries now; what is wrong with single KEKs while the token answers. Empty is good.
    ///
    /// # Errors
    /// Any [`HsmError`] of the token as a whole.
    pub fn ask_canaries(&self, deadline: Duration) -> Result<Vec<Finding>, HsmError> {
        let until = Instant::now() + deadline;
        let canaries = self.shared.lock().configuration.canaries.clone();
        let mut findings = Vec::new();
        for canary in canaries {
            let (kek, left) = (canary.kek.clone(), until.saturating_duration_since(Instant::now()));
            let found: Option<Anomaly> = self.call(&Verb::AskCanary(canary), [&[], &[]], left)?.parse()?;
            findings.extend(found.map(|what| Finding { kek, what }));
        }
        Ok(findings)
    }

    /// Whether the key that a canary knows answers now; what is wrong with it, if anything is. Nobody else's canary is asked, a slow answer is
    /// waited for as long as that of a destruction, and what is wrong is said by a module that was initialised after this call began.
    ///
    /// # Errors
    /// Any [`HsmError`] of the token as a whole.
    pub fn look_for(&self, canary: &Canary, deadline: Duration) -> Result<Option<Anomaly>, HsmError> {
        self.call(&Verb::Look(canary.clone()), [&[], &[]], deadline)?.parse()
    }

    /// Makes a KEK inside the token: sensitive, not extractable. Never tried twice.
    ///
    /// # Errors
    /// [`HsmError::Refused`] if a key of that label and id exists; any other [`HsmError`]: with whether the key may be there all the same.
    pub fn create_kek(&self, kek: &KekSelector, kind: KekKind, deadline: Duration) -> Result<(), NotMade> {
        let until = Instant::now() + deadline;
        let worker = self.shared.enter(until).map_err(|error| NotMade { error, may_be_there: false })?;
        let left = until.saturating_duration_since(Instant::now());
        let verb = Verb::CreateKek(kek.clone(), kind);
        let asked = worker.ask(&verb, [&[], &[]], left, self.shared.limits.manage);
        let of_wire = |(code, detail)| HsmError::from_wire(code, detail);
        let made = match asked.and_then(|answer| answer.parse()) {
            Ok(Making::Begun(made)) => made.map_err(|error| NotMade { error: of_wire(error), may_be_there: true }),
            Ok(Making::NotBegun(error)) => Err(NotMade { error: of_wire(error), may_be_there: false }),
            // No answer is no word that it was not made.
            Err(error) => Err(NotMade { error, may_be_there: true }),
        };
        self.shared.leave(&worker, made.as_ref().err().map(|unmade| &unmade.error));
        made
    }

    /// Destroys a KEK in the token. There is no way back. Never tried twice. With a canary only the key that it knows is destroyed. That a
    /// token has no such key is said by a login that was made after this call began.
    ///
    /// # Errors
    /// [`HsmError::KekReplaced`] if another key stands behind label and id; [`HsmError::Refused`] if the token has the key still; any other
    /// [`HsmError`].
    pub fn destroy_kek(
        &self,
        kek: &KekSelector,
        canary: Option<&Canary>,
        deadline: Duration,
    ) -> Result<Destruction, HsmError> {
        self.call(&Verb::DestroyKek(kek.clone(), canary.cloned()), [&[], &[]], deadline)?.parse()
    }

    /// Where the HSM stands now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// Waits until `condition` holds, at most `wait`; whether it does.
    pub fn wait(&self, wait: Duration, condition: impl Fn(&Status) -> bool) -> bool {
        let inner = self.shared.lock();
        let left = self.shared.changed.wait_timeout_while(inner, wait, |inner| !condition(&inner.status));
        left.map_or_else(|poisoned| condition(&poisoned.into_inner().0.status), |(inner, _)| condition(&inner.status))
    }

    /// Has a worker started soon where none runs. A call does so by itself.
    pub fn wake(&self) {
        let mut inner = self.shared.lock();
        inner.used = Instant::now();
        inner.woken = Some(inner.used);
        inner.wanted |= inner.status.phase == Phase::Idle;
        if inner.status.phase == Phase::Down {
            inner.due = inner.due.min(inner.used + self.shared.limits.backoff_last);
        }
        self.shared.changed.notify_all();
    }

    /// Takes a new configuration, which a person changed: ends a quarantine, and starts a new worker at once.
    pub fn reconfigure(&self, configuration: Configuration) {
        let mut inner = self.shared.lock();
        inner.configuration = configuration;
        inner.revision += 1;
        inner.backoff.reset();
        inner.status.failed = 0;
        inner.breaker.close();
        inner.fall(Phase::Down, None);
        inner.due = Instant::now();
        self.shared.changed.notify_all();
    }

    /// Runs the conformance and safety report in a worker of its own, which is ended afterwards.
    ///
    /// # Errors
    /// [`HsmError::Unavailable`] also if the module crashed, [`HsmError::DeadlineExceeded`] if it hung: either is an answer about it.
    pub fn check(
        launch: &Launch,
        configuration: &Configuration,
        options: &CheckOptions,
        deadline: Duration,
    ) -> Result<CheckReport, HsmError> {
        let until = Instant::now() + deadline;
        let place = launch.crew.enter(false, deadline).ok_or(HsmError::Overloaded)?;
        let worker = Worker::start(launch, place, Some(Arc::new(|_: &str| Ok(()))), || {})?;
        let left = || until.saturating_duration_since(Instant::now());
        let report = worker
            .configure(configuration, left())
            .and_then(|_| worker.ask(&Verb::Check(options.clone()), [&[], &[]], left(), left()))
            .and_then(|answer| answer.parse());
        worker.kill();
        report
    }

    fn call(&self, verb: &Verb, fields: [&[u8]; 2], deadline: Duration) -> Result<Answer, HsmError> {
        let until = Instant::now() + deadline;
        let worker = self.shared.enter(until)?;
        let left = until.saturating_duration_since(Instant::now());
        let limit = match verb {
            Verb::Wrap(_) | Verb::Unwrap(_) | Verb::Watch(_) | Verb::AskCanary(_) => self.shared.limits.call,
            _ => self.shared.limits.manage,
        };
        let result = worker.ask(verb, fields, left, limit);
        self.shared.leave(&worker, result.as_ref().err());
        result
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        {
            let mut inner = self.shared.lock();
            inner.stopping = true;
            // Also one that is just connecting: nobody waits for a module that hangs.
            if let Some(worker) = &inner.worker {
                worker.kill();
            }
        }
        self.shared.changed.notify_all();
        if let Some(supervisor) = self.supervisor.take() {
            // It only waits for a worker that is being killed.
            let _ = supervisor.join();
        }
    }
}

fn short_enough(first: &[u8], context: &[u8]) -> Result<(), HsmError> {
    if first.len() > LONGEST_WRAPPED || context.len() > LONGEST_CONTEXT {
        return Err(HsmError::Refused("a context has at most 1024 bytes".to_owned()));
    }
    Ok(())
}

// A host is shared by the threads that call it.
const fn shareable<T: Send + Sync>() {}
const _: () = shareable::<Host>();
