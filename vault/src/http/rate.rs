//! How often somebody may ask: per address on the public listener, per credential on the private one.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::problem::{Code, Problem};
use crate::domain::CredentialId;

/// How often, in the words of the settings.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Captures of one address in a minute.
    pub captures_per_minute: u32,
    /// Sessions that one address opens by itself (apps of mode `open`) in a minute.
    pub open_sessions_per_minute: u32,
    /// Other public requests of one address in a second.
    pub requests_per_second: u32,
    /// Requests of one credential in a second.
    pub credential_per_second: u32,
    /// Whether loopback is let through up to 10,000 requests a second, whatever the rest says.
    pub loopback_free: bool,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            captures_per_minute: 300,
            open_sessions_per_minute: 60,
            requests_per_second: 100,
            credential_per_second: 2_000,
            loopback_free: false,
        }
    }
}

/// What is limited per address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    /// Capturing values.
    Capturing,
    /// Opening a session without a server.
    Opening,
    /// Anything else.
    Asking,
}

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock>;

/// The limiters of one node.
pub(crate) struct Limits {
    addresses: [(Doing, Limiter<IpAddr>); 3],
    credentials: Limiter<CredentialId>,
    loopback: Option<Limiter<()>>,
}

impl Limits {
    pub(crate) fn new(rates: &Rates) -> Self {
        let minute = |n: u32| Quota::per_minute(at_least_one(n));
        let second = |n: u32| Quota::per_second(at_least_one(n));
        Self {
            addresses: [
                (Doing::Capturing, RateLimiter::dashmap(minute(rates.captures_per_minute))),
                (Doing::Opening, RateLimiter::dashmap(minute(rates.open_sessions_per_minute))),
                (Doing::Asking, RateLimiter::dashmap(second(rates.requests_per_second))),
            ],
            credentials: RateLimiter::dashmap(second(rates.credential_per_second)),
            loopback: rates.loopback_free.then(|| RateLimiter::dashmap(second(10_000))),
        }
    }

    /// Counts one request of an address.
    ///
    /// # Errors
    /// `rate.limited` with the time to wait.
    pub(crate) fn address(&self, address: IpAddr, doing: Doing) -> Result<(), Problem> {
        if let (true, Some(loopback)) = (address.to_canonical().is_loopback(), &self.loopback) {
            return held(loopback.check_key(&()));
        }
        let network = network(address);
        let limiter = self.addresses.iter().find(|(what, _)| *what == doing);
        limiter.map_or(Ok(()), |(_, limiter)| held(limiter.check_key(&network)))
    }

    /// Counts one request of a credential.
    ///
    /// # Errors
    /// `rate.limited` with the time to wait.
    pub(crate) fn credential(&self, credential_id: CredentialId, address: IpAddr) -> Result<(), Problem> {
        if let (true, Some(loopback)) = (address.to_canonical().is_loopback(), &self.loopback) {
            return held(loopback.check_key(&()));
        }
        held(self.credentials.check_key(&credential_id))
    }

    /// Forgets who has not asked for a while.
    pub(crate) fn forget(&self) {
        for (_, limiter) in &self.addresses {
            limiter.retain_recent();
        }
        self.credentials.retain_recent();
    }
}

fn held(
    checked: Result<(), governor::NotUntil<<DefaultClock as governor::clock::Clock>::Instant>>,
) -> Result<(), Problem> {
    checked.map_err(|until| {
        let wait: Duration = until.wait_time_from(DefaultClock::default().now());
        Problem::new(Code::RateLimited).retry_after(wait.as_secs().saturating_add(1))
    })
}

/// One customer of an access provider: an address, or a /64 of IPv6 (RFC 6177).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_of_one_address_are_limited_and_others_are_not() {
        let limits = Limits::new(&Rates { captures_per_minute: 5, ..Rates::default() });
        let (one, other): (IpAddr, IpAddr) = ([203, 0, 113, 1].into(), [203, 0, 113, 2].into());
        for _ in 0..5 {
            assert!(limits.address(one, Doing::Capturing).is_ok());
        }
        assert_eq!(limits.address(one, Doing::Capturing).unwrap_err().code(), Code::RateLimited);
        assert!(limits.address(other, Doing::Capturing).is_ok());
        assert!(limits.address(one, Doing::Asking).is_ok());
    }

    #[test]
    fn a_developer_on_loopback_is_free_up_to_five_thousand_a_second() {
        let limits = Limits::new(&Rates { loopback_free: true, captures_per_minute: 1, ..Rates::default() });
        for _ in 0..5_000 {
            assert!(limits.address([127, 0, 0, 1].into(), Doing::Capturing).is_ok());
        }
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_their_allowance() {
        let network_of = |text: &str| network(text.parse().unwrap());
        assert_eq!(network_of("2001:db8::1"), network_of("2001:db8::ffff:1"));
        assert_ne!(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"));
        assert_eq!(network_of("::ffff:203.0.113.7"), network_of("203.0.113.7"));
    }
}
