//! What is done about tenants' keys without anybody asking: a destruction that was cut short is finished, values are sealed
//! anew after a key was compromised, and a key that is older than it may be gets a successor. Any node may do it: each
//! change stands over what was read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::administration::Administrator;
use super::kek_rotation;
use super::resealing::{self, Passed};
use super::tenants::Ground;
use super::{Catalog, Committer, Error, Generation, Store, TenantCatalog, rounds, shredding};
use crate::domain::{Actor, Origin, RequestContext, RequestId, TenantName, Timestamp};
use crate::keys::KekState::Destroying;
use crate::keys::{Compromise, KekRecord, KekState, Keys};

/// So often it looks at keys, and at once after a start: what a custodian asked for ends within a minute.
const PERIOD: Duration = Duration::from_secs(15);
/// A tenant whose values may still rest on data keys of before is looked at again after so long.
const SOON: Duration = Duration::from_secs(45);
/// How long one change may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long nobody holds a data key that was opened before its KEK was said to be compromised: the cache keeps one for five
/// minutes at most, and a request lasts no longer.
const GRACE: Duration = Duration::from_secs(15 * 60);
/// So many things are done at once, each a part of what a tenant needs, in the order in which they were asked for.
const AT_ONCE: usize = 8;
/// A tenant about whose values nothing can be done is looked at again after so long.
const AGAIN: Duration = Duration::from_secs(60 * 60);
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
    compromised: Mutex<HashMap<TenantName, Resealing>>,
    /// Turns of ending and rotating keys, which wait for tokens.
    keeping: Semaphore,
    /// Turns of sealing anew.
    resealing: Semaphore,
}

/// What is done beside each other: one may take hours, and keeps no other waiting.
#[derive(Debug, Clone, Copy)]
enum Duty {
    /// End what was to end, and rotate what is too old.
    Keys,
    /// Seal values anew where a key was compromised.
    Values,
}

/// What this node knows of a tenant with a compromised KEK.
#[derive(Debug, Clone, Copy)]
struct Resealing {
    /// How many were compromised by then.
    era: u32,
    /// Since when this node knows of the last one.
    since: Instant,
    /// What the last pass came to.
    passed: Passed,
    /// When the next pass is due.
    next: Instant,
}

impl KeyUpkeep {
    /// Upkeep that lets no active key of the built-in KMS grow older than `oldest`, where that is given.
    #[must_use]
    pub fn new((store, catalog): (Store, Catalog), committer: Committer, keys: Keys, oldest: Option<Duration>) -> Self {
        let (tidy, compromised) = (Mutex::default(), Mutex::default());
        let (keeping, resealing) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
        Self { store, catalog, committer, keys, oldest, tidy, grace: GRACE, compromised, keeping, resealing }
    }

    /// The same that takes idle data keys away at once.
    #[cfg(test)]
    pub(in crate::store) fn without_grace(self) -> Self {
        Self { grace: Duration::ZERO, ..self }
    }

