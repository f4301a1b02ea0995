//! Counts that a node keeps in memory: relaxed atomics, and nothing that allocates. A room counts in its own words; what a
//! count is called outside, and how it is written, `http/metrics` knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Timestamp;

/// How often something happened since the start.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Once more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So many so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When something was last done.
#[derive(Debug, Default)]
pub struct Moment(AtomicU64);

impl Moment {
    /// Done at this time. It never moves back.
    pub fn set(&self, at: Timestamp) {
        self.0.fetch_max(at.as_millis(), Ordering::Relaxed);
    }

    /// When; nothing if it was not done since the start.
    #[must_use]
    pub fn get(&self) -> Option<Timestamp> {
        Some(self.0.load(Ordering::Relaxed)).filter(|millis| *millis > 0).map(Timestamp::from_millis)
    }
}

/// Classes a histogram has at most, beside the one that has no bound.
const MOST_BOUNDS: usize = 14;

/// How long something took, in microseconds: from half a millisecond, which a fast commit takes, to ten seconds.
pub const TIMES: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// How many there were at once.
pub const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// How sizes or times are spread.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    classes: [AtomicU64; MOST_BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// One for [`TIMES`].
    #[must_use]
    pub fn of_times() -> Self {
        Self::new(TIMES)
    }

    /// One for [`SIZES`].
    #[must_use]
    pub fn of_sizes() -> Self {
        Self::new(SIZES)
    }

    fn new(bounds: &'static [u64]) -> Self {
        let bounds = &bounds[..bounds.len().min(MOST_BOUNDS)];
        Self { bounds, classes: Default::default(), sum: AtomicU64::new(0) }
    }

    /// One more of this size.
    pub fn observe(&self, size: u64) {
        let class = self.bounds.partition_point(|bound| *bound < size);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size, Ordering::Relaxed);
    }

    /// One more that took so long.
    pub fn took(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// For each bound, how many were not above it.
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut so_far = 0;
        self.bounds.iter().zip(&self.classes).map(move |(bound, class)| {
            so_far += class.load(Ordering::Relaxed);
            (*bound, so_far)
        })
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().map(|class| class.load(Ordering::Relaxed)).sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// Calls to something that takes its time and may fail.
#[derive(Debug)]
pub struct Calls {
    /// How long each took, the failed ones too.
    pub times: Histogram,
    /// Those that failed.
    pub failures: Counter,
}

impl Default for Calls {
    fn default() -> Self {
        Self { times: Histogram::of_times(), failures: Counter::default() }
    }
}

impl Calls {
    /// Counts a call while it is made.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn count<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = std::time::Instant::now();
        let done = call.await;
        self.times.took(began.elapsed());
        if done.is_err() {
            self.failures.inc();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_once_and_everything_below_a_bound() {
        let sizes = Histogram::of_sizes();
        for size in [1, 2, 3, 256, 9_999] {
            sizes.observe(size);
        }
        let up_to: Vec<_> = sizes.up_to().collect();
        assert_eq!(up_to[..3], [(1, 1), (2, 2), (4, 3)]);
        assert_eq!(up_to.last(), Some(&(256, 4)));
        assert_eq!((sizes.count(), sizes.sum()), (5, 10_261));
        assert!(TIMES.len() <= MOST_BOUNDS && TIMES.is_sorted() && SIZES.is_sorted());
    }

    #[test]
    fn a_moment_does_not_move_back() {
        let moment = Moment::default();
        assert_eq!(moment.get(), None);
        moment.set(Timestamp::from_millis(2_000));
        moment.set(Timestamp::from_millis(1_000));
        assert_eq!(moment.get(), Some(Timestamp::from_millis(2_000)));
    }

    #[tokio::test]
    async fn a_call_that_fails_is_counted_as_one_and_as_a_failure() {
        let calls = Calls::default();
        assert_eq!(calls.count(async { Ok::<_, ()>(7) }).await, Ok(7));
        assert_eq!(calls.count(async { Err::<(), _>("no") }).await, Err("no"));
        assert_eq!((calls.times.count(), calls.failures.get()), (2, 1));
    }
}
