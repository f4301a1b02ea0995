//! Opened data keys: an absolute age per tenant, a use count, wiping, one fill at a time per key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::meter::Meter;
use crate::crypto::DataKey;
use crate::domain::{Clock, DataKeyClass, DataKeyId, Epoch, TenantName, Timestamp};

/// The age for an owner without a row of its own: the installation itself.
const DEFAULT_AGE: Duration = Duration::from_secs(60);
/// The longest age a tenant can choose.
const LONGEST_AGE: Duration = Duration::from_secs(300);
/// After so many uses a key is opened anew, so that a KEK taken away is noticed under load too.
const MOST_USES: u32 = 1 << 20;

/// What is opened at most once at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Flight {
    /// A data key by its id.
    Open(TenantName, DataKeyId),
    /// The data key of a class and epoch, made on first use.
    Make(TenantName, DataKeyClass, Epoch),
}

/// What a key was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To seal what is new of its class and epoch.
    Seals,
    /// To open what it sealed: of a class and epoch there may be older ones, which seal nothing any more.
    Opens,
}

/// How often a tenant's keys had been forgotten when the opening of one began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The opened keys of this process.
pub(super) struct Cache {
    clock: Clock,
    meter: Arc<Meter>,
    shelves: Mutex<Shelves>,
    flights: Mutex<HashMap<Flight, Arc<AsyncMutex<()>>>>,
}

/// One shelf per tenant, so that a look-up borrows the name and forgetting is one removal.
type Shelves = HashMap<TenantName, Shelf>;

struct Shelf {
    age: Duration,
    /// How often what is opened here, or the choice of what seals, was forgotten.
    forgotten: u64,
    opened: HashMap<DataKeyId, Opened>,
    current: HashMap<(DataKeyClass, Epoch), DataKeyId>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { age: DEFAULT_AGE, forgotten: 0, opened: HashMap::new(), current: HashMap::new() }
    }
}

struct Opened {
    key: Arc<DataKey>,
    class: DataKeyClass,
    epoch: Epoch,
    at: Timestamp,
    uses: u32,
}

impl Cache {
    pub(super) fn new(clock: Clock, meter: Arc<Meter>) -> Self {
        Self { clock, meter, shelves: Mutex::default(), flights: Mutex::default() }
    }

    /// Sets how long a tenant's opened keys may stay; keys already older go at once.
    pub(super) fn set_age(&self, tenant: &TenantName, age: Duration) {
        let mut shelves = guard(&self.shelves);
        let shelf = shelves.entry(tenant.clone()).or_default();
        shelf.age = age.min(LONGEST_AGE);
        self.meter.wiped.add(shelf.sweep(self.clock.now()));
    }

    /// A key that is opened and fresh.
    pub(super) fn get(&self, tenant: &TenantName, id: DataKeyId) -> Option<Arc<DataKey>> {
        guard(&self.shelves).get_mut(tenant)?.take(id, self.clock.now(), &self.meter)
    }

    /// The key that seals for a class and epoch, if it is opened and fresh.
    pub(super) fn current(&self, tenant: &TenantName, class: DataKeyClass, epoch: Epoch) -> Option<Arc<DataKey>> {
        let mut shelves = guard(&self.shelves);
        let shelf = shelves.get_mut(tenant)?;
        let id = *shelf.current.get(&(class, epoch))?;
        shelf.take(id, self.clock.now(), &self.meter)
    }

    /// To be taken before a record is read that says whether a key may be opened: what is opened after it is kept only if the
    /// tenant's keys were not forgotten meanwhile.
    pub(super) fn ticket(&self, tenant: &TenantName) -> Ticket {
        Ticket(guard(&self.shelves).get(tenant).map_or(0, |shelf| shelf.forgotten))
    }

    /// Keeps an opened key, unless the tenant keeps none, or it was sealed, shredded or its keys changed their states while
    /// the key was on its way: whoever asked uses it once, under settings that are judged again.
    pub(super) fn put(
        &self,
        tenant: &TenantName,
        (class, epoch): (DataKeyClass, Epoch),
        key: &Arc<DataKey>,
        (to, ticket): (Use, Ticket),
    ) {
        self.meter.misses.inc();
        let at = self.clock.now();
        let mut shelves = guard(&self.shelves);
        let shelf = shelves.entry(tenant.clone()).or_default();
        if shelf.age.is_zero() || ticket != Ticket(shelf.forgotten) {
            return;
        }
        if to == Use::Seals {
            shelf.current.insert((class, epoch), key.id());
        }
        shelf.opened.insert(key.id(), Opened { key: Arc::clone(key), class, epoch, at, uses: 0 });
    }

