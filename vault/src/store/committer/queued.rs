//! An operation in the queue, its output's type forgotten, and the way its answer goes back.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::operation::{Asker, Changes, Decision, Generation, Operation, Reads, Rows};
use crate::access_log::{NodeIdentity, Position, Receipt};
use crate::crypto::DataKey;
use crate::domain::{DataKeyId, TenantName, Timestamp};
use crate::store::Error;
use crate::store::rows::IdempotencyRow;

/// The keys that seal openings, by tenant. `None`: asked for and not to be had.
pub(super) type OpeningKeys = BTreeMap<TenantName, Option<Arc<DataKey>>>;

/// Where an entry came to stand; its receipt is made from this.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) tenant: TenantName,
    pub(super) position: Position,
    pub(super) leaf_hash: [u8; 32],
}

impl Place {
    pub(super) fn receipt(&self, identity: &NodeIdentity) -> Receipt {
        identity.receipt(self.position, &self.tenant, self.leaf_hash)
    }
}

/// Keys an operation lacks: it leaves the batch and comes back holding them.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) data_keys: Vec<DataKeyId>,
    pub(super) opening_keys: Vec<TenantName>,
}

/// How an operation left the committer.
pub(super) enum Reply<O: Operation> {
    /// It is durable.
    Done { output: O::Output, places: Vec<Place>, at: Timestamp },
    /// Nothing of it was released.
    Failed(Error),
    /// It lacks keys.
    Back { operation: O, openings: OpeningKeys, needs: Needs },
}

/// An operation with the place its output waits in until the commit.
pub(super) struct Job<O: Operation> {
    pub(super) operation: O,
    pub(super) openings: OpeningKeys,
    pub(super) output: Option<O::Output>,
    pub(super) reply: oneshot::Sender<Reply<O>>,
    /// When its caller goes away.
    pub(super) until: Instant,
    /// What it holds of the queue.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Tenants whose generation it turned out to move on.
    pub(super) moved: Vec<TenantName>,
}

/// What an operation decided, without its output.
pub(super) enum Verdict {
    /// To be written.
    Write(Box<Changes>),
    /// Nothing to be written.
    Answer,
    /// It lacks data keys.
    Need(Vec<DataKeyId>),
    /// Its decision panicked: a fault of ours that costs this request alone.
    Panicked,
}

/// A [`Job`] of any type.
pub(super) trait Queued: Send {
    fn tenant(&self) -> &TenantName;
    fn generation(&self) -> Option<Generation>;
    fn asker(&self) -> Option<Asker>;
    fn deadline(&self) -> Timestamp;
    fn until(&self) -> Instant;
    /// Tenants whose generation it moves on, as far as it said so or was seen to.
    fn moving(&self) -> Vec<TenantName>;
    /// It was seen to move these on.
    fn moves(&mut self, tenants: &[TenantName]);
    fn reads(&self) -> Reads;
    /// True if nobody waits for it any more: then it must not happen either.
    fn is_abandoned(&self) -> bool;
    fn opening_key(&self, tenant: &TenantName) -> Option<Option<Arc<DataKey>>>;
    fn decide(&mut self, rows: &dyn Rows) -> Verdict;
    /// What it wants written once its entries have their places.
    fn numbered(&mut self, places: &[Place], identity: &NodeIdentity) -> Result<Option<IdempotencyRow>, Error>;
    fn done(self: Box<Self>, places: Vec<Place>, at: Timestamp);
    fn fail(self: Box<Self>, error: Error);
    fn back(self: Box<Self>, needs: Needs);
}

impl<O: Operation> Queued for Job<O> {
    fn tenant(&self) -> &TenantName {
        self.operation.tenant()
    }

    fn generation(&self) -> Option<Generation> {
        self.operation.generation()
    }

    fn asker(&self) -> Option<Asker> {
        self.operation.asker()
    }

    fn deadline(&self) -> Timestamp {
        self.operation.deadline()
    }

    fn until(&self) -> Instant {
        self.until
    }

    fn moving(&self) -> Vec<TenantName> {
        let said = self.operation.moves().then(|| self.operation.tenant().clone());
        self.moved.iter().cloned().chain(said).collect()
    }

    fn moves(&mut self, tenants: &[TenantName]) {
        let known = &self.moved;
        let new: Vec<TenantName> = tenants.iter().filter(|tenant| !known.contains(tenant)).cloned().collect();
        self.moved.extend(new);
    }

    fn reads(&self) -> Reads {
        self.operation.reads()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn opening_key(&self, tenant: &TenantName) -> Option<Option<Arc<DataKey>>> {
        self.openings.get(tenant).cloned()
    }

    fn decide(&mut self, rows: &dyn Rows) -> Verdict {
        self.output = None;
        match catch_unwind(AssertUnwindSafe(|| self.operation.decide(rows))) {
            Ok(Decision::Write(changes, output)) => {
                self.output = Some(output);
                Verdict::Write(Box::new(changes))
            }
            Ok(Decision::Answer(output)) => {
                self.output = Some(output);
                Verdict::Answer
            }
            Ok(Decision::NeedDataKeys(ids)) => Verdict::Need(ids),
            Err(_) => Verdict::Panicked,
        }
    }

    fn numbered(&mut self, places: &[Place], identity: &NodeIdentity) -> Result<Option<IdempotencyRow>, Error> {
        let receipts = || places.iter().map(|place| place.receipt(identity)).collect();
        match &mut self.output {
            Some(output) => catch_unwind(AssertUnwindSafe(|| self.operation.numbered(output, &receipts)))
                .unwrap_or(Err(Error::Rule("an answer panicked"))),
            None => Ok(None),
        }
    }

    fn done(self: Box<Self>, places: Vec<Place>, at: Timestamp) {
        let Self { output, reply: caller, place, .. } = *self;
        drop(place);
        let reply = match output {
            Some(output) => Reply::Done { output, places, at },
            None => Reply::Failed(Error::Unavailable),
        };
        // Whoever gave up waiting has answered 503; the entry says what became of it.
        let _ = caller.send(reply);
    }

    fn fail(self: Box<Self>, error: Error) {
        let Self { reply, place, .. } = *self;
        drop(place);
        let _ = reply.send(Reply::Failed(error));
    }

    fn back(self: Box<Self>, needs: Needs) {
        let Self { operation, openings, reply, place, .. } = *self;
        drop(place);
        let _ = reply.send(Reply::Back { operation, openings, needs });
    }
}
