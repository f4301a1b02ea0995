//! Passphrases that were refused while a node is sealed: who has to wait how long, and what the log is told afterwards.
//!
//! Before the root key is here no credential can be checked. What stands between a stranger on the private network and the
//! passphrase is its length, the cost of one try (Argon2id), one try at a time, and this.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::problem::{Code, Problem};
use super::rate::network;
use crate::domain::Timestamp;

/// Networks that are told apart; all further ones together wait as one.
const NETWORKS: usize = 256;
/// The longest wait after a refusal. It doubles from a second on.
const LONGEST: Duration = Duration::from_secs(60);

/// Refused tries from one network (an address, or a /64 of IPv6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedTries {
    /// From where; `::` stands for all that were too many to tell apart.
    pub from: IpAddr,
    /// How many.
    pub count: u64,
    /// When the first one was.
    pub first: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
}

/// All that were refused since the node's start.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<HashMap<IpAddr, (RefusedTries, Instant)>>);

impl Tries {
    /// Whether somebody may try now.
    ///
    /// # Errors
    /// `rate.limited` with the time to wait.
    pub(super) fn admit(&self, address: IpAddr, at: Instant) -> Result<(), Problem> {
        let known = self.known();
        let left = known.get(&place(&known, address)).map(|(_, until)| until.saturating_duration_since(at));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Problem::new(Code::RateLimited).retry_after(left.as_secs().saturating_add(1))),
        }
    }

    /// Notes a refusal; how many there were from there.
    pub(super) fn refuse(&self, address: IpAddr, (at, now): (Instant, Timestamp)) -> u64 {
        let mut known = self.known();
        let from = place(&known, address);
        let none = || (RefusedTries { from, count: 0, first: now, last: now }, at);
        let (tries, until) = known.entry(from).or_insert_with(none);
        tries.count = tries.count.saturating_add(1);
        tries.last = now;
        let doubled = 1_u64.checked_shl(u32::try_from(tries.count - 1).unwrap_or(u32::MAX)).filter(|wait| *wait > 0);
        *until = at + doubled.map_or(LONGEST, Duration::from_secs).min(LONGEST);
        tries.count
    }

    /// What there was, by network.
    pub(super) fn refused(&self) -> Vec<RefusedTries> {
        let mut all: Vec<_> = self.known().values().map(|(tries, _)| *tries).collect();
        all.sort_by_key(|tries| tries.first);
        all
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, (RefusedTries, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(known: &HashMap<IpAddr, (RefusedTries, Instant)>, address: IpAddr) -> IpAddr {
    let network = network(address);
    if known.contains_key(&network) || known.len() < NETWORKS {
        return network;
    }
    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

    #[test]
    fn who_was_refused_waits_twice_as_long_each_time_and_nobody_else_does() {
        let (tries, one, other) = (Tries::default(), IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut at = Instant::now();
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(tries.admit(one, at).is_ok());
            tries.refuse(one, (at, NOW));
            assert!(tries.admit(other, at).is_ok());
            assert!(tries.admit(one, at + Duration::from_millis(wait * 1000 - 1)).is_err(), "{wait}");
            at += Duration::from_secs(wait);
        }
        assert_eq!(tries.refused(), [RefusedTries { from: one, count: 8, first: NOW, last: NOW }]);
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory_and_waits_as_one() {
        let (tries, at) = (Tries::default(), Instant::now());
        for number in 0..1_000_u16 {
            let [high, low] = number.to_be_bytes();
            tries.refuse(IpAddr::from([10, 1, high, low]), (at, NOW));
        }
        let refused = tries.refused();
        assert_eq!((refused.len(), refused.iter().map(|tries| tries.count).sum::<u64>()), (NETWORKS + 1, 1_000));
        assert!(tries.admit(IpAddr::from([192, 0, 2, 1]), at).is_err(), "one more of too many");
    }
}
