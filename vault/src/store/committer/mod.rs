//! The committer: what is queued becomes one transaction and one fsync (docs/formats.md section 9).

mod announcement;
mod clock_watch;
mod gathered;
mod gathering;
mod housekeeping;
mod line;
pub mod meter;
mod numbering;
pub mod operation;
mod overlay;
pub(in crate::store) mod own_work;
mod provider_watch;
mod purging;
mod put_off;
mod queued;
mod sorting;
mod start;
mod writer;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, Store};
use crate::access_log::node::LaneEnd;
use crate::access_log::{NodeIdentity, Receipt};
use crate::crypto::Durable;
use crate::domain::{Clock, DataKeyClass, TenantName, Timestamp};
use crate::keys::Keys;
use operation::Operation;
use queued::{Job, Needs, OpeningKeys, Place, Reply};
pub use start::FirstWords;
use writer::{BatchWriter, Lanes, Message};

/// So many places there are for operations that wait or are under way: more are refused at once.
const QUEUE: u32 = 4096;
/// So many entries have one place.
const ENTRIES_OF_A_PLACE: usize = 4;
/// So often an operation may come back for keys.
const ROUNDS: usize = 3;
/// What is kept for writing an entry of what its caller may wait in all. A token whose worker has to be started first is waited for
/// until then: as long as by any other call of it, and what is refused meanwhile has its names.
const WRITING: Duration = Duration::from_millis(400);
/// How long the vault's own work may take.
pub(in crate::store) const OWN_WORK: Duration = Duration::from_secs(30);

/// What an operation gets once it is durable.
#[derive(Debug)]
pub struct Committed<T> {
    /// What it decided to give out.
    pub output: T,
    /// The proof that opening needs.
    pub durable: Durable,
    /// The batch's clock.
    pub at: Timestamp,
    places: Vec<Place>,
    identity: Arc<NodeIdentity>,
}

impl<T> Committed<T> {
    /// One receipt for each entry, in their order: made when somebody asks, since each is a signature.
    #[must_use]
    pub fn receipts(&self) -> Vec<Receipt> {
        self.places.iter().map(|place| place.receipt(&self.identity)).collect()
    }
}

/// The one writer of a node. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    inner: Arc<Inner>,
}

struct Inner {
    queue: mpsc::UnboundedSender<Message>,
    /// What bounds the queue.
    places: Arc<Semaphore>,
    store: Store,
    keys: Keys,
    clock: Clock,
    identity: Arc<NodeIdentity>,
    lanes: Lanes,
    /// Set once another node closed this boot.
    closed: CancellationToken,
    /// Whether it was recorded that the machine's clock is wrong.
    clock_told: AtomicBool,
}

impl Committer {
    /// Starts the writer: records `node.started` in every log and takes operations from then on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the first entries cannot be written, [`Error::Keys`] if the boot cannot be certified.
    pub async fn start(store: Store, keys: Keys, clock: Clock, identity: NodeIdentity) -> Result<Self, Error> {
        Self::start_after(FirstWords::new(), store, keys, clock, identity).await
    }

    /// The same after a recovery, whose words come first in their logs.
    ///
    /// # Errors
    /// As [`Committer::start`].
    pub async fn start_after(
        words: FirstWords,
        store: Store,
        keys: Keys,
        clock: Clock,
        identity: NodeIdentity,
    ) -> Result<Self, Error> {
        let (queue, messages) = mpsc::unbounded_channel();
        let (identity, lanes) = (Arc::new(identity), Lanes::default());
        let closed = CancellationToken::new();
        let writer = BatchWriter::new(store.clone(), Arc::clone(&identity), Arc::clone(&lanes), closed.clone());
        store.open_boot(identity.boot()).await?;
        spawn(writer.run(messages))?;
        let committer = Self {
            inner: Arc::new(Inner {
                queue,
                places: Arc::new(Semaphore::new(QUEUE as usize)),
                store,
                keys,
                clock,
                identity,
                lanes,
                closed,
                clock_told: AtomicBool::new(false),
            }),
        };
        committer.announce(words).await?;
        committer.compare_with_signs_of_life().await?;
        housekeeping::spawn(&committer);
        Ok(committer)
    }

    /// Hands an operation in and waits until it is durable.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Stale`], [`Error::Late`], [`Error::Conflict`], [`Error::Unavailable`],
    /// [`Error::LogUnavailable`], [`Error::Keys`]; nothing was released, and with any but `Unavailable` and `Late` nothing
    /// was written.
    pub async fn submit<O: Operation>(&self, operation: O) -> Result<Committed<O::Output>, Error> {
        // The vault's own work and administration go on: they are how a log is mended.
        if operation.generation().is_some() && !self.inner.store.log_health().is_serving() {
            return Err(Error::LogUnavailable);
        }
        let until = Instant::now() + operation.deadline().since(self.inner.clock.now()).min(operation.patience());
        let (mut operation, mut openings) = (operation, OpeningKeys::new());
        let tenant = operation.tenant().clone();
        self.fetch_opening_key(&tenant, &mut openings, until).await;
        for _ in 0..=ROUNDS {
            match self.hand_in(operation, openings, until).await? {
                Reply::Done { output, places, at } => {
                    let identity = Arc::clone(&self.inner.identity);
                    return Ok(Committed { output, durable: Durable::after_commit(), at, places, identity });
                }
                Reply::Failed(error) => return Err(error),
                Reply::Back { operation: again, openings: held, needs } => {
                    (operation, openings) = (again, held);
                    self.fetch(&mut operation, &mut openings, needs, until).await?;
                }
            }
        }
        Err(Error::Unavailable)
    }

