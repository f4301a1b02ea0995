//! The purge: what has expired goes. The database says what may be over; the batch that removes it judges each value again.
//! What is over by one of the two clocks only is refused, but stays; so does what is over by its row only, and not by its newest entry that speaks of its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::operation::{Changes, Decision, Generation, Operation, Reads, Rows, current_state};
use super::{Committer, OWN_WORK, announcement};
use crate::access_log::{Action, Entry, NodeIdentity};
use crate::crypto::DataKey;
use crate::domain::{CaptureSessionId, Clock, DataKeyClass, Epoch, RetentionClass, TenantName, Timestamp, ValueId};
use crate::store::Error;

/// So many values go in one commit, which is one run of the purge: one entry for each tenant and class.
const PURGED_AT_ONCE: usize = 512;
/// So long one pass of the purge goes on with rows of requests.
const REQUESTS: Duration = Duration::from_secs(10);
/// The longest session has an hour; its row stays a little longer.
const SESSION_ROWS: Duration = Duration::from_secs(2 * 60 * 60);

impl Committer {
    /// Removes what has expired: values with one entry per run, tenant and class, then what belonged to requests, whether
    /// or not the values could go. How many rows.
    ///
    /// # Errors
    /// [`Error::Database`] and what [`Committer::submit`] refuses.
    pub async fn purge(&self) -> Result<u64, Error> {
        let values = self.purge_values().await;
        let now = self.inner.clock.surely();
        let requests = self.purge_requests(now).await;
        let keys = self.inner.store.purge_keys(&erased(now)).await;
        let (values, others) = (values?, requests? + keys?);
        self.inner.store.meter().purge.passed(others, now);
        Ok(values + others)
    }

    /// In steps, each a transaction of its own that batches of requests wait for a moment at most. More may come than one
    /// step takes: it goes on until nothing is left, or its time is over.
    async fn purge_requests(&self, now: Timestamp) -> Result<u64, Error> {
        let (began, sessions) = (Instant::now(), oldest_session(now).to_string());
        let mut gone = 0;
        loop {
            let step = self.inner.store.purge_requests(now, &sessions).await?;
            gone += step.rows;
            if !step.more {
                return Ok(gone);
            }
            if began.elapsed() > REQUESTS {
                tracing::warn!(rows = gone, "rows of requests expire faster than they are purged");
                return Ok(gone);
            }
        }
    }

    async fn purge_values(&self) -> Result<u64, Error> {
        // What stays is passed over, so that it never stands before what may go.
        let (mut gone, mut passed) = (0_u64, 0);
        loop {
            let now = self.inner.clock.surely();
            let found = self.inner.store.expired_values(now, passed, PURGED_AT_ONCE).await?;
            let seen = found.values.len() + found.unreadable;
            if found.unreadable > 0 {
                tracing::error!(rows = found.unreadable, "rows of values that expired cannot be read; they stay");
            }
            let mut tenants: BTreeMap<TenantName, Vec<ValueId>> = BTreeMap::new();
            for (tenant, value_id) in found.values {
                tenants.entry(tenant).or_default().push(value_id);
            }
            let mut removed = 0;
            for (tenant, values) in tenants {
                removed += self.purge_of(&tenant, values).await?;
            }
            gone += removed as u64;
            passed += seen.saturating_sub(removed);
            if seen < PURGED_AT_ONCE {
                return Ok(gone);
            }
        }
    }

    /// Removes those of a tenant's values whose time is over. A row that cannot be read stays, and keeps no other.
    async fn purge_of(&self, tenant: &TenantName, values: Vec<ValueId>) -> Result<usize, Error> {
        let (mut left, mut removed) = (vec![values], 0);
        while let Some(mut values) = left.pop() {
            let ends = self.inner.store.logged_ends(tenant, &values).await?;
            let purging = Purging {
                tenant: tenant.clone(),
                ends,
                deadline: self.inner.clock.now().plus(OWN_WORK),
                clock: self.inner.clock.clone(),
                identity: Arc::clone(&self.inner.identity),
                values: values.clone(),
            };
            match self.submit(purging).await {
                Ok(done) => {
                    for value_id in done.output.altered {
                        let what =
                            format!("log {tenant}: the row of value {value_id} ends otherwise than its entry says");
                        self.inner.store.log_health().alarm(&what);
                    }
                    for (class, count) in done.output.classes {
                        self.inner.store.meter().purge.values(class).add(count);
                        removed += usize::try_from(count).unwrap_or(usize::MAX);
                    }
                }
                Err(Error::Tampered(_) | Error::Unreadable(_)) if values.len() > 1 => {
                    left.push(values.split_off(values.len() / 2));
                    left.push(values);
                }
                Err(error @ (Error::Tampered(_) | Error::Unreadable(_))) => {
                    tracing::error!(%tenant, value_id = ?values, %error, "a value that expired cannot be judged; it stays");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

/// What a purge came to.
#[derive(Default)]
struct Purged {
    /// How many went, by class.
    classes: BTreeMap<RetentionClass, u64>,
    /// Those whose row and entry differ: somebody wrote into the database.
    altered: Vec<ValueId>,
}

/// Values that seemed over when they were looked for.
struct Purging {
    tenant: TenantName,
    /// When they end by the log. The seal that vouches for a row's end takes the tenant's key, which the purge does without.
    ends: BTreeMap<ValueId, Option<Timestamp>>,
    deadline: Timestamp,
    clock: Clock,
    identity: Arc<NodeIdentity>,
    values: Vec<ValueId>,
}

impl Operation for Purging {
    type Output = Purged;

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

    fn reads(&self) -> Reads {
        Reads { values: self.values.clone(), ..Reads::default() }
    }

    fn hold(&mut self, _data_key: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Self::Output> {
        let now = rows.now();
        // A purge cannot be undone.
        let surely = now.min(self.clock.surely());
        let mut purged = Purged::default();
        let mut removed = Vec::with_capacity(self.values.len());
        for value in self.values.iter().filter_map(|value_id| rows.value(*value_id)) {
            let value_id = value.row.metadata.value_id;
            // An extension that came between is acknowledged: the column the purge looks by is only a hint.
            let Some(end) = current_state(value).expires.filter(|end| *end <= surely) else { continue };
            // Whoever can write rows can delete them. That the vault destroys a value before its time takes an entry, too, that was
            // forged or taken away, which the self-check finds.
            let logged = self.ends.get(&value_id);
            if logged.is_some_and(|logged| *logged != Some(end)) {
                purged.altered.push(value_id);
            }
            // What is over by both goes, whatever was written: no alteration keeps it longer than its entry says.
            if logged.is_none_or(|logged| logged.is_some_and(|logged| logged <= surely)) {
                *purged.classes.entry(value.row.metadata.retention).or_default() += 1;
                removed.push(value_id);
            }
        }
        if removed.is_empty() {
            return Decision::Answer(purged);
        }
        let entry = |(class, count): (&RetentionClass, &u64)| Entry {
            retention: Some(*class),
            count: Some(*count),
            ..announcement::by_node(&self.identity, &self.tenant, Action::ValueExpired, now)
        };
        let entries = purged.classes.iter().map(entry).map(Arc::new).collect();
        Decision::Write(Changes { entries, removed, ..Changes::default() }, purged)
    }
}

/// The smallest id of a session that may still live: its first 48 bits are its time.
fn oldest_session(now: Timestamp) -> CaptureSessionId {
    let kept = u64::try_from(SESSION_ROWS.as_millis()).unwrap_or(u64::MAX);
    let oldest = now.as_millis().saturating_sub(kept);
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
