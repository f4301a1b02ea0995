//! Changes of the vault's own doing, as an operation: announcements, keys of the installation.

use std::sync::Arc;
use std::time::Duration;

use super::OWN_WORK;
use super::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use crate::crypto::DataKey;
use crate::domain::{TenantName, Timestamp};

/// Changes that rest on nothing that is read.
pub(in crate::store) struct OwnWork {
    tenant: TenantName,
    deadline: Timestamp,
    moves: bool,
    changes: Box<dyn Fn() -> Changes + Send>,
}

impl OwnWork {
    /// Work whose changes `changes` makes each time they are decided.
    pub(in crate::store) fn new(
        tenant: TenantName,
        deadline: Timestamp,
        changes: impl Fn() -> Changes + Send + 'static,
    ) -> Self {
        Self { tenant, deadline, moves: false, changes: Box::new(changes) }
    }

    /// The same, which moves its tenant's generation on.
    pub(in crate::store) fn moving(self) -> Self {
        Self { moves: true, ..self }
    }
}

impl Operation for OwnWork {
    type Output = ();

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn patience(&self) -> Duration {
        OWN_WORK
    }

    fn moves(&self) -> bool {
        self.moves
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn hold(&mut self, _data_key: Arc<DataKey>) {}

    fn decide(&mut self, _rows: &dyn Rows) -> Decision<()> {
        let changes = (self.changes)();
        Decision::Write(Changes { bump_generation: changes.bump_generation || self.moves, ..changes }, ())
    }
}
