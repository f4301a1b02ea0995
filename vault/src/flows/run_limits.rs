//! How often a value may be compared: `equals` says yes or no, so whoever may ask without end learns the value.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::{Timestamp, ValueId};

/// So many comparisons of one value within the window.
const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Beyond so many values, those whose window is over are forgotten.
const TIDY: usize = 4096;

/// Counts of this node.
#[derive(Default)]
pub(super) struct Comparisons {
    counts: Mutex<HashMap<ValueId, (Timestamp, u32)>>,
}

impl Comparisons {
    /// Counts one comparison; false if it is one too many.
    pub(super) fn admit(&self, value_id: ValueId, now: Timestamp) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() > TIDY {
            counts.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        let count = counts.entry(value_id).or_insert((now, 0));
        if now.since(count.0) >= WINDOW {
            *count = (now, 0);
        }
        count.1 = count.1.saturating_add(1);
        count.1 <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_compared_ten_times_a_minute() {
        let (comparisons, start) = (Comparisons::default(), Timestamp::from_millis(1_000));
        let (one, other) = (ValueId::generate(start), ValueId::generate(start));
        assert_eq!((0..12).filter(|_| comparisons.admit(one, start)).count(), 10);
        assert!(comparisons.admit(other, start));
        assert!(comparisons.admit(one, start.plus(WINDOW)));
    }
}
