//! How long to wait before the next attempt: doubling, with jitter, up to a bound. It knows no clock.

use std::time::Duration;

/// A doubling wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, failures: 0 }
    }

    /// Counts a failure; how long to wait now. Half to all of the doubled time, so that nodes do not come back together.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.last);
        self.failures = (self.failures + 1).min(31);
        let mut random = [0; 1];
        // Without randomness nodes may come back together, which is no reason not to come back.
        let _ = getrandom::fill(&mut random);
        doubled / 2 + doubled / 2 * u32::from(random[0]) / 255
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_begin_anew_after_a_success() {
        let (first, last) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, last);
        let mut wait = first;
        for _ in 0..40 {
            let got = backoff.after_failure();
            assert!(wait / 2 <= got && got <= wait, "{got:?} of {wait:?}");
            wait = (wait * 2).min(last);
        }
        backoff.reset();
        assert!(backoff.after_failure() <= first);
    }
}
