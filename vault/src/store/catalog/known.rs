//! What is remembered of a tenant, and which of many are read again first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::TenantCatalog;
use crate::domain::TenantName;
use crate::store::committer::operation::Generation;

/// Settings that are used are read again after this though their generation stands still: the number is not authenticated,
/// so whoever can write to the database could hide a change behind it.
const OLD: Duration = Duration::from_secs(7);
/// Older ones are relied on by no request: it reads them again itself, however many tenants the poll has before this one
/// (promise 5: within ten seconds).
const OLDEST: Duration = Duration::from_secs(9);
/// A tenant that no request asked for in this time is forgotten. No opened key lives so long (formats.md section 9).
const UNUSED: Duration = Duration::from_secs(10 * 60);
/// So many tenants are read again in one poll.
const AT_ONCE: usize = 64;

/// A tenant's settings as they were read.
pub(super) struct Known {
    pub(super) catalog: Arc<TenantCatalog>,
    pub(super) read_at: Instant,
    /// They are read again before the next use, and compared: what is the same keeps what rests on it, such as opened keys.
    pub(super) is_stale: bool,
    used: Used,
}

/// When a request last asked for a tenant. Said under the lock of readers, so that requests do not wait for each other.
pub(super) struct Used {
    /// What the milliseconds are counted from.
    since: Instant,
    /// Zero is never.
    millis: AtomicU64,
}

impl Used {
    fn new(since: Instant) -> Self {
        Self { since, millis: AtomicU64::new(0) }
    }

    fn note(&self, now: Instant) {
        let millis = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis.saturating_add(1), Ordering::Relaxed);
    }

    fn at(&self) -> Option<Instant> {
        let millis = self.millis.load(Ordering::Relaxed).checked_sub(1)?;
        self.since.checked_add(Duration::from_millis(millis))
    }
}

impl Known {
    /// Settings read just now. What was known before says when they were used.
    pub(super) fn new(catalog: Arc<TenantCatalog>, read_at: Instant, before: Option<Self>) -> Self {
        let used = before.map_or_else(|| Used::new(read_at), |before| before.used);
        Self { catalog, read_at, is_stale: false, used }
    }

    /// The settings for a request, which counts as use; none if they have to be read again first.
    pub(super) fn for_request(&self, newest: Generation, now: Instant) -> Option<Arc<TenantCatalog>> {
        self.used.note(now);
        self.as_known(newest).filter(|_| now.duration_since(self.read_at) < OLDEST)
    }

    /// The settings of this generation, however old.
    pub(super) fn as_known(&self, newest: Generation) -> Option<Arc<TenantCatalog>> {
        (!self.is_stale && self.catalog.generation >= newest).then(|| Arc::clone(&self.catalog))
    }

    /// Notes that a request asked for them.
    pub(super) fn note_use(&self, now: Instant) {
        self.used.note(now);
    }

    /// Whether neither a request asked for them nor anybody read them for long.
    pub(super) fn is_unused(&self, now: Instant) -> bool {
        let last = self.used.at().map_or(self.read_at, |used| used.max(self.read_at));
        now.duration_since(last) >= UNUSED
    }

    /// Whether they are to be read again without a request, and how soon: those that changed, and old ones that were used
    /// since they were read. Old ones that nobody uses wait for their next use.
    pub(super) fn due(&self, newest: Option<Generation>, now: Instant) -> Option<Due> {
        let is_changed = newest.is_some_and(|newest| newest > self.catalog.generation);
        let is_old = now.duration_since(self.read_at) >= OLD && self.used.at().is_some_and(|used| used > self.read_at);
        (is_changed || is_old).then_some(Due { is_unchanged: !is_changed, read_at: self.read_at })
    }
}

/// How soon settings are to be read again: those that changed first, then the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    is_unchanged: bool,
    read_at: Instant,
}

