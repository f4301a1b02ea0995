//! Sessions that heal: connects when it must, asks the canary what a code cannot tell, and applies at most each remedy once per call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::canary::{Anomaly, Canary, Song};
use crate::configuration::Configuration;
use crate::doorman::Doorman;
use crate::error::HsmError;
use crate::failure::{Class, Fault, Moment};
use crate::message::WorkerStatus;
use crate::profile::{KekRef, Place, round_trip};
use crate::session::{Live, must_allow};

/// One token of one module, for all lanes of a worker.
pub(crate) struct Pool {
    configuration: Configuration,
    canaries: RwLock<Vec<Canary>>,
    state: RwLock<State>,
    /// When the module was last initialised again for a missing key.
    missing: Mutex<Option<Instant>>,
    /// Initialisations that a login followed. Rises while nobody works with a login.
    initialised: AtomicU64,
    doorman: Doorman,
}

struct State {
    generation: u64,
    backoff: Backoff,
    now: Now,
}

enum Now {
    /// Boxed: it is large beside the others.
    Live(Box<Live>),
    /// Not before `until`, for `why`.
    Down {
        until: Instant,
        why: HsmError,
    },
    Quarantined(HsmError),
}

/// What was already tried for one call; each only once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    None,
    FindAgain,
    LogInAgain,
    Reinitialise,
}

impl Remedy {
    /// The next remedy for a failure of `class`, each stronger than the one before; nothing once all were tried.
    fn next(self, class: Class) -> Option<Self> {
        match class {
            Class::FindAgain if self < Self::FindAgain => Some(Self::FindAgain),
            Class::FindAgain | Class::LogInAgain if self < Self::LogInAgain => Some(Self::LogInAgain),
            Class::FindAgain | Class::LogInAgain | Class::Reinitialise | Class::AskCanary
                if self < Self::Reinitialise =>
            {
                Some(Self::Reinitialise)
            }
            _ => None,
        }
    }
}

/// Between two initialisations for a key that is not there. A token whose store went away and came back shows no keys until it is
/// initialised; one whose key was destroyed never will, and its other keys are in use.
const MISSING: Duration = Duration::from_secs(5);

