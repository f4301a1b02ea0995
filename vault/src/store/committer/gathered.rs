//! A batch between reading and writing: each operation decided in its turn, all their changes in one set.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::gathering;
use super::numbering::{Numbering, is_personal};
use super::operation::Changes;
use super::overlay::Overlay;
use super::queued::{Needs, Place, Queued, Verdict};
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::{TenantName, Timestamp};
use crate::keys;
use crate::store::Error;
use crate::store::batch::WriteSet;
use crate::store::row_seal::RowSeal;

/// So many entries a batch has at most, but for a single operation with more: what would come after goes into the next.
const ENTRIES: usize = 256;

/// An operation that waits for the commit.
pub(super) struct Waiting {
    pub(super) job: Box<dyn Queued>,
    pub(super) end: End,
}

/// What it will be told.
pub(super) enum End {
    Done(Vec<Place>),
    Failed(Error),
}

/// Operations that must go again: each alone, or in a later batch.
#[derive(Default)]
pub(super) struct Left {
    pub(super) split: Vec<Box<dyn Queued>>,
    pub(super) later: Vec<Box<dyn Queued>>,
}

/// A batch before its transaction.
pub(super) struct Gathered {
    pub(super) waiting: Vec<Waiting>,
    pub(super) later: Vec<Box<dyn Queued>>,
    pub(super) set: Result<WriteSet, Error>,
    pub(super) announced: BTreeSet<TenantName>,
}

impl Gathered {
    /// Decides each operation in order and numbers what they want written.
    pub(super) fn of(
        jobs: Vec<Box<dyn Queued>>,
        overlay: &mut Overlay,
        mut numbering: Numbering<'_>,
        seal: &RowSeal,
    ) -> Self {
        let mut set = WriteSet::default();
        let (mut waiting, mut later) = (Vec::new(), Vec::new());
        let mut broken = None;
        for mut job in jobs {
            if !later.is_empty() {
                later.push(job);
                continue;
            }
            let mut changes = match decide(job.as_mut(), overlay, numbering.now) {
                Decided::Write(changes) => changes,
                Decided::Back(needs) => {
                    job.back(needs);
                    continue;
                }
                Decided::Answer => {
                    waiting.push(Waiting { job, end: End::Done(Vec::new()) });
                    continue;
                }
                Decided::Failed(error) => {
                    waiting.push(Waiting { job, end: End::Failed(error) });
                    continue;
                }
            };
            // Decided for nothing: in the next batch it is decided again, on rows that are durable by then.
            if !numbering.has_room(&changes.entries, ENTRIES) {
                later.push(job);
                continue;
            }
            let mut places = Vec::with_capacity(changes.entries.len());
            for entry in &changes.entries {
                let key = job.opening_key(&entry.tenant).flatten();
                match numbering.push(entry, key.as_ref()) {
                    Ok(place) => places.push(place),
                    Err(error) => broken = Some(error),
                }
            }
            match job.numbered(&places, numbering.identity) {
                Ok(row) => changes.idempotency.extend(row),
                Err(error) => broken = Some(error),
            }
            let tenant = job.tenant().clone();
            let bumped = gathering::bumped(&changes, &tenant);
            job.moves(&bumped);
            let postponed = gathering::postponed(&changes, overlay, &tenant);
            overlay.apply(&changes, &bumped, &tenant);
            set.postponed.extend(postponed.into_iter().map(|(value_id, until)| ((tenant.clone(), value_id), until)));
            gathering::merge(*changes, bumped, &tenant, seal, &mut set);
            waiting.push(Waiting { job, end: End::Done(places) });
        }
        let announced = std::mem::take(&mut numbering.announced);
        let set = match (broken, numbering.sign()) {
            (None, Ok((rows, batch))) => {
                (set.entries, set.batch) = (rows, batch);
                Ok(set)
            }
            (Some(error), _) | (None, Err(error)) => Err(error),
        };
        Self { waiting, later, set, announced }
    }

