//! What the store counts: calls to the database, what integration wrote, what the purge took.

use crate::domain::meter::{Counter, Moment};
use crate::domain::{RetentionClass, Timestamp};
use crate::store::committer::meter::Meter as CommitterMeter;
use crate::store::integration::Integration;

/// The counts of a store.
#[derive(Debug, Default)]
pub struct Meter {
    /// Calls to the database beside the batches: reads, integration, heartbeats.
    pub calls: Counter,
    /// Entries that got an index by this node.
    pub integrated: Counter,
    /// When this node last signed a checkpoint.
    pub checkpoint: Moment,
    /// The committer's own.
    pub committer: CommitterMeter,
    /// The purge's own.
    pub purge: PurgeMeter,
}

impl Meter {
    /// Counts a step of integration that is durable.
    pub(in crate::store) fn integrated(&self, step: &Integration) {
        for log in &step.logs {
            self.integrated.add(log.positions.len() as u64);
            if let Some(checkpoint) = &log.checkpoint {
                self.checkpoint.set(checkpoint.time);
            }
        }
    }
}

/// What the purge took.
#[derive(Debug, Default)]
pub struct PurgeMeter {
    sensitive_authentication: Counter,
    session: Counter,
    stored: Counter,
    /// Rows that belonged to requests: idempotency records, runs, ended sessions, keys whose erasure key is gone.
    pub requests: Counter,
    /// When a run of it last came to its end.
    pub passed: Moment,
}

impl PurgeMeter {
    /// Values of a class.
    #[must_use]
    pub const fn values(&self, class: RetentionClass) -> &Counter {
        match class {
            RetentionClass::SensitiveAuthentication => &self.sensitive_authentication,
            RetentionClass::Session => &self.session,
            RetentionClass::Stored => &self.stored,
        }
    }

    /// Notes that a run came to its end.
    pub(in crate::store) fn passed(&self, requests: u64, at: Timestamp) {
        self.requests.add(requests);
        self.passed.set(at);
    }
}
