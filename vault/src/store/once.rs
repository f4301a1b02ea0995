//! An act under an `Idempotency-Key` whose answer is known only after its own commit: begun, done, finished.
//!
//! Between the two commits a repeat is told to wait, and after the deadline that nobody knows (docs/formats.md section 7).

use std::sync::Arc;

use crate::crypto::DataKey;
use crate::domain::{TenantName, Timestamp};
use crate::keys::{HeldKeys, Keys};
use crate::store::Error;
use crate::store::committer::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use crate::store::idempotency::{Answer, IdempotencyRequest, Judgement};
use crate::store::rows::IdempotencyRow;

/// Judges a request and, if it is the first, notes that it runs.
pub struct Begin {
    tenant: TenantName,
    request: Arc<IdempotencyRequest>,
    running: IdempotencyRow,
    held: HeldKeys,
    deadline: Timestamp,
}

impl Begin {
    /// A request that runs until `deadline` at most.
    ///
    /// # Errors
    /// [`Error::Keys`] if there is no randomness.
    pub fn new(
        tenant: TenantName,
        request: Arc<IdempotencyRequest>,
        keys: &Keys,
        deadline: Timestamp,
    ) -> Result<Self, Error> {
        let running = request.running(None, deadline)?;
        Ok(Self { tenant, request, running, held: keys.held(), deadline })
    }
}

impl Operation for Begin {
    type Output = Judgement;

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        Reads { idempotency: self.request.lookups(), ..Reads::default() }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Judgement> {
        match self.request.judge(rows, &self.held) {
            Err(wanted) => Decision::NeedDataKeys(vec![wanted]),
            Ok(Judgement::Fresh) => {
                let running = vec![self.running.clone()];
                Decision::Write(Changes { idempotency: running, ..Changes::default() }, Judgement::Fresh)
            }
            Ok(repeated) => Decision::Answer(repeated),
        }
    }
}

/// Keeps the answer for repeats.
pub struct Finish {
    tenant: TenantName,
    answered: IdempotencyRow,
    deadline: Timestamp,
}

impl Finish {
    /// The answer of a request that [`Begin`] found to be the first.
    ///
    /// # Errors
    /// [`Error::Keys`] if there is no randomness.
    pub fn new(
        tenant: TenantName,
        request: &IdempotencyRequest,
        answer: &Answer,
        deadline: Timestamp,
    ) -> Result<Self, Error> {
        Ok(Self { tenant, answered: request.answered(None, answer)?, deadline })
    }
}

impl Operation for Finish {
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

    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, _: &dyn Rows) -> Decision<()> {
        Decision::Write(Changes { idempotency: vec![self.answered.clone()], ..Changes::default() }, ())
    }
}
