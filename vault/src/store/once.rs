//! An act under an `Idempotency-Key` whose answer is known only after its own commit: begun, done, finished.
//!
//! Between the two commits a repeat is told to wait, and after the deadline that nobody knows (docs/formats.md section 7).

use std::sync::Arc;
use std::time::Duration;

use crate::crypto::DataKey;
use crate::domain::{Clock, TenantName, Timestamp};
use crate::keys::{HeldKeys, Keys};
use crate::store::committer::OWN_WORK;
use crate::store::committer::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use crate::store::idempotency::{Answer, IdempotencyRequest, Judgement};
use crate::store::rows::IdempotencyRow;
use crate::store::{Committer, Error};

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

    /// What takes it back, should nobody hear whether it was written.
    #[must_use]
    pub fn undone(&self) -> Forget {
        Forget { running: self.running.clone(), deadline: self.deadline }
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

/// How often it is tried to take a beginning back, and how much longer is waited each time: a minute in all, beside what the
/// tries themselves take.
const TRIES: u32 = 16;
const PAUSE: Duration = Duration::from_millis(500);

/// Takes back that a request runs, after a [`Begin`] of which nobody heard whether it was written. Its work was not begun,
/// and we know it: a repeat must not be told for a day that nobody does.
///
/// It outlives the request by minutes where the store is away, and so holds nothing of it but the row it would take back:
/// not its body (a PIN may stand there), not its credential, no key that was opened for it.
#[derive(Clone)]
pub struct Forget {
    running: IdempotencyRow,
    deadline: Timestamp,
}

impl Forget {
    /// Tries until it is done, or nobody can tell any more.
    pub async fn carry_out(self, committer: &Committer, clock: &Clock) {
        for again in 0..TRIES {
            tokio::time::sleep(PAUSE * again).await;
            let deadline = clock.now().plus(OWN_WORK);
            match committer.submit(Self { deadline, ..self.clone() }).await {
                Ok(_) => return,
                Err(Error::Late | Error::Unavailable | Error::Overloaded) => {}
                Err(error) => {
                    tracing::warn!(%error, "a request that was never begun stays noted as running");
                    return;
                }
            }
        }
        tracing::warn!("a request that was never begun stays noted as running: the store did not answer");
    }
}

impl Operation for Forget {
    type Output = ();

    fn tenant(&self) -> &TenantName {
        &self.running.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    // Nobody waits for it.
    fn patience(&self) -> Duration {
        OWN_WORK
    }

    fn reads(&self) -> Reads {
        Reads { idempotency: vec![self.running.lookup], ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<()> {
        // A repeat may have begun meanwhile: only what this request wrote itself is taken back. Where nothing is to be seen
        // its commit may still be under way; what is written here meets it then, and is decided anew on what it wrote.
        let is_own = |row: &IdempotencyRow| row.body_mac == self.running.body_mac && row.answer == self.running.answer;
        if rows.idempotency(&self.running.lookup).is_some_and(|row| !is_own(row)) {
            return Decision::Answer(());
        }
        let forgotten = vec![self.running.forgotten(rows.now())];
        Decision::Write(Changes { idempotency: forgotten, ..Changes::default() }, ())
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
