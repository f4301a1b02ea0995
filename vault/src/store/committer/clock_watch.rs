//! A machine's clock that is wrong: seen, recorded once, and of no effect on what is over.

use std::sync::atomic::Ordering;

use super::own_work::OwnWork;
use super::{Committer, OWN_WORK, announcement};
use crate::access_log::{Action, Outcome};
use crate::domain::TenantName;
use crate::store::Error;
use crate::store::committer::operation::Changes;

/// A machine's clock may be off by so much, in milliseconds.
const TOLERATED: i64 = 5_000;

impl Committer {
    /// Records that the machine's clock is not the one that counts, once until it is right again: another than the
    /// database's, or set back while the node runs.
    pub(super) async fn watch_clock(&self) -> Result<(), Error> {
        let behind = self.inner.clock.machine_is_behind();
        if behind.abs() < TOLERATED {
            self.inner.clock_told.store(false, Ordering::Release);
        } else if !self.inner.clock_told.swap(true, Ordering::AcqRel) {
            self.record_clock("machineBehindMilliseconds", behind).await?;
        }
        Ok(())
    }

    /// At the start: signs of life that are of a later time than it is now. The clock was set back while no node ran, or
    /// was ahead before: what was captured then lives longer by as much.
    pub(super) async fn compare_with_signs_of_life(&self) -> Result<(), Error> {
        let (now, beats) = (self.inner.clock.now(), self.inner.store.heartbeats().await?);
        let latest = beats.iter().map(|beat| beat.time).max();
        let behind = latest.map_or(0, |latest| i64::try_from(latest.since(now).as_millis()).unwrap_or(i64::MAX));
        if behind >= TOLERATED {
            self.record_clock("behindLastSignOfLifeMilliseconds", behind).await?;
        }
        Ok(())
    }

    async fn record_clock(&self, fact: &'static str, milliseconds: i64) -> Result<(), Error> {
        tracing::error!(milliseconds, fact, "the clock is wrong: look after its synchronisation");
        let now = self.inner.clock.now();
        let act = Action::Admin("clock.skewed");
        let mut entry = announcement::by_node(&self.inner.identity, &TenantName::system(), act, now);
        entry.outcome = Outcome::Failed;
        entry.facts.push((fact, milliseconds.to_string()));
        let work = OwnWork::new(TenantName::system(), now.plus(OWN_WORK), move || Changes {
            entries: vec![entry.clone().into()],
            ..Changes::default()
        });
        self.submit(work).await.map(|_| ())
    }
}
