//! What is done about tenants' keys without anybody asking: a destruction that was cut short is finished, values are sealed
//! anew after a key was compromised, and a key that is older than it may be gets a successor. Any node may do it: each
//! change stands over what was read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::administration::Administrator;
use super::kek_rotation;
use super::resealing::{self, Passed};
use super::tenants::Ground;
use super::{Catalog, Committer, Error, Generation, Store, TenantCatalog, shredding};
use crate::domain::{Actor, Origin, RequestContext, RequestId, TenantName, Timestamp};
use crate::keys::KekState::{Destroyed, Destroying};
use crate::keys::{KekRecord, KekState, Keys};

/// So often it looks, and at once after a start.
const PERIOD: Duration = Duration::from_secs(60);
/// How long one change may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long nobody holds a data key that was opened before its KEK was said to be compromised: the cache keeps one for five
/// minutes at most, and a request lasts no longer.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// Only the built-in KMS makes keys by itself: a customer's token gets a new one from the customer.
const MADE_HERE: &str = "local-";

/// The upkeep of one node.
pub struct KeyUpkeep {
    store: Store,
    catalog: Catalog,
    committer: Committer,
    keys: Keys,
    oldest: Option<Duration>,
    /// Tenants about whose ended keys nothing was left to do, and under which settings that was so.
    tidy: Mutex<HashMap<TenantName, Generation>>,
    /// How long a data key of a compromised KEK is left where it is though nothing refers to it.
    grace: Duration,
    /// Tenants with a compromised KEK: since when this node knows of it, and what its last pass came to.
    compromised: Mutex<HashMap<TenantName, (Instant, Passed)>>,
}

impl KeyUpkeep {
    /// Upkeep that lets no active key of the built-in KMS grow older than `oldest`, where that is given.
    #[must_use]
    pub fn new((store, catalog): (Store, Catalog), committer: Committer, keys: Keys, oldest: Option<Duration>) -> Self {
        let (tidy, compromised) = (Mutex::default(), Mutex::default());
        Self { store, catalog, committer, keys, oldest, tidy, grace: GRACE, compromised }
    }

    /// The same that takes idle data keys away at once.
    #[cfg(test)]
    pub(in crate::store) fn without_grace(self) -> Self {
        Self { grace: Duration::ZERO, ..self }
    }

    /// Works until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // A log that cannot be relied on does not say which keys are to be destroyed.
            if !self.store.log_health().is_serving() {
                continue;
            }
            if let Err(error) = self.pass().await {
                tracing::warn!(%error, "the upkeep of keys did not succeed and is tried again");
            }
        }
    }

    /// Looks at every tenant once. A tenant whose rows do not read keeps no other.
    ///
    /// # Errors
    /// [`Error::Database`] if the tenants cannot be listed.
    pub async fn pass(&self) -> Result<(), Error> {
        if let Err(error) = self.store.purge_approvals().await {
            tracing::warn!(%error, "old approvals could not be removed");
        }
        for tenant in self.store.tenants().await? {
            if let Err(error) = self.look_after(&tenant).await {
                tracing::warn!(%tenant, %error, "the keys of a tenant could not be looked after");
            }
        }
        Ok(())
    }

    async fn look_after(&self, tenant: &TenantName) -> Result<(), Error> {
        let ground = Ground { store: &self.store, committer: &self.committer, keys: &self.keys };
        let Some(settings) = self.catalog.tenant(tenant).await? else { return Ok(()) };
        let (found, now) = (settings.keks.values().map(|(_, kek)| kek), self.store.clock().now());
        self.tidy_up(&settings, now, ground).await?;
        let compromised = found.clone().any(|kek| kek.compromised_at.is_some());
        if compromised && found.clone().any(|kek| kek.state.may_wrap()) {
            self.reseal(tenant, now, ground).await?;
        }
        if let Some(old) = settings.keks.values().find(|(_, kek)| self.is_too_old(kek, now)) {
            let kek = kek_rotation::succeed(&self.node(tenant, now), old, now, ground).await?;
            tracing::info!(%tenant, kek_id = %kek.kek_id, version = kek.version, "a key reached its age and was rotated");
        }
        Ok(())
    }

    /// Finishes a destruction that was cut short, and takes away what no key that is left needs. Once that was done it is looked
    /// at again when the tenant's settings are others.
    async fn tidy_up(&self, settings: &TenantCatalog, now: Timestamp, ground: Ground<'_>) -> Result<(), Error> {
        let tenant = &settings.tenant.name;
        let known = || self.tidy.lock().unwrap_or_else(PoisonError::into_inner);
        let states = settings.keks.values().map(|(_, kek)| kek.state);
        let (left, ended) =
            (states.clone().any(|state| state == Destroying), states.clone().any(|state| state == Destroyed));
        if left || (ended && known().get(tenant) != Some(&settings.generation)) {
            shredding::finish(&self.node(tenant, now), ground).await?;
            known().insert(tenant.clone(), settings.generation);
        }
        Ok(())
    }

    /// Seals values anew. What came of it is said when it is something new.
    async fn reseal(&self, tenant: &TenantName, now: Timestamp, ground: Ground<'_>) -> Result<(), Error> {
        let known = || self.compromised.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = *known().entry(tenant.clone()).or_insert_with(|| (Instant::now(), Passed::default()));
        let passed = resealing::pass(&self.node(tenant, now), since.elapsed() >= self.grace, ground).await?;
        if passed != before {
            let Passed { moved, refused, idle, left } = passed;
            tracing::info!(%tenant, moved, refused, idle, left, "values were sealed anew after a key was compromised");
            known().insert(tenant.clone(), (since, passed));
        }
        Ok(())
    }

    fn is_too_old(&self, kek: &KekRecord, now: Timestamp) -> bool {
        let made_here = kek.state == KekState::Active && kek.mechanism.starts_with(MADE_HERE);
        made_here && self.oldest.is_some_and(|oldest| now.since(kek.created_at) >= oldest)
    }

    /// The node itself as the one who acts.
    fn node(&self, tenant: &TenantName, now: Timestamp) -> Administrator {
        let context = RequestContext {
            request_id: RequestId::generate(now),
            actor: Actor::node(self.committer.identity().boot()),
            on_behalf_of: None,
            origin: Origin::default(),
            reference: None,
        };
        let (realm, deadline) = (self.keys.realm().clone(), now.plus(PATIENCE));
        Administrator { tenant: tenant.clone(), generation: None, context, realm, deadline }
    }
}
