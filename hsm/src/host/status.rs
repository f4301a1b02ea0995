//! What a host shows of its HSM, for readiness, metrics and the log. Nothing secret.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::HsmError;
use crate::message::WorkerStatus;

/// Where the HSM stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No worker, and none is needed; or one is, and as many run as may. A call has one started.
    Idle,
    /// No worker; one will be started after the back-off.
    Down,
    /// A worker is loading the module, logging in, asking the canaries.
    Connecting,
    /// Calls are answered.
    Ready,
    /// The breaker is open: calls are refused until the canaries are answered.
    Degraded,
    /// A PIN was refused: nothing happens until a person changes the configuration.
    Quarantined,
}

/// The state of a [`crate::Host`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The phase.
    pub phase: Phase,
    /// Since when.
    pub since: SystemTime,
    /// Rises with each change of phase: a caller logs what it has not seen.
    pub changes: u64,
    /// The last failure, in this crate's words. Kept after recovery.
    pub last_error: Option<String>,
    /// The same as it was. [`HsmError::Overloaded`] where no process could be had for a worker: no token was asked then.
    #[serde(skip)]
    pub failure: Option<HsmError>,
    /// Process id of the worker.
    pub worker_pid: Option<u32>,
    /// What the worker said when it connected or at the last canary.
    pub worker: Option<WorkerStatus>,
    /// Workers started so far.
    pub starts: u64,
    /// Starts that failed, and workers that ended by themselves or were killed, so far.
    pub downs: u64,
    /// Of those, the ones since it was last well: at 0 a start under way is no outage.
    pub failed: u32,
    /// Calls ended so far.
    pub calls: u64,
    /// Of those, failed ones.
    pub failures: u64,
    /// Calls under way.
    pub in_flight: usize,
    /// When the canaries last answered.
    pub canaries_at: Option<SystemTime>,
}

impl Status {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            since: SystemTime::now(),
            changes: 0,
            last_error: None,
            failure: None,
            worker_pid: None,
            worker: None,
            starts: 0,
            downs: 0,
            failed: 0,
            calls: 0,
            failures: 0,
            in_flight: 0,
            canaries_at: None,
        }
    }

    /// Takes on a phase.
    pub(super) fn turn(&mut self, phase: Phase, why: Option<&HsmError>) {
        if let Some(why) = why {
            self.note(why);
        }
        if self.phase != phase {
            self.phase = phase;
            self.since = SystemTime::now();
            self.changes += 1;
        }
    }

    /// Keeps a failure. The prefix of the variant is what `Host` puts in front again.
    pub(super) fn note(&mut self, why: &HsmError) {
        self.failure = Some(why.clone());
        self.last_error = Some(match why {
            HsmError::Quarantined(reason) | HsmError::Unavailable(reason) => reason.clone(),
            other => other.to_string(),
        });
    }

    pub(super) fn answered(&mut self, worker: WorkerStatus) {
        self.failed = 0;
        self.worker = Some(worker);
        self.canaries_at = Some(SystemTime::now());
    }
}