    /// Works until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let upkeep = Arc::new(self);
        let tenants = || {
            let upkeep = Arc::clone(&upkeep);
            async move { upkeep.tenants().await }
        };
        let look = |duty| {
            let upkeep = Arc::clone(&upkeep);
            move |tenant| {
                let upkeep = Arc::clone(&upkeep);
                async move { upkeep.look(tenant, duty).await }
            }
        };
        tokio::join!(
            rounds::again_and_again(PERIOD, &stop, tenants, look(Duty::Keys)),
            rounds::again_and_again(PERIOD, &stop, tenants, look(Duty::Values)),
            upkeep.purge_again_and_again(&stop),
        );
    }

    /// Whom to look after now.
    async fn tenants(&self) -> Vec<TenantName> {
        // A log that cannot be relied on does not say which keys are to be destroyed.
        if !self.store.log_health().is_serving() {
            return Vec::new();
        }
        self.store.tenants().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "tenants whose keys are looked after could not be listed; it is tried again");
            Vec::new()
        })
    }

    async fn purge_again_and_again(&self, stop: &CancellationToken) {
        let mut ticks = interval(AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Nor does it say which approvals may go.
            if !self.store.log_health().is_serving() {
                continue;
            }
            if let Err(error) = self.store.purge_guesses().await {
                tracing::warn!(%error, "counts of PINs that are over could not be removed; it is tried again");
            }
            if let Err(error) = self.store.purge_approvals().await {
                tracing::warn!(%error, "approvals that are over could not be removed; it is tried again");
            }
        }
    }

    /// Looks at every tenant once. A tenant whose rows do not read keeps no other.
    ///
    /// # Errors
    /// [`Error::Database`] if the tenants cannot be listed.
    #[cfg(test)]
    pub(in crate::store) async fn pass(&self) -> Result<(), Error> {
        for duty in [Duty::Keys, Duty::Values] {
            let tenants = self.store.tenants().await?;
            futures_util::future::join_all(tenants.into_iter().map(|tenant| self.look(tenant, duty))).await;
        }
        self.store.purge_approvals().await.map(drop)
    }

    async fn look(&self, tenant: TenantName, duty: Duty) {
        if let Err(error) = self.look_after(&tenant, duty).await {
            tracing::warn!(%tenant, %error, "the keys of a tenant could not be looked after");
        }
    }

    async fn look_after(&self, tenant: &TenantName, duty: Duty) -> Result<(), Error> {
        let ground = Ground { store: &self.store, committer: &self.committer, keys: &self.keys };
        let turns = match duty {
            Duty::Keys => &self.keeping,
            Duty::Values => &self.resealing,
        };
        let turn = turns.acquire().await.map_err(|_: tokio::sync::AcquireError| Error::Unavailable)?;
        // Every change stands over what was read, so that old settings do no harm.
        let Some(settings) = self.catalog.look_at(tenant).await? else { return Ok(()) };
        let now = self.store.clock().now();
        match duty {
            Duty::Values => {
                // Each part of it takes its turn.
                drop(turn);
                self.reseal(&settings, now, ground).await
            }
            Duty::Keys => {
                // What cannot be ended keeps nothing else: its token may be away for long.
                let tidy = self.tidy_up(&settings, now, ground).await;
                tidy.and(self.rotate(&settings, now, ground).await)
            }
        }
    }

    /// Gives a key of the built-in KMS a successor when it reached its age.
    async fn rotate(&self, settings: &TenantCatalog, now: Timestamp, ground: Ground<'_>) -> Result<(), Error> {
        let tenant = &settings.tenant.name;
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
        let (left, ended) = (states.clone().any(|state| state == Destroying), states.clone().any(KekState::is_over));
        if left || (ended && known().get(tenant) != Some(&settings.generation)) {
            shredding::finish(&self.node(tenant, now), ground).await?;
            known().insert(tenant.clone(), settings.generation);
        }
        Ok(())
    }

    /// Seals values anew. What came of it is said when it is something new.
    async fn reseal(&self, settings: &TenantCatalog, now: Timestamp, ground: Ground<'_>) -> Result<(), Error> {
        let tenant = &settings.tenant.name;
        let keks = settings.keks.values().map(|(_, kek)| kek);
        let compromise = Compromise::of(keks.clone());
        if !compromise.is_known() || !keks.clone().any(|kek| kek.state.may_wrap()) {
            return Ok(());
        }
        let Some(known) = self.resealing_of(tenant, compromise.era()) else { return Ok(()) };
        let is_over = known.since.elapsed() >= self.grace;
        let passed = resealing::pass(&self.node(tenant, now), is_over, &self.resealing, ground).await?;
        if passed != known.passed {
            let Passed { moved, refused, idle, left } = passed;
            tracing::info!(%tenant, moved, refused, idle, left, "values were sealed anew after a key was compromised");
        }
        let pause = if is_over && passed == known.passed && passed.moved == 0 { AGAIN } else { SOON };
        let after = Resealing { passed, next: Instant::now() + pause, ..known };
        self.compromised.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), after);
        Ok(())
    }

    /// What is known of a tenant in this era, if a pass is due. With each key that is compromised the time begins anew in which
    /// a request may hold a data key of before.
    fn resealing_of(&self, tenant: &TenantName, era: u32) -> Option<Resealing> {
        let (mut known, now) = (self.compromised.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let new = || Resealing { era, since: now, passed: Passed::default(), next: now };
        let found = *known
            .entry(tenant.clone())
            .and_modify(|known| {
                if known.era != era {
                    *known = new()
                }
            })
            .or_insert_with(new);
        (found.next <= now).then_some(found)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TestVault;

    #[tokio::test]
    async fn with_each_compromise_the_time_begins_anew_in_which_a_request_may_hold_a_data_key() {
        let vault = TestVault::start().await;
        let (store, catalog) = (vault.store.clone(), vault.catalog.clone());
        let upkeep = KeyUpkeep::new((store, catalog), vault.committer.clone(), vault.keys.clone(), None);
        let first = upkeep.resealing_of(&vault.tenant, 1).unwrap();
        assert_eq!(upkeep.resealing_of(&vault.tenant, 1).unwrap().since, first.since);
        let long_ago = first.since.checked_sub(GRACE * 2).unwrap();
        let tired = Resealing { since: long_ago, next: Instant::now() + AGAIN, ..first };
        upkeep.compromised.lock().unwrap().insert(vault.tenant.clone(), tired);
        assert!(upkeep.resealing_of(&vault.tenant, 1).is_none(), "nothing is to be done for a while");
        let second = upkeep.resealing_of(&vault.tenant, 2).unwrap();
        assert!(
            second.since > long_ago + GRACE,
            "a run that began before the second one holds a data key of the first"
        );
    }
}
