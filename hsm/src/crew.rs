//! How many workers run at once, of all hosts together. Each is a process with a module's memory in it, a megabyte or many; a thousand
//! tenants need theirs a few times a minute.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::host::Shared;

/// The bound that the hosts of one [`crate::Launch`] share. A host that needs a worker while as many run ends the one that was idle
/// longest.
#[derive(Debug)]
pub struct Crew {
    most: usize,
    roll: Mutex<Roll>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Roll {
    /// Processes that were started and are not reaped.
    here: usize,
    /// Of those, ones of hosts that failed and have not been well since.
    unproven: usize,
    /// Who waits for a place.
    waiting: usize,
    /// Since when workers that were ended for another are on their way out.
    leaving: Vec<Instant>,
    hosts: Vec<Weak<Shared>>,
}

/// The right of one worker to run. Given back once its process is reaped.
#[derive(Debug)]
pub(crate) struct Place {
    crew: Arc<Crew>,
    unproven: AtomicBool,
}

/// Of so many places one is for hosts that failed: tokens that hang keep no others from theirs.
const PART: usize = 4;
/// A worker that is not gone after so long is not waited for: another one is ended.
const LEAVES: Duration = Duration::from_secs(2);

impl Crew {
    /// At most so many workers, and one at least.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), roll: Mutex::default(), changed: Condvar::new() })
    }

    /// Makes a host known, whose worker may be ended while it is idle.
    pub(crate) fn join(&self, host: &Arc<Shared>) {
        let mut roll = self.roll();
        roll.hosts.retain(|host| host.strong_count() > 0);
        roll.hosts.push(Arc::downgrade(host));
    }

    /// A place for a worker, waited for as long as `wait`. Nobody who holds a host's lock may ask.
    pub(crate) fn enter(self: &Arc<Self>, has_failed: bool, wait: Duration) -> Option<Place> {
        let until = Instant::now() + wait;
        self.roll().waiting += 1;
        let place = self.wait(has_failed, (until, wait), rest_one);
        self.roll().waiting -= 1;
        place
    }

    fn wait(
        self: &Arc<Self>,
        has_failed: bool,
        (until, wait): (Instant, Duration),
        rest_one: impl Fn(&[Arc<Shared>]) -> bool,
    ) -> Option<Place> {
        // Who failed takes nobody's worker for a place that becomes free by itself.
        let asks = if has_failed { until - wait / 2 } else { Instant::now() };
        let (mut in_vain, mut asked) = (false, None::<Instant>);
        let mut roll = self.roll();
        loop {
            let is_full = roll.here >= self.most;
            let has_part = !has_failed || roll.unproven < (self.most / PART).max(1);
            if !is_full && has_part {
                roll.here += 1;
                roll.unproven += usize::from(has_failed);
                return Some(Place { crew: Arc::clone(self), unproven: AtomicBool::new(has_failed) });
            }
            let now = Instant::now();
            roll.leaving.retain(|since| now.saturating_duration_since(*since) < LEAVES);
            // One for each who waits, whoever ended it; its place is free once its process is gone. Others may wait who cannot
            // have a place yet: nobody ends one for them.
            let may_ask = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= LEAVES);
            if is_full && has_part && !in_vain && may_ask && now >= asks && roll.leaving.len() < roll.waiting {
                roll.leaving.push(now);
                asked = Some(now);
                let hosts: Vec<_> = roll.hosts.iter().filter_map(Weak::upgrade).collect();
                drop(roll);
                in_vain = !rest_one(&hosts);
                // A host may have ended with the last of its references here: with no lock held.
                drop(hosts);
                roll = self.roll();
                if in_vain {
                    roll.leaving.pop();
                }
                continue;
            }
            if now >= until {
                return None;
            }
            let left = if now < asks { asks } else { until.min(now + LEAVES) }.saturating_duration_since(now);
            roll = self.changed.wait_timeout(roll, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        // Each change of it is one statement.
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the worker that nobody has asked for longest; false if all are at work.
fn rest_one(hosts: &[Arc<Shared>]) -> bool {
    let mut idle: Vec<_> = hosts.iter().filter_map(|host| Some((host.idle_since()?, host))).collect();
    idle.sort_by_key(|(since, _)| *since);
    idle.iter().any(|(since, host)| host.rest(*since))
}

impl Place {
    /// Its worker answers: it counts no longer among those of failed hosts.
    pub(crate) fn is_proven(&self) {
        if self.unproven.swap(false, Ordering::SeqCst) {
            self.crew.roll().unproven -= 1;
            self.crew.changed.notify_all();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_proven();
        let mut roll = self.crew.roll();
        roll.here -= 1;
        if !roll.leaving.is_empty() {
            roll.leaving.remove(0);
        }
        drop(roll);
        self.crew.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_enter_than_there_are_places_and_who_failed_takes_a_part_of_them() {
        let crew = Crew::new(8);
        let failed: Vec<_> = (0..4).filter_map(|_| crew.enter(true, Duration::ZERO)).collect();
        assert_eq!(failed.len(), 2);
        let mut others: Vec<_> = (0..9).filter_map(|_| crew.enter(false, Duration::ZERO)).collect();
        assert_eq!(others.len(), 6);
        others.pop();
        assert!(crew.enter(true, Duration::ZERO).is_none());
        failed[0].is_proven();
        assert!(crew.enter(true, Duration::ZERO).is_some(), "it answers again, and its part is free");
    }

    #[test]
    fn a_host_that_is_held_up_holds_up_nobody_elses_start() {
        let crew = Crew::new(1);
        let launch = crate::Launch {
            program: "/bin/false".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            crew: Arc::clone(&crew),
        };
        let shared = Arc::new(Shared::for_tests(launch));
        crew.join(&shared);
        let _place = crew.enter(false, Duration::ZERO).unwrap();
        let held = shared.hold_for_tests();
        let (done, waited) = std::sync::mpsc::channel();
        let waiting = Arc::clone(&crew);
        std::thread::spawn(move || done.send(waiting.enter(false, Duration::from_millis(100)).is_none()));
        assert_eq!(waited.recv_timeout(Duration::from_secs(30)), Ok(true), "it waits for the other's lock");
        drop(held);
    }

    #[test]
    fn who_waits_ends_one_worker_however_many_wait_beside_it() {
        use std::sync::atomic::AtomicUsize;

        let crew = Crew::new(4);
        let _places: Vec<_> = (0..4).filter_map(|_| crew.enter(false, Duration::ZERO)).collect();
        // Hosts that failed and have no part yet.
        crew.roll().waiting = 4;
        let (wait, ended) = (Duration::from_millis(200), AtomicUsize::new(0));
        let place = crew.wait(false, (Instant::now() + wait, wait), |_| {
            ended.fetch_add(1, Ordering::SeqCst);
            true
        });
        assert!(place.is_none());
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn who_waits_has_the_place_that_becomes_free() {
        let crew = Crew::new(1);
        let first = crew.enter(false, Duration::ZERO).unwrap();
        let waiting = Arc::clone(&crew);
        let second = std::thread::spawn(move || waiting.enter(false, Duration::from_secs(60)).is_some());
        drop(first);
        assert!(second.join().unwrap());
    }
}
