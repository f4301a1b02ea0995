//! What a node does by the clock: heartbeats, the purge of what expired, the end of erasure keys, wiping of idle keys.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::own_work::OwnWork;
use super::{Committer, Inner, OWN_WORK, announcement};
use crate::access_log::Action;
use crate::domain::{CaptureSessionId, DataKeyClass, Epoch, RetentionClass, TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::committer::operation::Changes;

/// Idle keys are wiped each second; the other work comes each so many seconds.
const TICK: Duration = Duration::from_secs(1);
const HEARTBEAT: u64 = 5;
const PURGE: u64 = 20;
const ERASURE: u64 = 60;
/// So many values go in one commit.
const PURGED_AT_ONCE: usize = 512;
/// The longest session has an hour; its row stays a little longer.
const SESSION_ROWS: Duration = Duration::from_secs(2 * 60 * 60);
/// A capture key's private half opens for 25 hours and 5 minutes from the start of its day.
const CAPTURE_KEY_ROWS: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Works as long as somebody holds the committer.
pub(super) fn spawn(committer: &Committer) {
    let weak = Arc::downgrade(&committer.inner);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 1_u64.. {
            ticks.tick().await;
            let Some(committer) = alive(&weak) else { return };
            committer.inner.keys.wipe_idle();
            if tick.is_multiple_of(HEARTBEAT) {
                told("the heartbeat", committer.beat().await);
            }
            if tick.is_multiple_of(PURGE) {
                told("the purge", committer.purge().await.map(|_| ()));
            }
            if tick.is_multiple_of(ERASURE) {
                let now = committer.inner.clock.now();
                let done = committer.inner.keys.destroy_due_erasure_keys(now).await;
                told("the end of erasure keys", done.map(|_| ()).map_err(Error::from));
            }
        }
    });
}

/// The committer, unless it is stopped or dropped.
fn alive(weak: &Weak<Inner>) -> Option<Committer> {
    weak.upgrade().filter(|inner| !inner.queue.is_closed()).map(|inner| Committer { inner })
}

fn told(what: &str, done: Result<(), Error>) {
    if let Err(error) = done {
        tracing::warn!(%error, "{what} did not succeed and is tried again");
    }
}

impl Committer {
    /// Writes a signed sign of life: how far the boot's lanes must be there.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn beat(&self) -> Result<(), Error> {
        let lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heartbeat = self.inner.identity.heartbeat(self.inner.clock.now(), lanes);
        self.inner.store.write_heartbeat(&heartbeat).await
    }

    /// Removes what has expired: values with one entry per tenant and class, then what belonged to requests. How many rows.
    ///
    /// # Errors
    /// [`Error::Database`] and what [`Committer::submit`] refuses.
    pub async fn purge(&self) -> Result<u64, Error> {
        let mut gone = 0;
        loop {
            let now = self.inner.clock.now();
            let expired = self.inner.store.expired_values(now, PURGED_AT_ONCE).await?;
            let full = expired.len() == PURGED_AT_ONCE;
            gone += expired.len() as u64;
            self.purge_values(expired, now).await?;
            if !full {
                break;
            }
        }
        let now = self.inner.clock.now();
        let sessions = oldest_session(now).to_string();
        let capture_keys = Timestamp::from_millis(now.as_millis().saturating_sub(millis(CAPTURE_KEY_ROWS)));
        Ok(gone + self.inner.store.purge_requests(now, &sessions, capture_keys, &erased(now)).await?)
    }

    async fn purge_values(
        &self,
        expired: Vec<(TenantName, ValueId, RetentionClass)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut tenants: BTreeMap<TenantName, BTreeMap<RetentionClass, Vec<ValueId>>> = BTreeMap::new();
        for (tenant, value_id, class) in expired {
            tenants.entry(tenant).or_default().entry(class).or_default().push(value_id);
        }
        for (tenant, classes) in tenants {
            let (identity, owner) = (Arc::clone(&self.inner.identity), tenant.clone());
            let work = OwnWork::new(tenant, now.plus(OWN_WORK), move || {
                let entry = |(class, values): (&RetentionClass, &Vec<ValueId>)| {
                    let mut entry = announcement::by_node(&identity, &owner, Action::ValueExpired, now);
                    entry.retention = Some(*class);
                    entry.count = Some(values.len() as u64);
                    entry
                };
                Changes {
                    entries: classes.iter().map(entry).collect(),
                    removed: classes.values().flatten().copied().collect(),
                    ..Changes::default()
                }
            });
            self.submit(work).await?;
        }
        Ok(())
    }
}

/// The smallest id of a session that may still live: its first 48 bits are its time.
fn oldest_session(now: Timestamp) -> CaptureSessionId {
    let oldest = now.as_millis().saturating_sub(millis(SESSION_ROWS));
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&oldest.to_be_bytes()[2..]);
    CaptureSessionId::from_bytes(bytes)
}

/// For each class with erasure keys, the newest epoch whose key is gone.
fn erased(now: Timestamp) -> Vec<(DataKeyClass, Epoch)> {
    let newest = |class: DataKeyClass| {
        let mut epoch = class.epoch(now);
        while class.erased_at(epoch)? > now {
            epoch = Epoch(epoch.0.checked_sub(1)?);
        }
        Some((class, epoch))
    };
    DataKeyClass::ALL.into_iter().filter_map(newest).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_erased_epoch_is_the_last_whose_time_is_over() {
        let now = Timestamp::from_millis(1_795_489_236_007);
        for (class, epoch) in erased(now) {
            assert!(class.erased_at(epoch).is_some_and(|gone| gone <= now));
            assert!(class.erased_at(Epoch(epoch.0 + 1)).is_some_and(|gone| gone > now));
        }
        assert_eq!(erased(now).len(), 6);
    }

    #[test]
    fn an_older_session_sorts_before_the_oldest_that_may_live() {
        let now = Timestamp::from_millis(1_795_489_236_007);
        let old = CaptureSessionId::generate(Timestamp::from_millis(now.as_millis() - 3 * 3_600_000));
        let young = CaptureSessionId::generate(Timestamp::from_millis(now.as_millis() - 3_600_000));
        assert!(
            old.to_string() < oldest_session(now).to_string() && oldest_session(now).to_string() < young.to_string()
        );
    }
}
