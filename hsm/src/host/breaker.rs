//! Opens after a number of failures within a window. What closes it again is the canary; this only counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Breaker {
    most: usize,
    window: Duration,
    failures: VecDeque<Instant>,
}

impl Breaker {
    pub(super) fn new(most: usize, window: Duration) -> Self {
        Self { most: most.max(1), window, failures: VecDeque::new() }
    }

    /// Counts a failure; true if there are now too many.
    pub(super) fn fail(&mut self, now: Instant) -> bool {
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|first| now.duration_since(*first) > self.window) {
            self.failures.pop_front();
        }
        self.failures.len() >= self.most
    }

    pub(super) fn close(&mut self) {
        self.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_the_fifth_failure_within_ten_seconds_and_not_at_one_a_minute() {
        let start = Instant::now();
        let mut breaker = Breaker::new(5, Duration::from_secs(10));
        let opened: Vec<bool> = (0..6).map(|second| breaker.fail(start + Duration::from_secs(second))).collect();
        assert_eq!(opened, [false, false, false, false, true, true]);
        breaker.close();
        assert!((0..9).all(|minute| !breaker.fail(start + Duration::from_secs(60 * minute))));
    }
}
