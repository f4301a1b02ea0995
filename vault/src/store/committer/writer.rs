//! The writer's task: takes what is queued, makes one transaction of it, releases what is durable.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::gathered::{End, Gathered, Left, Waiting, fail_all};
use super::line::Line;
use super::numbering::Numbering;
use super::operation::Changes;
use super::overlay::{self, Overlay};
use super::own_work::OwnWork;
use super::put_off::PutOff;
use super::queued::{Job, OpeningKeys, Queued, Reply};
use super::sorting::{alone_or_failed, in_time, receive};
use super::{OWN_WORK, announcement};
use crate::access_log::node::LaneEnd;
use crate::access_log::{Lane, NodeIdentity};
use crate::domain::{TenantName, Timestamp};
use crate::store::batch::Wanted;
use crate::store::fault::{Fault, NotWritten};
use crate::store::writer::Writer;
use crate::store::{ATTEMPTS, Error, Store};

/// So many operations go into one batch at most: it bounds how long one commit takes.
pub(super) const BATCH: usize = 256;

/// So many logs are left in one commit: integration takes slices of at most 256 entries.
const FAREWELLS: usize = 200;

/// What comes through the queue.
pub(super) enum Message {
    /// An operation.
    Job(Box<dyn Queued>),
    /// Write what is queued, say farewell, end.
    Stop(oneshot::Sender<Result<(), Error>>),
}

/// Where the boot's lanes stand, for heartbeats.
pub(super) type Lanes = Arc<Mutex<Vec<LaneEnd>>>;

/// The one writer of a node.
pub(super) struct BatchWriter {
    pub(super) store: Store,
    pub(super) identity: Arc<NodeIdentity>,
    lane: Lane,
    lanes: Lanes,
    /// Set once another node closed this boot.
    closed: CancellationToken,
    /// Tenants in whose logs this boot has announced itself.
    announced: BTreeSet<TenantName>,
    /// What waits for another node.
    pub(super) busy: PutOff,
    /// What the last transactions took.
    usual: Duration,
}

impl BatchWriter {
    pub(super) fn new(store: Store, identity: Arc<NodeIdentity>, lanes: Lanes, closed: CancellationToken) -> Self {
        let lane = Lane::open(identity.boot(), 0);
        Self {
            store,
            identity,
            lane,
            lanes,
            closed,
            announced: BTreeSet::new(),
            busy: PutOff::default(),
            usual: Duration::ZERO,
        }
    }