    async fn hand_in<O: Operation>(
        &self,
        operation: O,
        openings: OpeningKeys,
        until: Instant,
    ) -> Result<Reply<O>, Error> {
        let (reply, answer) = oneshot::channel();
        let places = operation.entries().div_ceil(ENTRIES_OF_A_PLACE).clamp(1, QUEUE as usize);
        let places = u32::try_from(places).unwrap_or(QUEUE);
        let place = match Arc::clone(&self.inner.places).try_acquire_many_owned(places) {
            Ok(place) => Some(place),
            Err(TryAcquireError::NoPermits) => {
                self.inner.store.meter().committer.refused.inc();
                return Err(Error::Overloaded);
            }
            Err(TryAcquireError::Closed) => return Err(Error::Unavailable),
        };
        let job = Job { operation, openings, output: None, reply, until, place, moved: Vec::new() };
        self.inner.queue.send(Message::Job(Box::new(job))).map_err(|_| Error::Unavailable)?;
        match tokio::time::timeout_at(until, answer).await {
            Ok(reply) => reply.map_err(|_| Error::Unavailable),
            // The writer drops what nobody waits for any more, unless its commit is under way.
            Err(_) => Err(Error::Late),
        }
    }

    async fn fetch<O: Operation>(
        &self,
        operation: &mut O,
        openings: &mut OpeningKeys,
        needs: Needs,
        until: Instant,
    ) -> Result<(), Error> {
        for tenant in needs.opening_keys {
            self.fetch_opening_key(&tenant, openings, until).await;
        }
        let tenant = operation.tenant().clone();
        for id in needs.data_keys {
            let key = self.inner.keys.data_key(&self.inner.store, &tenant, id);
            let key = tokio::time::timeout_at(until, key).await.map_err(|_| Error::Late)??;
            operation.hold(key);
        }
        Ok(())
    }

    /// Gets the key that seals a tenant's openings. Where it is not to be had (no KEK yet, HSM away, tenant sealed), an
    /// allowed access is refused; any other entry is written without openings: that it happened matters more than who said
    /// what about it.
    async fn fetch_opening_key(&self, tenant: &TenantName, openings: &mut OpeningKeys, until: Instant) {
        let (keys, store) = (&self.inner.keys, &self.inner.store);
        let key = keys.data_key_to_seal(store, tenant, DataKeyClass::LogOpening, self.inner.clock.now());
        // The entry itself is still to be written.
        let left = until.saturating_duration_since(Instant::now());
        let wait = Instant::now() + left.saturating_sub(WRITING).max(left / 2);
        let key = match tokio::time::timeout_at(wait, key).await {
            Ok(Ok(key)) => Some(key),
            Ok(Err(error)) => {
                tracing::debug!(%tenant, %error, "openings cannot be sealed");
                None
            }
            Err(_) => None,
        };
        openings.insert(tenant.clone(), key);
    }

    /// Where this boot's lanes stand, as acknowledged: so much must be in the database.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneEnd> {
        self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until another node closed this boot, as one that gave no sign of life: it was frozen, or cut off. From then on it
    /// writes nothing; whoever runs it starts it anew.
    pub async fn closed(&self) {
        self.inner.closed.cancelled().await;
    }

    /// How many places are taken by operations that wait or are under way, and how many there are. A small operation takes
    /// one, a large one more.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let most = QUEUE as usize;
        (most.saturating_sub(self.inner.places.available_permits()), most)
    }

    /// This start of the node.
    #[must_use]
    pub fn identity(&self) -> &NodeIdentity {
        &self.inner.identity
    }

    /// Takes nothing new, writes what is queued and `node.stopped` into every log.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if that cannot be written, or it is stopped already.
    pub async fn stop(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.inner.queue.send(Message::Stop(reply)).map_err(|_| Error::Unavailable)?;
        answer.await.map_err(|_| Error::Unavailable)?
    }
}

/// Runs the writer on a thread and a runtime of its own: each of a batch's round trips would else wait for its turn among
/// all requests that have something to do.
fn spawn(writer: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Database(error.into()))?;
    let thread = std::thread::Builder::new().name("committer".to_owned());
    thread.spawn(move || runtime.block_on(writer)).map(drop).map_err(|error| Error::Database(error.into()))
}
