//! A standby of the database that lists of the access log are read from. It answers nothing else: no value, no row that
//! decides and no key is read from it, since it may be behind; there is no function here that would.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::cursor::Cursor;
use super::listing::Listing;
use super::postgres::{Place, PostgresStore};
use super::settings::PostgresAddress;
use super::{EntryFilter, Error};
use crate::domain::meter::Counter;
use crate::domain::{BootId, InstallationId, Realm, TenantName};

/// What it shows is never older than this; else the primary is asked.
const FRESH: Duration = Duration::from_secs(1);
/// So often it is asked how far it has come.
const LOOK: Duration = Duration::from_millis(200);
/// So many of the primary's positions are remembered: half a minute.
const POSITIONS: usize = 150;

/// The standby.
pub(in crate::store) struct Replica {
    engine: PostgresStore,
    of: (InstallationId, Realm),
    /// This start of the node, once it is there: a standby that does not know it does not follow the primary.
    boot: OnceLock<BootId>,
    seen: Mutex<Seen>,
    /// Lists that were read from it.
    pub(in crate::store) reads: Counter,
}

#[derive(Default)]
struct Seen {
    /// The timeline that the primary writes.
    timeline: Option<i32>,
    /// The primary's positions on it, each with the moment it was asked at.
    positions: VecDeque<(Instant, i64)>,
    /// It shows all that was committed at this moment, or later.
    fresh: Option<Instant>,
    /// What it was last refused for, so that it is told once.
    told: Option<&'static str>,
}

impl Seen {
    /// Up to where the primary had written when it was asked.
    fn note_written(&mut self, asked: Instant, written: Place) {
        if self.timeline.replace(written.timeline) != Some(written.timeline) {
            // Another server leads since: what was on the old timeline may be nowhere.
            self.positions.clear();
            self.fresh = None;
        }
        self.positions.push_back((asked, written.position));
        if self.positions.len() > POSITIONS {
            self.positions.pop_front();
        }
    }

    /// Up to where the standby has come; false if that is on another timeline than the primary's. However far it is there, it
    /// may lack what the primary acknowledged.
    fn note_replayed(&mut self, replayed: Place) -> bool {
        if self.timeline.is_some_and(|own| own != replayed.timeline) {
            return false;
        }
        while let Some((at, _)) = self.positions.front().copied().filter(|(_, written)| *written <= replayed.position) {
            self.fresh = Some(at);
            self.positions.pop_front();
        }
        true
    }
}

impl Replica {
    /// Names the standby. One that does not answer now is tried again later.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is of another installation, or no standby.
    pub(in crate::store) async fn open(address: &PostgresAddress, of: (InstallationId, Realm)) -> Result<Self, Error> {
        let engine = PostgresStore::reading_only(address)?;
        let replica = Self { engine, of, boot: OnceLock::new(), seen: Mutex::default(), reads: Counter::default() };
        match replica.replayed().await {
            Err(error @ Error::Setting(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the read replica does not answer: the primary is asked until it does");
                Ok(replica)
            }
            Ok(_) => Ok(replica),
        }
    }

    /// From now on it must know this start of the node.
    pub(in crate::store) fn must_know(&self, boot: BootId) {
        let _ = self.boot.set(boot);
    }

    /// Compares it with the primary from now on, as long as somebody holds it.
    pub(in crate::store) fn watch(replica: &Arc<Self>, primary: Weak<super::Inner>) {
        let replica = Arc::downgrade(replica);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let (Some(replica), Some(primary)) = (replica.upgrade(), primary.upgrade()) else { return };
                let super::Engine::Postgres(primary) = &primary.engine else { return };
                replica.compare(primary).await;
            }
        });
    }

    /// What the primary had written when it was asked is there once the standby is as far: so old is what it shows at most.
    async fn compare(&self, primary: &PostgresStore) {
        let asked = Instant::now();
        let written = primary.written().await;
        let replayed = self.replayed().await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(written) = written {
            seen.note_written(asked, written);
        }
        let why = match replayed {
            // This start of the node is not there yet, or it never will be.
            Ok(None) => return seen.fresh = None,
            Ok(Some(replayed)) if seen.note_replayed(replayed) => return seen.told = None,
            Ok(Some(_)) => {
                "it is on another timeline: it follows a primary that leads no more, or has not come to the promotion"
            }
            Err(Error::Setting(why)) => why,
            Err(_) => "it does not answer",
        };
        seen.fresh = None;
        if seen.told.replace(why) != Some(why) {
            tracing::warn!(why, "the read replica is not read from: the primary is asked");
        }
    }

    /// How far it has come, if it is what it should be; nothing while it does not know this start of the node.
    async fn replayed(&self) -> Result<Option<Place>, Error> {
        let standby = self.engine.replayed(self.boot.get().copied()).await?;
        if standby.installation != self.of.0.as_bytes()[..] || standby.realm != self.of.1.as_str() {
            return Err(Error::Setting("read_replica is a database of another installation"));
        }
        let replayed = standby.replayed;
        let replayed =
            replayed.ok_or(Error::Setting("read_replica is no standby: name a streaming replica of `database`"))?;
        Ok(standby.follows.then_some(replayed))
    }

    /// Whether what it shows is at most a second old.
    pub(in crate::store) fn is_fresh(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.fresh.is_some_and(|at| at.elapsed() <= FRESH)
    }

    /// A list of entries, oldest first; none if it is too old or the standby fails: then the primary is asked.
    pub(in crate::store) async fn listing(
        &self,
        log: &TenantName,
        filter: &EntryFilter,
        (start, limit, longest): (&Cursor, usize, u64),
    ) -> Option<Listing> {
        if !self.is_fresh() {
            return None;
        }
        self.read(self.engine.listing(log, filter, start, limit, longest).await)
    }

    /// The same, newest first.
    pub(in crate::store) async fn newest(
        &self,
        log: &TenantName,
        filter: &EntryFilter,
        (before, limit, longest): (Option<u64>, usize, u64),
    ) -> Option<Listing> {
        if !self.is_fresh() {
            return None;
        }
        self.read(self.engine.newest(log, filter, before, limit, longest).await)
    }

    fn read(&self, listed: Result<Listing, Error>) -> Option<Listing> {
        match listed {
            Ok(listing) => {
                self.reads.inc();
                Some(listing)
            }
            Err(error) => {
                tracing::warn!(%error, "the read replica failed: the primary is asked");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_on_another_timeline_is_not_fresh_however_far_it_is() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let at = |timeline, position| Place { timeline, position };
        seen.note_written(now, at(1, 100));
        assert!(seen.note_replayed(at(1, 100)));
        assert_eq!(seen.fresh, Some(now));
        // Another server was promoted at 100, and the standby follows the old one, which still writes.
        let later = now + Duration::from_millis(200);
        seen.note_written(later, at(2, 110));
        assert_eq!(seen.fresh, None, "what was fresh on the old timeline is not on the new one");
        assert!(!seen.note_replayed(at(1, 5_000)));
        assert_eq!(seen.fresh, None);
        assert!(seen.note_replayed(at(2, 110)), "it follows the new primary by now");
        assert_eq!(seen.fresh, Some(later));
    }
}
