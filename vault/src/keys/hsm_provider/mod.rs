//! KEKs in customers' tokens: one host with its worker process per configuration, started at first use.
//!
//! A tenant has a few turns at a time and one limit per call, so that a dead or slow HSM holds up its own tenant only. What
//! a token's worker does when it fails stands in the crate `hsm`; here is what a tenant's data keys need of it.

mod destroying;
mod evidence;
mod guesses;
mod making;
mod news;
mod onboarding;
mod running;
mod silence;
mod trial;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hsm::{HsmError, KeyBytes};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use making::MadeKek;
pub use news::{HsmNews, HsmState, News};
pub use onboarding::{HsmPin, HsmRefusal, HsmWish, WAIVED};
pub use trial::TriedToken;

use super::hsm_records::{HsmKek, ProviderRecord};
use super::key_store::KeyStore;
use super::meter::Meter;
use super::{Error, KekRecord, KeyRecords, Keys};
use crate::domain::{KeyProviderId, TenantName};
use news::Newsroom;
use running::Running;

/// How long one wrap or unwrap may take, waiting for a turn and for a worker's start included: its request is answered
/// within two seconds.
const CALL: Duration = Duration::from_millis(1300);
/// After this the module hangs and its worker is killed.
const HANGS: Duration = Duration::from_millis(1200);
/// How long making, probing and destroying keys may take.
const MANAGE: Duration = Duration::from_secs(25);
/// Calls of all tenants at once: each keeps a thread of the pool that files and hosts of others need too.
const AT_ONCE: usize = 192;
/// Calls of all tenants that wait for their workers at once.
const WAIT_AT_ONCE: usize = 96;

/// What the program that holds the keys says about modules.
#[derive(Debug, Clone)]
pub struct HsmSetup {
    /// How a worker is started.
    pub launch: hsm::Launch,
    /// The modules that may be loaded; any trustworthy file where there is no list.
    pub modules: Option<Vec<PathBuf>>,
    /// How long a token that custodians call lost is waited for, through as many attempts as there are, before it is silent.
    pub lost_after: Duration,
}

/// Which configuration of which tenant.
type Place = (TenantName, KeyProviderId);

/// The customers' tokens.
pub(super) struct HsmProvider {
    store: Arc<KeyStore>,
    meter: Arc<Meter>,
    setup: OnceLock<HsmSetup>,
    hosts: Mutex<HashMap<Place, Arc<Running>>>,
    news: Newsroom,
    turns: Arc<Semaphore>,
    /// Turns of calls whose worker is yet to come: they take none from those whose worker is there.
    waiting: Arc<Semaphore>,
    /// A turn of each tenant for which a key is being made.
    making: Mutex<HashMap<TenantName, Arc<Semaphore>>>,
    /// Tenants whose token in use is not asked, because it refused its PIN: no host of theirs says so.
    refused: Mutex<BTreeSet<TenantName>>,
}

