//! Operations that wait for what another node holds, or has asked to hold alone. Between two tries what came meanwhile has
//! its turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::gathered::Left;
use super::queued::Queued;
use super::sorting::apart;
use super::writer::BatchWriter;
use crate::domain::TenantName;
use crate::store::fault::Fault;
use crate::store::writer::Writer;

/// So soon operations of a tenant whose generation is awaited are tried again: a change takes about as long.
const SOON: Duration = Duration::from_millis(10);
/// So often a node asks at most to have a tenant's generation alone: between two times everybody else has more than half.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// Parts of batches, each with the moment it is tried again.
#[derive(Default)]
pub(super) struct PutOff {
    parts: VecDeque<(Instant, Vec<Box<dyn Queued>>)>,
    /// Tenants whose generation this node asked for alone, and when.
    asked: BTreeMap<TenantName, Instant>,
}

/// What the writer waits for when it has nothing in its line.
pub(super) enum Until {
    /// Nothing: there is something to do.
    Now,
    /// The time of what was put off, or a message.
    At(Instant),
    /// A message.
    Message,
}

impl PutOff {
    pub(super) fn until(&self, line_is_empty: bool) -> Until {
        match self.parts.front() {
            _ if !line_is_empty => Until::Now,
            Some((at, _)) => Until::At(*at),
            None => Until::Message,
        }
    }

    /// What waits longest, once its time has come.
    pub(super) fn due(&mut self) -> Option<Vec<Box<dyn Queued>>> {
        let is_due = self.parts.front().is_some_and(|(at, _)| *at <= Instant::now());
        if is_due { self.parts.pop_front().map(|(_, jobs)| jobs) } else { None }
    }

    /// What waits longest, when its time has come.
    pub(super) async fn next(&mut self) -> Option<Vec<Box<dyn Queued>>> {
        tokio::time::sleep_until(self.parts.front()?.0).await;
        self.parts.pop_front().map(|(_, jobs)| jobs)
    }

    /// Puts operations off whose tenant's generation another node asked for.
    pub(super) fn leave(&mut self, jobs: Vec<Box<dyn Queued>>) {
        if !jobs.is_empty() {
            self.parts.push_back((Instant::now() + SOON, jobs));
        }
    }

    /// Those of these tenants that are to be asked for now.
    fn ask(&mut self, tenants: BTreeSet<TenantName>) -> BTreeSet<TenantName> {
        let now = Instant::now();
        self.asked.retain(|_, at| now.duration_since(*at) < ASKED_AGAIN);
        let asked: BTreeSet<TenantName> =
            tenants.into_iter().filter(|tenant| !self.asked.contains_key(tenant)).collect();
        self.asked.extend(asked.iter().map(|tenant| (tenant.clone(), now)));
        asked
    }
}

impl BatchWriter {
    /// A batch that was not to be had: something it needs is held elsewhere, or the engine gave up on it as too slow. Which of
    /// its operations it is nobody can know, so that they go apart and come again.
    ///
    /// What is held is waited for as long as somebody waits for the operation: waiting costs neighbours a quarter of a second
    /// each time. What is slow by itself costs them all the time there is for a statement, and would be as slow the next time:
    /// it is tried again only to tell it from its neighbours. Once it is alone it has failed.
    pub(super) async fn put_off(
        &mut self,
        jobs: Vec<Box<dyn Queued>>,
        fault: Fault,
        writer: &mut Writer<'_>,
    ) -> Result<Left, Vec<Box<dyn Queued>>> {
        if fault != Fault::Busy && (fault != Fault::Slow || jobs.len() < 2) {
            return Err(jobs);
        }
        self.store.meter().committer.retried.inc();
        if fault == Fault::Busy {
            let asked = self.busy.ask(jobs.iter().flat_map(|job| job.moving()).collect());
            if !asked.is_empty()
                && let Err(error) = writer.expect(&asked).await
            {
                tracing::debug!(%error, "that a generation is awaited could not be said");
            }
        }
        let now = Instant::now();
        self.busy.parts.extend(apart(jobs).into_iter().map(|jobs| (now, jobs)));
        Ok(Left::default())
    }

    /// Changes of settings go by themselves where there are other nodes: what a batch has for itself, its neighbours would
    /// wait for.
    pub(super) fn by_lock(&self, jobs: Vec<Box<dyn Queued>>) -> [Vec<Box<dyn Queued>>; 2] {
        if !self.store.has_others() || jobs.iter().all(|job| job.moving().is_empty()) {
            return [jobs, Vec::new()];
        }
        let (moving, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| !job.moving().is_empty());
        [moving, others]
    }
}
