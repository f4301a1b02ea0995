//! How often a value may be compared: `equals` says yes or no, so whoever may ask without end learns the value.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::{Timestamp, ValueId};

/// So many comparisons of one value within the window.
const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Beyond so many values, those whose window is over are forgotten, which looks at all of them:
const TIDY: usize = 4096;
/// so no more often than this.
const TIDIED: Duration = Duration::from_secs(1);

/// Counts of this node.
#[derive(Default)]
pub(super) struct Comparisons {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    of: HashMap<ValueId, (Timestamp, u32)>,
    tidied: Option<Timestamp>,
}

impl Counts {
    fn tidy(&mut self, now: Timestamp) {
        if self.of.len() > TIDY && self.tidied.is_none_or(|at| now.since(at) >= TIDIED) {
            self.of.retain(|_, (since, _)| now.since(*since) < WINDOW);
            self.tidied = Some(now);
        }
    }
}

impl Comparisons {
    /// Counts one comparison; false if it is one too many.
    pub(super) fn admit(&self, value_id: ValueId, now: Timestamp) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.tidy(now);
        let count = counts.of.entry(value_id).or_insert((now, 0));
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
    #[test]
    fn what_is_over_is_forgotten_at_most_once_a_second() {
        let (comparisons, start) = (Comparisons::default(), Timestamp::from_millis(1_000));
        let compare = |count: usize, now: Timestamp| {
            (0..count).for_each(|_| assert!(comparisons.admit(ValueId::generate(now), now)));
            comparisons.counts.lock().unwrap().of.len()
        };
        assert_eq!(compare(TIDY + 2, start), TIDY + 2, "nothing of it is over");
        let over = start.plus(WINDOW);
        assert_eq!(compare(TIDY + 2, over), TIDY + 2, "what was over went");
        let late = over.plus(WINDOW);
        comparisons.counts.lock().unwrap().tidied = Some(late);
        assert_eq!(compare(1, late.plus(TIDIED / 2)), TIDY + 3, "not so soon again");
        assert_eq!(compare(1, late.plus(TIDIED)), 2, "but a second later");
    }
}
