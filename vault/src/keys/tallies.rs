//! How much this start of the node sealed under each data key: one that sealed much seals nothing new any more, and another is
//! begun beside it (docs/formats.md section 2).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DataKeyRow;
use crate::crypto::DataKey;
use crate::domain::{DataKeyClass, DataKeyId, Epoch, Timestamp};

/// So much a start of a node seals under one data key. It knows nothing of what others do: 64 of them reach the bound of 2^32,
/// and each takes a later data key as soon as it opens one anew, which is after five minutes at most.
const MOST: u64 = 1 << 26;

/// The counts.
pub(super) struct Tallies {
    most: AtomicU64,
    counts: Mutex<HashMap<DataKeyId, Tally>>,
}

struct Tally {
    seals: Arc<AtomicU64>,
    class: DataKeyClass,
    epoch: Epoch,
}

impl Tallies {
    pub(super) fn new() -> Self {
        Self { most: AtomicU64::new(MOST), counts: Mutex::default() }
    }

    /// The count that an opened data key goes on with.
    pub(super) fn of(&self, row: &DataKeyRow) -> Arc<AtomicU64> {
        let new = || Tally { seals: Arc::default(), class: row.class, epoch: row.epoch };
        Arc::clone(&self.counts().entry(row.data_key_id).or_insert_with(new).seals)
    }

    /// Whether it sealed so much that another is to be begun.
    pub(super) fn is_spent(&self, key: &DataKey) -> bool {
        key.seals() >= self.most.load(Ordering::Relaxed)
    }

    /// The same of one that is not opened.
    pub(super) fn is_spent_by(&self, id: DataKeyId) -> bool {
        let seals = self.counts().get(&id).map_or(0, |tally| tally.seals.load(Ordering::Relaxed));
        seals >= self.most.load(Ordering::Relaxed)
    }

    /// Forgets what can seal nothing new: nobody has it open, and it sealed nothing or its epoch is over.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.counts().retain(|_, Tally { seals, class, epoch }| {
            let is_current = class.epoch(now).0 <= epoch.0.saturating_add(1);
            Arc::strong_count(seals) > 1 || (is_current && seals.load(Ordering::Relaxed) > 0)
        });
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<DataKeyId, Tally>> {
        // Each change of the map is one call.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another bound, for tests.
    #[cfg(test)]
    pub(super) fn seal_at_most(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }
}
