//! Passphrases that were refused while a node is sealed: who has to wait how long, and what the log is told afterwards.
//!
//! Before the root key is here no credential can be checked. What stands between a stranger on the private network and the
//! passphrase is its length, the cost of one try (Argon2id), one try at a time, and this.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::problem::{Code, Problem};
use super::rate::network;
use crate::domain::Timestamp;

/// Networks whose refusals are remembered; of more, the one that was refused longest ago is forgotten, so that nobody's wait is a
/// stranger's doing.
const NETWORKS: usize = 256;
/// Networks that wait for their turn at once, each with one try.
const WAITING: usize = 32;
/// The longest wait after a refusal. It doubles from a second on.
const LONGEST: Duration = Duration::from_secs(60);

/// Refused tries from one network (an address, or a /64 of IPv6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedTries {
    /// From where; `::` stands for all that were too many to remember.
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
pub(super) struct Tries {
    known: Mutex<Known>,
    waiting: Mutex<HashSet<IpAddr>>,
}

#[derive(Debug, Default)]
struct Known {
    networks: HashMap<IpAddr, (RefusedTries, Instant)>,
    forgotten: Option<RefusedTries>,
}

/// A network's place among those that wait for their turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Waits<'t> {
    tries: &'t Tries,
    network: IpAddr,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.tries.waiting().remove(&self.network);
    }
}

impl Tries {
    /// Whether somebody may try now.
    ///
    /// # Errors
    /// `rate.limited` with the time to wait.
    pub(super) fn admit(&self, address: IpAddr, at: Instant) -> Result<(), Problem> {
        let left = self.known().networks.get(&network(address)).map(|(_, until)| until.saturating_duration_since(at));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => Err(Problem::new(Code::RateLimited).retry_after(left.as_secs().saturating_add(1))),
        }
    }

    /// A place in the line. A network has one at a time, so whoever sends many tries holds up no other for longer than one.
    ///
    /// # Errors
    /// `rate.limited`.
    pub(super) fn line_up(&self, address: IpAddr) -> Result<Waits<'_>, Problem> {
        let (network, mut waiting) = (network(address), self.waiting());
        if waiting.len() >= WAITING || !waiting.insert(network) {
            return Err(Problem::new(Code::RateLimited).retry_after(1));
        }
        Ok(Waits { tries: self, network })
    }

    /// Notes a refusal; how many there were from there.
    pub(super) fn refuse(&self, address: IpAddr, (at, now): (Instant, Timestamp)) -> u64 {
        let mut known = self.known();
        let from = network(address);
        if !known.networks.contains_key(&from) && known.networks.len() >= NETWORKS {
            known.forget_one();
        }
        let none = || (RefusedTries { from, count: 0, first: now, last: now }, at);
        let (tries, until) = known.networks.entry(from).or_insert_with(none);
        tries.count = tries.count.saturating_add(1);
        tries.last = now;
        let doubled = 1_u64.checked_shl(u32::try_from(tries.count - 1).unwrap_or(u32::MAX)).filter(|wait| *wait > 0);
        *until = at + doubled.map_or(LONGEST, Duration::from_secs).min(LONGEST);
        tries.count
    }

    /// What there was, by network.
    pub(super) fn refused(&self) -> Vec<RefusedTries> {
        let known = self.known();
        let mut all: Vec<_> = known.networks.values().map(|(tries, _)| *tries).chain(known.forgotten).collect();
        drop(known);
        all.sort_by_key(|tries| tries.first);
        all
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<IpAddr>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets the network that was refused longest ago; the log still has its tries in a sum.
    fn forget_one(&mut self) {
        let oldest = self.networks.values().min_by_key(|(_, until)| *until).map(|(tries, _)| tries.from);
        let Some((gone, _)) = oldest.and_then(|oldest| self.networks.remove(&oldest)) else { return };
        let from = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let sum = self.forgotten.get_or_insert(RefusedTries { from, count: 0, first: gone.first, last: gone.last });
        sum.count = sum.count.saturating_add(gone.count);
        (sum.first, sum.last) = (sum.first.min(gone.first), sum.last.max(gone.last));
    }
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
    fn a_flood_of_addresses_takes_bounded_memory_and_keeps_nobody_else_from_trying() {
        let (tries, at) = (Tries::default(), Instant::now());
        for number in 0..1_000_u16 {
            let [high, low] = number.to_be_bytes();
            tries.refuse(IpAddr::from([10, 1, high, low]), (at, NOW));
        }
        let refused = tries.refused();
        assert_eq!((refused.len(), refused.iter().map(|tries| tries.count).sum::<u64>()), (NETWORKS + 1, 1_000));
        assert!(tries.admit(IpAddr::from([192, 0, 2, 1]), at).is_ok(), "one more of too many");
        assert!(tries.admit(IpAddr::from([10, 1, 3, 231]), at).is_err(), "who was refused just now");
    }

    #[test]
    fn a_network_waits_in_the_line_once_and_gives_its_place_back() {
        let tries = Tries::default();
        let address = |number: u8| IpAddr::from([10, 0, 0, number]);
        let first = tries.line_up(address(0)).unwrap();
        assert!(tries.line_up(address(0)).is_err());
        let more: Vec<_> = (1..=40).filter_map(|number| tries.line_up(address(number)).ok()).collect();
        assert_eq!(more.len(), WAITING - 1);
        drop(first);
        assert!(tries.line_up(address(0)).is_ok());
    }
}