    /// The operations as they came, to be decided anew.
    pub(super) fn into_jobs(self) -> Vec<Box<dyn Queued>> {
        self.waiting.into_iter().map(|waiting| waiting.job).chain(self.later).collect()
    }

    /// Nothing was written: a row's fault sends neighbours into transactions of their own, any other fails them all.
    pub(super) fn failed(self, own_row: bool, alone: Error) -> Left {
        let mut jobs: Vec<Box<dyn Queued>> = Vec::with_capacity(self.waiting.len());
        let mut verdicts = Vec::with_capacity(self.waiting.len());
        for Waiting { job, end } in self.waiting {
            jobs.push(job);
            verdicts.push(end);
        }
        if !own_row {
            fail_all(jobs, &Error::Unavailable);
            return Left::default();
        }
        if jobs.len() > 1 {
            return Left { split: jobs, later: Vec::new() };
        }
        let error = match (verdicts.pop(), self.set) {
            (Some(End::Failed(error)), _) | (_, Err(error)) => error,
            _ => alone,
        };
        if let Some(job) = jobs.pop() {
            job.fail(error);
        }
        Left::default()
    }
}

enum Decided {
    Write(Box<Changes>),
    Answer,
    Back(Needs),
    Failed(Error),
}

/// One operation's decision, held to the rules of the store.
fn decide(job: &mut dyn Queued, overlay: &Overlay, now: Timestamp) -> Decided {
    let tenant = job.tenant().clone();
    if job.generation().is_some_and(|generation| generation != overlay.generation(&tenant)) {
        return Decided::Failed(Error::Stale);
    }
    if let Some(error) = overlay.refusal(&job.reads(), &tenant) {
        return Decided::Failed(error);
    }
    if let Some(error) = job.asker().and_then(|asker| overlay.judge(&asker, &tenant).err()) {
        return Decided::Failed(error);
    }
    let changes = match job.decide(&overlay.view(&tenant)) {
        Verdict::Write(changes) => changes,
        Verdict::Answer => return Decided::Answer,
        Verdict::Need(data_keys) => return Decided::Back(Needs { data_keys, opening_keys: Vec::new() }),
        Verdict::Panicked => return Decided::Failed(Error::Rule("a decision panicked")),
    };
    let lacks = |entry: &&Arc<Entry>| is_personal(entry) && job.opening_key(&entry.tenant).is_none();
    let mut opening_keys: Vec<TenantName> =
        changes.entries.iter().filter(lacks).map(|entry| entry.tenant.clone()).collect();
    if !opening_keys.is_empty() {
        opening_keys.dedup();
        return Decided::Back(Needs { data_keys: Vec::new(), opening_keys });
    }
    let mute = |entry: &Entry| is_personal(entry) && job.opening_key(&entry.tenant).flatten().is_none();
    if changes.entries.iter().any(|entry| is_access(entry) && mute(entry)) {
        return Decided::Failed(Error::Keys(keys::Error::KekUnusable));
    }
    match gathering::check(&changes, overlay, now, &tenant) {
        Ok(()) => Decided::Write(changes),
        Err(error) => Decided::Failed(error),
    }
}

/// Whether the entry allows something to be done with a value: then who asked must be kept with it. A refusal, and what is
/// over already (what a run's destination gave back, too), is told as well as it can be.
fn is_access(entry: &Entry) -> bool {
    use Action::{RelayIntent, ValueCaptured, ValueDeleted, ValueDereferenced, ValueExtended, ValueRevealed};
    let uses = matches!(
        entry.action,
        ValueCaptured | ValueDereferenced | ValueRevealed | ValueDeleted | ValueExtended | RelayIntent
    );
    let given_back = entry.action == ValueCaptured && entry.run_id.is_some();
    uses && !given_back && entry.outcome == Outcome::Allowed
}

/// One answer for all: nothing of them happened.
pub(super) fn fail_all(jobs: Vec<Box<dyn Queued>>, error: &Error) {
    for job in jobs {
        job.fail(match error {
            Error::Poisoned => Error::Poisoned,
            Error::Closed => Error::Closed,
            _ => Error::Unavailable,
        });
    }
}