    /// Drops, and so wipes, every key whose time is over.
    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        self.meter.wiped.add(guard(&self.shelves).values_mut().map(|shelf| shelf.sweep(now)).sum());
        // Gates of requests that were given up while they waited.
        guard(&self.flights).retain(|_, gate| Arc::strong_count(gate) > 1);
    }

    /// Drops every key of a tenant (sealed, shredded, states changed); its choice of age stays.
    pub(super) fn forget(&self, tenant: &TenantName) {
        let mut shelves = guard(&self.shelves);
        let shelf = shelves.entry(tenant.clone()).or_default();
        shelf.forgotten += 1;
        self.meter.wiped.add(shelf.opened.len() as u64);
        shelf.opened.clear();
        shelf.current.clear();
    }

    /// From now on what seals is chosen anew, by the rows as they are; what is opened stays. A choice that is under way counts for
    /// whoever made it alone.
    pub(super) fn choose_anew(&self, tenant: &TenantName) {
        let mut shelves = guard(&self.shelves);
        // One that is not there is made: the first choice of all may be under way.
        let shelf = shelves.entry(tenant.clone()).or_default();
        shelf.forgotten += 1;
        shelf.current.clear();
    }

    /// Takes an opened key of this class and epoch to seal with, if it is there and fresh: a choice that is made anew asks no key provider.
    pub(super) fn choose(
        &self,
        tenant: &TenantName,
        (class, epoch): (DataKeyClass, Epoch),
        id: DataKeyId,
        (to, ticket): (Use, Ticket),
    ) -> Option<Arc<DataKey>> {
        let mut shelves = guard(&self.shelves);
        let shelf = shelves.get_mut(tenant)?;
        shelf.opened.get(&id).filter(|opened| (opened.class, opened.epoch) == (class, epoch))?;
        let key = shelf.take(id, self.clock.now(), &self.meter)?;
        if to == Use::Seals && ticket == Ticket(shelf.forgotten) {
            shelf.current.insert((class, epoch), id);
        }
        Some(key)
    }

    /// Waits until nobody else fills the same key.
    pub(super) async fn fly(&self, flight: Flight) -> Landing<'_> {
        let gate = Arc::clone(guard(&self.flights).entry(flight.clone()).or_default());
        let turn = gate.lock_owned().await;
        Landing { cache: self, flight, turn: Some(turn) }
    }
}

impl Shelf {
    fn take(&mut self, id: DataKeyId, now: Timestamp, meter: &Meter) -> Option<Arc<DataKey>> {
        let opened = self.opened.get_mut(&id)?;
        if !opened.is_fresh(now, self.age) {
            self.opened.remove(&id);
            meter.wiped.inc();
            return None;
        }
        meter.hits.inc();
        opened.uses += 1;
        Some(Arc::clone(&opened.key))
    }

    /// Wipes what is not fresh any more; how many.
    fn sweep(&mut self, now: Timestamp) -> u64 {
        let Self { age, opened, current, .. } = self;
        let held = opened.len();
        opened.retain(|_, key| key.is_fresh(now, *age));
        current.retain(|_, id| opened.contains_key(id));
        (held - opened.len()) as u64
    }
}

impl Opened {
    /// A clock that went back makes a key stale too: an age that cannot be known is over.
    fn is_fresh(&self, now: Timestamp, age: Duration) -> bool {
        let erased = self.class.erased_at(self.epoch).is_some_and(|gone| now >= gone);
        !erased && self.uses < MOST_USES && now >= self.at && now.since(self.at) < age
    }
}

/// The turn to fill one key; the next waits until it drops.
pub(super) struct Landing<'a> {
    cache: &'a Cache,
    flight: Flight,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = guard(&self.cache.flights);
        self.turn = None;
        // Nobody waits: only the map itself still holds the gate. Waiters clone it under the same lock.
        if flights.get(&self.flight).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            flights.remove(&self.flight);
        }
    }
}

/// A panic elsewhere does not make the map wrong: each change of it is one call.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