impl Pool {
    pub(crate) fn new(configuration: Configuration, doorman: Doorman) -> Self {
        let canaries = RwLock::new(configuration.canaries.clone());
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let now = Now::Down { until: Instant::now(), why: HsmError::Unavailable("not connected yet".to_owned()) };
        Self {
            configuration,
            canaries,
            state: RwLock::new(State { generation: 0, backoff, now }),
            missing: Mutex::default(),
            initialised: AtomicU64::new(0),
            doorman,
        }
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub(crate) fn watch(&self, canaries: Vec<Canary>) {
        *self.canaries.write().unwrap_or_else(PoisonError::into_inner) = canaries;
    }

    /// Asks one canary; what is wrong with its KEK. That does not keep others from their work.
    pub(crate) fn ask(&self, lane: usize, canary: &Canary) -> Result<Option<Anomaly>, HsmError> {
        Anomaly::found(self.run(lane, Moment::Unwrap, &canary.kek, |place| canary.ask(place).heard()))
    }

    /// Connects where there is no login, and says what stands.
    pub(crate) fn status(&self) -> Result<WorkerStatus, HsmError> {
        self.with_session(Moment::Connect, |live| {
            live.session(0).get_session_info()?;
            Ok(WorkerStatus {
                module: live.file.clone(),
                token: live.token.clone(),
                generation: live.generation,
                sessions: live.sessions(),
                findings: Vec::new(),
            })
        })
    }

    /// Does `operation` with the KEK, healing what can be healed.
    pub(crate) fn run<T>(
        &self,
        lane: usize,
        moment: Moment,
        kek: &KekRef,
        operation: impl Fn(Place<'_>) -> Result<T, Fault>,
    ) -> Result<T, HsmError> {
        let canaries = self.canaries.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.heal(moment, Some(&kek.selector), |live| {
            must_allow(kek.profile, &self.configuration, &live.token)?;
            let session = live.session(lane);
            let place = live.place(&session, kek, &canaries)?;
            let first = match operation(place) {
                Err(fault) if fault.class(moment) == Class::AskCanary => fault,
                other => return other,
            };
            sing(first, moment, kek, place, &canaries)?;
            // The token is well. Once more, because a token that is throttled answers the canary and not its question.
            operation(place).map_err(|fault| settle(fault, moment))
        })
    }

    /// Does `operation` with a login; the operation finds its keys itself.
    pub(crate) fn with_session<T>(
        &self,
        moment: Moment,
        operation: impl Fn(&Live) -> Result<T, Fault>,
    ) -> Result<T, HsmError> {
        self.heal(moment, None, operation)
    }

    fn heal<T>(
        &self,
        moment: Moment,
        selector: Option<&crate::uri::KekSelector>,
        operation: impl Fn(&Live) -> Result<T, Fault>,
    ) -> Result<T, HsmError> {
        let mut tried = Remedy::None;
        loop {
            let (seen, result) = self.with_live(&operation);
            let fault = match result {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            let missing = matches!(fault, Fault::Told(HsmError::KekNotFound));
            let class = if seen.is_none() { Class::Never } else { fault.class(moment) };
            let next = match class {
                Class::FindAgain if missing => {
                    let may = tried < Remedy::Reinitialise && self.may_initialise_for_a_missing_key();
                    may.then_some(Remedy::Reinitialise)
                }
                class => tried.next(class),
            };
            let Some(next) = next else {
                let error = fault.into_error(moment);
                if class == Class::Quarantine {
                    self.quarantine(&error);
                }
                return Err(error);
            };
            tried = next;
            let generation = seen.unwrap_or(0);
            if next == Remedy::FindAgain {
                self.forget(generation, selector);
            } else {
                self.renew(generation, next == Remedy::Reinitialise)?;
            }
        }
    }

    /// Runs `operation` on the login there is, connecting if there is none; its generation. Holding the lock is what keeps `C_Finalize` away.
    fn with_live<T>(&self, operation: impl Fn(&Live) -> Result<T, Fault>) -> (Option<u64>, Result<T, Fault>) {
        loop {
            {
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                match &state.now {
                    Now::Live(live) => {
                        return (Some(live.generation), operation(live));
                    }
                    Now::Quarantined(why) => return (None, Err(why.clone().into())),
                    Now::Down { until, why } if Instant::now() < *until => return (None, Err(why.clone().into())),
                    Now::Down { .. } => {}
                }
            }
            if let Err(error) = self.renew(0, true) {
                return (None, Err(error.into()));
            }
        }
    }

    /// Logs in anew unless somebody did so since `generation`; with `finalise`, after `C_Finalize` and `C_Initialize`.
    fn renew(&self, generation: u64, finalise: bool) -> Result<(), HsmError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &state.now {
            Now::Live(live) if live.generation != generation => return Ok(()),
            Now::Quarantined(why) => return Err(why.clone()),
            Now::Down { until, why } if Instant::now() < *until => return Err(why.clone()),
            _ => {}
        }
        self.connect(&mut state, finalise)
    }

    /// How often the module was initialised and logged in to.
    pub(crate) fn initialised(&self) -> u64 {
        self.initialised.load(Ordering::SeqCst)
    }

    /// Initialises the module and logs in, whatever stands: for an answer that nothing from before may have a part in.
    pub(crate) fn initialise_anew(&self) -> Result<(), HsmError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &state.now {
            Now::Quarantined(why) => return Err(why.clone()),
            Now::Down { until, why } if Instant::now() < *until => return Err(why.clone()),
            _ => {}
        }
        self.connect(&mut state, true)
    }

    fn connect(&self, state: &mut State, finalise: bool) -> Result<(), HsmError> {
        let placeholder = Now::Down { until: Instant::now(), why: HsmError::Unavailable("connecting".to_owned()) };
        let mut anew = true;
        let torn = match std::mem::replace(&mut state.now, placeholder) {
            Now::Live(live) if finalise => live.abandon(),
            // Dropped: every session is closed, which logs out.
            Now::Live(_) => {
                anew = false;
                Ok(())
            }
            // What an earlier attempt initialised is finalised, or the module would not notice a token's return.
            _ if state.backoff.failures() > 0 => crate::module::reinitialise_all(),
            _ => Ok(()),
        };
        state.generation += 1;
        match torn.and_then(|()| Live::connect(&self.configuration, state.generation, &self.doorman)) {
            Ok(live) => {
                self.initialised.fetch_add(u64::from(anew), Ordering::SeqCst);
                state.backoff.reset();
                state.now = Now::Live(Box::new(live));
                Ok(())
            }
            Err(fault) => {
                let why = fault.into_error(Moment::Connect);
                state.now = if let HsmError::Quarantined(_) = why {
                    Now::Quarantined(why.clone())
                } else {
                    let wait = state.backoff.after_failure();
                    Now::Down { until: Instant::now() + wait, why: why.clone() }
                };
                Err(why)
            }
        }
    }

    fn forget(&self, generation: u64, selector: Option<&crate::uri::KekSelector>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if let (Now::Live(live), Some(selector)) = (&state.now, selector)
            && live.generation == generation
        {
            live.forget(selector);
        }
    }

    fn may_initialise_for_a_missing_key(&self) -> bool {
        let mut last = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = last.is_none_or(|last| now.duration_since(last) >= MISSING);
        if may {
            *last = Some(now);
        }
        may
    }

    fn quarantine(&self, why: &HsmError) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).now = Now::Quarantined(why.clone());
    }
}

/// Asks the canary of `kek`, or a round trip where there is none: `Ok` if the token is well, so that `fault` is not its own.
fn sing(fault: Fault, moment: Moment, kek: &KekRef, place: Place<'_>, canaries: &[Canary]) -> Result<(), Fault> {
    let song = match canaries.iter().find(|canary| canary.kek == *kek) {
        Some(canary) => canary.ask(place),
        None => match round_trip(kek.profile, place) {
            Ok(_) => Song::Healthy,
            Err(fault) => Song::Silent(fault),
        },
    };
    match song {
        Song::Healthy => Ok(()),
        Song::Replaced => Err(HsmError::KekReplaced.into()),
        // Both fail alike: it is the token, whatever the code says.
        Song::Silent(silent) if silent.class(moment) == Class::AskCanary => Err(match fault {
            Fault::Code(code, function) => Fault::Dead(code, function),
            _ => Fault::Rubbish("the token fails its known answer"),
        }),
        Song::Silent(silent) => Err(silent),
    }
}

/// What a fault means that comes again while the canary is well.
fn settle(fault: Fault, moment: Moment) -> Fault {
    match (fault.class(moment), fault) {
        (Class::AskCanary, _) if moment == Moment::Unwrap => HsmError::Tampered.into(),
        // The token works and refuses this: nothing is torn down, and the caller may come again.
        (Class::AskCanary, Fault::Code(code, function)) => Fault::Passing(code, function),
        (_, fault) => fault,
    }
}