impl HsmProvider {
    pub(super) fn new(store: Arc<KeyStore>, meter: Arc<Meter>) -> Self {
        Self {
            store,
            meter,
            setup: OnceLock::new(),
            hosts: Mutex::default(),
            news: Newsroom::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAIT_AT_ONCE)),
            making: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// W: the data key wrapped in the token, bound to the context.
    pub(super) async fn wrap<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        kek: &HsmKek,
        context: &[u8],
        key: &[u8; 32],
    ) -> Result<Vec<u8>, Error> {
        let running = self.running(records, tenant, kek).await?;
        let (kek, context, key) = (kek.kek().clone(), context.to_vec(), KeyBytes::new(*key));
        self.call(&running, CALL, move |host, left| host.wrap(&kek, &key, &context, left)).await
    }

    /// The data key of W.
    pub(super) async fn unwrap<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        kek: &HsmKek,
        context: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let running = self.running(records, tenant, kek).await?;
        let (kek, context, wrapped) = (kek.kek().clone(), context.to_vec(), wrapped.to_vec());
        let key = self.call(&running, CALL, move |host, left| host.unwrap(&kek, &wrapped, &context, left)).await?;
        Ok(Zeroizing::new(key.to_vec()))
    }

    /// One call of a host, in its turn, on a thread that may block.
    async fn call<T: Send + 'static>(
        &self,
        running: &Arc<Running>,
        limit: Duration,
        call: impl FnOnce(&hsm::Host, Duration) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, Error> {
        if let Some(known) = running.known_outage() {
            return Err(Error::Hsm(known));
        }
        let until = tokio::time::Instant::now() + limit;
        let turn = async {
            let own = Arc::clone(running.turns()).acquire_owned().await;
            let all = if running.has_worker() { &self.turns } else { &self.waiting };
            (own, Arc::clone(all).acquire_owned().await)
        };
        let turn = tokio::time::timeout_at(until, turn).await.map_err(|_| Error::Hsm(HsmError::Overloaded))?;
        let host = running.host();
        let called = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            call(&host, until.saturating_duration_since(tokio::time::Instant::now()))
        });
        let result = called.await.map_err(|_| Error::Ending)?;
        running.heard(result.as_ref().err());
        result.map_err(|error| self.judged(running, error))
    }

    /// Tells tampering from an outage: the first is an alarm.
    fn judged(&self, running: &Running, error: HsmError) -> Error {
        if !error.is_alarm() {
            return Error::Hsm(error);
        }
        let (tenant, provider) = running.place();
        tracing::error!(%tenant, %provider, %error, "what an HSM unwraps was tampered with");
        self.meter.hsm_alarms.inc();
        if running.may_tell() {
            self.news.push(running.news(News::Alarm { kek: None, what: error.to_string() }));
        }
        Error::Altered
    }

    /// Notes whether the PIN of a tenant's token in use was refused, as its row says. Whoever starts a node in that state hears of it.
    fn note_refused(&self, tenant: &TenantName, refused: Option<&ProviderRecord>) {
        let mut known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = refused else {
            known.remove(tenant);
            return;
        };
        if known.insert(tenant.clone()) {
            let (token, provider) = (record.token.label.as_deref(), record.provider_id);
            tracing::error!(%tenant, %provider, token, "the PIN of a tenant's token was refused: the token is not asked until its custodian gives a new one");
        }
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Arc<Running>>> {
        // Each change of the map is one call.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys {
    /// Says how workers are started and which modules may be loaded. Without it no tenant's HSM is reached.
    pub fn use_hsms(&self, setup: HsmSetup) {
        // Said once at start; a second saying changes nothing.
        let _ = self.inner.provider.hsm.setup.set(setup);
    }

    /// Lets go of every host of a tenant whose configuration is not of these versions: what was changed on another node is
    /// used by this one at its next call. Of those in whose tokens nothing of the tenant opens any more. And of the canaries of keys that open nothing any more: their end is no alarm.
    pub fn follow_hsms<'k>(
        &self,
        tenant: &TenantName,
        providers: &BTreeMap<KeyProviderId, (u64, ProviderRecord)>,
        keks: impl Iterator<Item = &'k KekRecord>,
    ) {
        let (alive, ended): (Vec<&KekRecord>, Vec<&KekRecord>) =
            keks.filter(|kek| kek.hsm.is_some()).partition(|kek| kek.state.may_unwrap());
        let in_use = alive.iter().filter(|kek| kek.state.may_wrap()).filter_map(|kek| kek.hsm.as_deref());
        let refused = in_use.filter_map(|kek| providers.get(&kek.provider)).find(|(_, record)| record.quarantined);
        self.inner.provider.hsm.note_refused(tenant, refused.map(|(_, record)| record));
        let tokens =
            |keks: Vec<&'k KekRecord>| keks.into_iter().filter_map(|kek| kek.hsm.as_deref()).collect::<Vec<_>>();
        let (alive, ended) = (tokens(alive), tokens(ended));
        // A token in which nothing of the tenant's lives any more is left alone: no login, no worker.
        let is_over = |provider: KeyProviderId| {
            ended.iter().any(|kek| kek.provider == provider) && !alive.iter().any(|kek| kek.provider == provider)
        };
        let old = |place: &Place, running: &Running| {
            place.0 == *tenant
                && (is_over(place.1) || providers.get(&place.1).is_none_or(|(version, _)| *version > running.version()))
        };
        self.inner.provider.hsm.hosts().retain(|place, running| {
            if place.0 == *tenant {
                ended.iter().for_each(|kek| running.no_longer_watch(&kek.canary));
            }
            !old(place, running)
        });
    }

    /// Ends all workers.
    pub fn close_hsms(&self) {
        self.inner.provider.hsm.hosts().clear();
    }

    /// Whether a tenant's keys were asked of an HSM by this node.
    pub(super) fn has_hsm(&self, tenant: &TenantName) -> bool {
        self.inner.provider.hsm.hosts().keys().any(|(of, _)| of == tenant)
    }
}

#[cfg(test)]
mod tests;

/// The KEK's place in a token, or the refusal of a record that has none.
pub(super) fn in_token(kek: &KekRecord) -> Result<&HsmKek, Error> {
    kek.hsm.as_deref().ok_or(Error::KekUnusable)
}