    /// Works until it is stopped or nobody is left to ask.
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Message>) {
        let (mut messages, mut line) = (Vec::with_capacity(BATCH), Line::default());
        let mut stop = None;
        while receive(&mut queue, &mut messages, self.busy.until(line.is_empty())).await {
            for message in messages.drain(..) {
                match message {
                    Message::Job(job) => line.push(job),
                    Message::Stop(reply) => {
                        // Nothing new is taken; what is in the queue is written still.
                        queue.close();
                        stop = Some(reply);
                    }
                }
            }
            self.commit_all(line.draw(BATCH)).await;
            if let Some(jobs) = self.busy.due() {
                self.commit_all(jobs).await;
            }
        }
        if let Some(reply) = stop {
            let said = self.farewell().await;
            if said.is_ok() {
                self.close_own().await;
            }
            let _ = reply.send(said);
        }
    }

    /// Commits operations together; where one's row fails, each of them alone, so that no neighbour pays for it.
    async fn commit_all(&mut self, jobs: Vec<Box<dyn Queued>>) {
        for mut jobs in self.by_lock(jobs) {
            while !jobs.is_empty() {
                let Left { split, later } = self.commit(jobs).await;
                for job in split {
                    self.store.meter().committer.split.inc();
                    self.commit(vec![job]).await;
                }
                jobs = later;
            }
        }
    }

    /// Commits operations, anew where another transaction came between: they are decided and numbered anew then too.
    async fn commit(&mut self, mut jobs: Vec<Box<dyn Queued>>) -> Left {
        let store = self.store.clone();
        let meter = &store.meter().committer;
        let mut writer = store.writer().await;
        let mut left = ATTEMPTS;
        loop {
            let came = jobs.len();
            jobs = in_time(jobs, store.clock().now(), self.usual);
            meter.dropped.add((came - jobs.len()) as u64);
            if jobs.is_empty() {
                return Left::default();
            }
            left -= 1;
            let (began, span) = (Instant::now(), tracing::debug_span!("batch", operations = jobs.len()));
            let transacted = self.transact(jobs, &mut writer).instrument(span).await;
            match transacted {
                Transacted::NotRead(again, Error::Closed) => return self.is_closed(again),
                Transacted::NotRead(again, error) => match self.not_read(again, error, &mut writer, left).await {
                    Ok(again) => jobs = again,
                    Err(left) => return left,
                },
                Transacted::Moving(gathered) => {
                    // Nothing failed: it is made once more with what it needs for itself.
                    left += 1;
                    jobs = gathered.into_jobs();
                }
                Transacted::NotWritten(gathered, error) => {
                    match self.not_written(gathered, error, &mut writer, left).await {
                        Ok(again) => jobs = again,
                        Err(left) => return left,
                    }
                }
                Transacted::Unknown(mut gathered, error) => {
                    // Nobody knows whether it happened: this lane's numbers may be taken, so it is never used again.
                    tracing::error!(%error, "the result of a commit is not known; a new lane is opened");
                    meter.unknown.inc();
                    writer.failed(&error).await;
                    self.open_next_lane();
                    let later = std::mem::take(&mut gathered.later);
                    return Left { later, ..gathered.failed(false, Error::Unavailable) };
                }
                Transacted::Committed(gathered, at) => {
                    drop(writer);
                    let took = began.elapsed();
                    meter.transactions.took(took);
                    self.usual = (self.usual * 3 + took) / 4;
                    return self.committed(gathered, at);
                }
            }
        }
    }

    /// The operations that are to be made anew, or what is left of them.
    async fn not_read(
        &mut self,
        jobs: Vec<Box<dyn Queued>>,
        error: Error,
        writer: &mut Writer<'_>,
        left: u32,
    ) -> Result<Vec<Box<dyn Queued>>, Left> {
        let fault = match &error {
            Error::Database(error) => writer.failed(error).await,
            Error::Held => Fault::Busy,
            _ => Fault::Other,
        };
        let jobs = match self.put_off(jobs, fault, writer).await {
            Ok(left) => return Err(left),
            Err(jobs) => jobs,
        };
        if !fault.passes() || left == 0 {
            return Err(alone_or_failed(jobs, error));
        }
        self.store.meter().committer.retried.inc();
        Ok(jobs)
    }

    /// Likewise.
    async fn not_written(
        &mut self,
        mut gathered: Gathered,
        error: NotWritten,
        writer: &mut Writer<'_>,
        left: u32,
    ) -> Result<Vec<Box<dyn Queued>>, Left> {
        let fault = match &error {
            NotWritten::Raced => Fault::Raced,
            NotWritten::Database(error) => writer.failed(error).await,
        };
        if matches!(fault, Fault::Busy | Fault::Slow) {
            let left = self.put_off(gathered.into_jobs(), fault, writer).await;
            return Err(left.unwrap_or_else(|jobs| alone_or_failed(jobs, Error::Unavailable)));
        }
        if !fault.passes() || left == 0 {
            let later = std::mem::take(&mut gathered.later);
            return Err(Left { later, ..gathered.failed(fault.is_own_row(), Error::Conflict) });
        }
        self.store.meter().committer.retried.inc();
        Ok(gathered.into_jobs())
    }

    /// One transaction: reads, decides, writes, commits.
    async fn transact(&mut self, jobs: Vec<Box<dyn Queued>>, writer: &mut Writer<'_>) -> Transacted {
        let mut batch = match writer.begin().await {
            Ok(batch) => batch,
            Err(error) => return Transacted::NotRead(jobs, error),
        };
        let mut wanted = Wanted::by(self.identity.boot());
        for job in &jobs {
            overlay::want(&mut wanted, (job.reads(), job.asker()), job.tenant());
            wanted.moving.extend(job.moving());
        }
        let loaded = match batch.load(&wanted, self.store.keys().realm(), self.store.clock()).await {
            Ok(loaded) => loaded,
            Err(error) => {
                let _ = batch.rollback().await;
                return Transacted::NotRead(jobs, error);
            }
        };
        let (now, awaited) = (loaded.now, loaded.awaited.clone());
        let (left, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| awaited.contains(job.tenant()));
        self.busy.leave(left);
        let mut overlay = Overlay::new(loaded, now, &self.store.inner.seal);
        let gathered = self.gather(jobs, &mut overlay, now);
        if self.store.has_others()
            && let Ok(set) = &gathered.set
            && set.generations.keys().any(|tenant| !wanted.moving.contains(tenant))
        {
            let _ = batch.rollback().await;
            return Transacted::Moving(gathered);
        }
        let written = match &gathered.set {
            // Every fault of numbering and signing is one of an operation's own entries.
            Err(_) => Err(NotWritten::Database(sqlx::Error::RowNotFound)),
            Ok(set) if set.is_empty() => Ok(()),
            Ok(set) => batch.write(set).await,
        };
        if let Err(error) = written {
            let _ = batch.rollback().await;
            return Transacted::NotWritten(gathered, error);
        }
        let began = Instant::now();
        let committed = batch.commit().await;
        self.store.meter().committer.commits.took(began.elapsed());
        match committed {
            Ok(()) => Transacted::Committed(gathered, now),
            Err(error) if writer.undid(&error) => Transacted::NotWritten(gathered, NotWritten::Database(error)),
            Err(error) => Transacted::Unknown(gathered, error),
        }
    }

    fn gather(&self, jobs: Vec<Box<dyn Queued>>, overlay: &mut Overlay, now: Timestamp) -> Gathered {
        let numbering = Numbering::new(self.lane.draft(), &self.announced, &self.identity, now, jobs.len());
        Gathered::of(jobs, overlay, numbering, &self.store.inner.seal)
    }

    /// It is durable: numbers are taken, outputs are released.
    fn committed(&mut self, gathered: Gathered, at: Timestamp) -> Left {
        if let Ok(set) = &gathered.set
            && let Some((batch, groups)) = &set.batch
            && let Err(error) = self.lane.advance(batch, groups)
        {
            tracing::error!(%error, "a batch is not the next of its lane; a new lane is opened");
            self.open_next_lane();
        }
        if let Ok(set) = &gathered.set {
            self.store.own_batches().remember(set);
            self.store.meter().committer.committed(set, gathered.waiting.len());
        }
        self.announced.extend(gathered.announced);
        self.publish_lane();
        let now = self.store.clock().now();
        for Waiting { job, end } in gathered.waiting {
            match end {
                End::Failed(error) => job.fail(error),
                End::Done(_) if job.deadline() < now => job.fail(Error::Late),
                End::Done(places) => job.done(places, at),
            }
        }
        Left { split: Vec::new(), later: gathered.later }
    }

    /// Another node took this boot for dead and noted where its lanes end: none goes on, and none begins.
    fn is_closed(&self, jobs: Vec<Box<dyn Queued>>) -> Left {
        tracing::error!("another node closed this start of the node: it writes nothing any more");
        self.closed.cancel();
        fail_all(jobs, &Error::Closed);
        Left::default()
    }

    fn open_next_lane(&mut self) {
        self.store.meter().committer.lanes.inc();
        self.lane = Lane::open(self.identity.boot(), self.lane.end().lane.saturating_add(1));
        self.publish_lane();
    }

    fn publish_lane(&self) {
        let end = self.lane.end();
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.iter_mut().find(|known| known.lane == end.lane) {
            Some(known) => *known = end,
            None => lanes.push(end),
        }
    }

    /// After its last word nothing more is to come. If this fails, another node does it.
    async fn close_own(&mut self) {
        if let Err(error) = self.store.close_boot(self.identity.boot()).await {
            tracing::warn!(%error, "this start of the node is not closed for good");
        }
    }

    /// `node.stopped` in every log this boot wrote to, so many in one commit as a batch has entries.
    async fn farewell(&mut self) -> Result<(), Error> {
        let tenants: Vec<TenantName> = self.announced.iter().cloned().collect();
        for tenants in tenants.chunks(FAREWELLS) {
            let (identity, end, tenants) = (Arc::clone(&self.identity), self.lane.end(), tenants.to_vec());
            let clock = self.store.clock().clone();
            let deadline = clock.now().plus(OWN_WORK);
            let work = OwnWork::new(TenantName::system(), deadline, move || {
                let now = clock.now();
                let stopped = |tenant| announcement::stopped(&identity, tenant, end.lane, end.next, now);
                Changes { entries: tenants.iter().map(stopped).map(Arc::new).collect(), ..Changes::default() }
            });
            let (reply, answer) = oneshot::channel();
            let until = tokio::time::Instant::now() + OWN_WORK;
            let job = Job {
                operation: work,
                openings: OpeningKeys::new(),
                output: None,
                reply,
                until,
                place: None,
                moved: Vec::new(),
            };
            self.commit_all(vec![Box::new(job)]).await;
            while let Some(jobs) = self.busy.next().await {
                self.commit_all(jobs).await;
            }
            match answer.await {
                Ok(Reply::Done { .. }) => {}
                Ok(Reply::Failed(error)) => return Err(error),
                _ => return Err(Error::Unavailable),
            }
        }
        Ok(())
    }
}

/// How a batch's transaction ended.
enum Transacted {
    /// With the batch's clock.
    Committed(Gathered, Timestamp),
    NotRead(Vec<Box<dyn Queued>>, Error),
    /// It moves generations on, and holds them together with others.
    Moving(Gathered),
    NotWritten(Gathered, NotWritten),
    Unknown(Gathered, sqlx::Error),
}
