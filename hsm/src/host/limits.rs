//! How long a host waits for what, and how much of it at once.

use std::time::Duration;

/// Bounds of a [`crate::Host`]. The defaults keep an answer within two seconds and a return within ten.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A call without an answer for so long: the worker is killed.
    pub call: Duration,
    /// The same for what makes keys or tries things out: making an RSA pair, probing, describing, all canaries together.
    pub manage: Duration,
    /// Starting, loading, finding the token; then logging in; then what is left until it serves: each longer, and the worker is
    /// killed. With the longest wait it bounds how long a tenant is away after a module is back that takes less for all of it: ten
    /// seconds.
    pub connect: Duration,
    /// Calls under way at once; one more is refused.
    pub in_flight: usize,
    /// Between two looks at the canaries; this also keeps idle sessions alive.
    pub canary: Duration,
    /// A token that is away and that nobody has asked for so long is looked for at the pace of the canaries from then on. A worker does not
    /// end by that: only for another that needs its place.
    pub idle: Duration,
    /// First wait after a failure; it doubles, with jitter.
    pub backoff_first: Duration,
    /// Longest wait after a failure.
    pub backoff_last: Duration,
    /// Failures within `breaker_window` that open the breaker.
    pub breaker_failures: usize,
    /// The window they are counted in.
    pub breaker_window: Duration,
}

impl Limits {
    /// How long a start takes at most that is not held up by others at its token: by then it is well, or has failed.
    #[must_use]
    pub const fn start(&self) -> Duration {
        self.connect.saturating_mul(3)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_millis(1500),
            manage: Duration::from_secs(60),
            connect: Duration::from_secs(6),
            in_flight: 32,
            canary: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            backoff_first: Duration::from_millis(100),
            backoff_last: Duration::from_secs(3),
            breaker_failures: 5,
            breaker_window: Duration::from_secs(10),
        }
    }
}
