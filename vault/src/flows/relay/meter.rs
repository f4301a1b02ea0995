//! What the relay counts: requests to destinations and how they ended.

use crate::domain::meter::{Counter, Histogram};
use crate::flows::error::Error;

/// The counts of a node's relay.
#[derive(Debug)]
pub struct Meter {
    /// How long a request to a destination took, however it ended.
    pub times: Histogram,
    answered: Counter,
    denied: Counter,
    timed_out: Counter,
    failed: Counter,
}

impl Default for Meter {
    fn default() -> Self {
        let none = Counter::default;
        Self { times: Histogram::of_times(), answered: none(), denied: none(), timed_out: none(), failed: none() }
    }
}

impl Meter {
    /// Counts how a request ended; its class.
    pub(super) fn ended<T>(&self, outcome: &Result<T, Error>) -> &'static str {
        let (count, class) = match outcome {
            Ok(_) => (&self.answered, "answered"),
            Err(Error::DestinationDenied(_)) => (&self.denied, "denied"),
            Err(Error::DestinationTimeout) => (&self.timed_out, "timeout"),
            Err(_) => (&self.failed, "failed"),
        };
        count.inc();
        class
    }

    /// Each way a request can end, with its count.
    #[must_use]
    pub fn outcomes(&self) -> [(&'static str, u64); 4] {
        [
            ("answered", self.answered.get()),
            ("denied", self.denied.get()),
            ("timeout", self.timed_out.get()),
            ("failed", self.failed.get()),
        ]
    }
}