/// Whom one poll reads again, first those that need it most: so nobody is passed over for ever.
pub(super) fn first_of(mut due: Vec<(Due, TenantName)>) -> Vec<TenantName> {
    due.sort_unstable();
    due.truncate(AT_ONCE);
    due.into_iter().map(|(_, tenant)| tenant).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::tenant::{KeyProviderKind, Tenant};

    fn settings(name: &TenantName, generation: Generation) -> Arc<TenantCatalog> {
        let tenant = Tenant {
            name: name.clone(),
            reveal: false,
            sealed: false,
            key_provider: KeyProviderKind::Local,
            cache_seconds: 300,
            created_at: Timestamp::from_millis(0),
        };
        Arc::new(TenantCatalog {
            generation,
            tenant,
            tenant_version: 1,
            apps: BTreeMap::new(),
            flows: BTreeMap::new(),
            destinations: BTreeMap::new(),
            credentials: BTreeMap::new(),
            keks: BTreeMap::new(),
            providers: BTreeMap::new(),
        })
    }

    /// So many tenants, all read at `at`.
    fn many(count: usize, at: Instant) -> HashMap<TenantName, Known> {
        let known = |name: TenantName| (name.clone(), Known::new(settings(&name, Generation::default()), at, None));
        (0..count).map(|of| known(format!("tenant-{of}").parse().unwrap())).collect()
    }

    fn chosen(known: &HashMap<TenantName, Known>, changed: &[TenantName], now: Instant) -> Vec<TenantName> {
        let newest = |name| changed.contains(name).then_some(Generation(1));
        first_of(known.iter().filter_map(|(name, known)| Some((known.due(newest(name), now)?, name.clone()))).collect())
    }

    #[test]
    fn of_three_thousand_tenants_none_is_used_with_settings_older_than_the_bound_and_none_starves() {
        let (began, poll) = (Instant::now(), Duration::from_millis(500));
        let (mut known, generation) = (many(3_000, began), Generation::default());
        let mut reread: HashMap<TenantName, u32> = HashMap::new();
        for round in 0..120 {
            let now = began + poll * round;
            // Every one is asked for between any two polls.
            for one in known.values_mut() {
                let age = now.duration_since(one.read_at);
                assert_eq!(one.for_request(generation, now).is_some(), age < Duration::from_secs(9), "{age:?}");
            }
            let first = chosen(&known, &[], now);
            assert!(first.len() <= 64);
            for name in first {
                *reread.entry(name.clone()).or_default() += 1;
                let one = known.remove(&name).unwrap();
                known.insert(name, Known::new(Arc::clone(&one.catalog), now, Some(one)));
            }
        }
        assert_eq!(reread.len(), 3_000, "a poll that takes the oldest first comes to everybody");
    }

    #[test]
    fn who_changed_comes_first_though_many_are_old() {
        let began = Instant::now();
        let (known, now) = (many(3_000, began), began + Duration::from_secs(60));
        known.values().for_each(|one| one.note_use(now));
        let changed: TenantName = "tenant-2999".parse().unwrap();
        let first = chosen(&known, std::slice::from_ref(&changed), now);
        assert_eq!((first.len(), &first[0]), (64, &changed));
    }

    #[test]
    fn who_is_not_used_is_not_read_again_unless_it_changed_and_is_forgotten_in_the_end() {
        let began = Instant::now();
        let known = many(2, began);
        let (idle, used) = ("tenant-0".parse::<TenantName>().unwrap(), "tenant-1".parse::<TenantName>().unwrap());
        let later = began + Duration::from_secs(60);
        known[&used].note_use(later);
        // Upkeep and probes look without asking for it.
        assert!(known[&idle].as_known(Generation::default()).is_some());
        assert_eq!(chosen(&known, &[], later), std::slice::from_ref(&used));
        assert_eq!(chosen(&known, std::slice::from_ref(&idle), later), [idle.clone(), used.clone()]);
        let much_later = began + UNUSED;
        assert!(known[&idle].is_unused(much_later) && !known[&used].is_unused(much_later));
        assert!(known[&used].is_unused(later + UNUSED));
    }
}
