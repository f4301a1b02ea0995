//! Counts of small things that would flood the log one by one: refusals of the unknown, reads of lists, frame reports.
//!
//! Bounded: beyond [`MOST`] keys everything goes into one remainder, so that nobody fills memory or log by varying.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use crate::domain::Timestamp;

/// Keys counted apart at the same time.
const MOST: usize = 1_000;

/// Counts per key, given out once per period.
#[derive(Debug)]
pub(crate) struct Tally<K> {
    period: Duration,
    remainder: K,
    counts: Mutex<HashMap<K, (Timestamp, u64)>>,
}

impl<K: Hash + Eq + Clone> Tally<K> {
    /// Counts for `period`; what is over the bound is counted under `remainder`.
    pub(crate) fn new(period: Duration, remainder: K) -> Self {
        Self { period, remainder, counts: Mutex::new(HashMap::new()) }
    }

    /// Counts one.
    pub(crate) fn add(&self, key: K, now: Timestamp) {
        self.put_back(key, 1, now);
    }

    /// Counts again what was given out and could not be recorded; it is due with the next period.
    pub(crate) fn put_back(&self, key: K, count: u64, now: Timestamp) {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = if counts.len() >= MOST && !counts.contains_key(&key) { self.remainder.clone() } else { key };
        counts.entry(key).or_insert((now, 0)).1 += count;
    }

    /// What has been counted for a whole period, or at all when the node ends.
    pub(crate) fn due(&self, now: Timestamp, ending: bool) -> Vec<(K, u64)> {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let period = self.period;
        counts.extract_if(|_, (since, _)| ending || now.since(*since) >= period).map(|(key, (_, n))| (key, n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_becomes_one_remainder() {
        let tally = Tally::new(Duration::from_secs(10), u32::MAX);
        let now = Timestamp::from_millis(0);
        for key in 0..5_000 {
            tally.add(key, now);
        }
        assert!(tally.due(now, false).is_empty());
        let due = tally.due(now.plus(Duration::from_secs(10)), false);
        assert_eq!(due.len(), MOST + 1);
        assert_eq!(due.iter().map(|(_, count)| count).sum::<u64>(), 5_000);
        assert!(tally.due(now, true).is_empty());
    }
}
