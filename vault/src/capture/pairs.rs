//! The key pairs that frames seal to: one per tenant and day, made on first use, in memory no longer than data keys are. After
//! a KEK was compromised the day has another one: the private half of the first may be known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::error::Error;
use crate::crypto::{CaptureKeyPair, DataKey};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, Realm, Tenant, TenantName, Timestamp, lp};
use crate::keys::Keys;
use crate::store::Store;
use crate::store::rows::CaptureKeyRow;

/// Key pairs by their id, and the id of each day's.
#[derive(Default)]
pub(super) struct Pairs {
    opened: Mutex<HashMap<(TenantName, Wanted), Opened>>,
}

/// How a pair is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// The pair of a day.
    OfDay(Epoch),
    /// The pair that a sealed body names.
    Named([u8; 16]),
}

struct Opened {
    pair: Arc<CaptureKeyPair>,
    /// What its private half was opened with. It stays in memory no longer than this does: the tenant's cache time, the
    /// erasure key's end and a seal reach both.
    data_key: DataKeyId,
    alive: Weak<DataKey>,
}

impl Pairs {
    /// The pair that frames of this tenant seal to today; made if there is none.
    ///
    /// # Errors
    /// [`Error::Keys`], [`Error::Store`].
    pub(super) async fn today(
        &self,
        tenant: &Tenant,
        keys: &Keys,
        store: &Store,
        now: Timestamp,
    ) -> Result<Arc<CaptureKeyPair>, Error> {
        let day = DataKeyClass::Capture.epoch(now);
        if let Some(pair) = self.fresh(tenant, Wanted::OfDay(day), keys) {
            return Ok(pair);
        }
        let data_key = keys.data_key_to_seal(store, &tenant.name, DataKeyClass::Capture, now).await?;
        let row = match store.capture_key_under(&tenant.name, data_key.id()).await? {
            Some(row) => row,
            None => make(tenant, (day, &data_key), keys, store, now).await?,
        };
        self.open(tenant, &row, keys, store).await
    }

    /// The pair a sealed body names; nothing if the tenant has none of this id.
    ///
    /// # Errors
    /// [`Error::Keys`], [`Error::Store`].
    pub(super) async fn named(
        &self,
        key_id: [u8; 16],
        tenant: &Tenant,
        keys: &Keys,
        store: &Store,
    ) -> Result<Option<Arc<CaptureKeyPair>>, Error> {
        if let Some(pair) = self.fresh(tenant, Wanted::Named(key_id), keys) {
            return Ok(Some(pair));
        }
        match store.capture_key(&tenant.name, &key_id).await? {
            Some(row) => self.open(tenant, &row, keys, store).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open(
        &self,
        tenant: &Tenant,
        row: &CaptureKeyRow,
        keys: &Keys,
        store: &Store,
    ) -> Result<Arc<CaptureKeyPair>, Error> {
        let data_key = keys.data_key(store, &tenant.name, row.data_key_id).await?;
        let aad = aad(keys.realm(), &tenant.name, row.epoch);
        let pair = Arc::new(CaptureKeyPair::open_private(row.key_id, &data_key, &aad, &row.sealed)?);
        if tenant.cache_seconds > 0 {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            for wanted in [Wanted::OfDay(row.epoch), Wanted::Named(row.key_id)] {
                let alive = Arc::downgrade(&data_key);
                let held = Opened { pair: Arc::clone(&pair), data_key: row.data_key_id, alive };
                opened.insert((tenant.name.clone(), wanted), held);
            }
        }
        Ok(pair)
    }

    /// A pair whose data key is still opened: the customer's key taken away stops captures as it stops reads.
    fn fresh(&self, tenant: &Tenant, wanted: Wanted, keys: &Keys) -> Option<Arc<CaptureKeyPair>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let found = opened.get(&(tenant.name.clone(), wanted))?;
        let young = tenant.cache_seconds > 0 && keys.cached(&tenant.name, found.data_key).is_some();
        young.then(|| Arc::clone(&found.pair))
    }

    /// Drops, and so wipes, every private half whose data key is gone.
    pub(super) fn sweep(&self) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, held| held.alive.strong_count() > 0);
    }
}

async fn make(
    tenant: &Tenant,
    (day, data_key): (Epoch, &DataKey),
    keys: &Keys,
    store: &Store,
    now: Timestamp,
) -> Result<CaptureKeyRow, Error> {
    let pair = CaptureKeyPair::generate()?;
    let row = CaptureKeyRow {
        tenant: tenant.name.clone(),
        key_id: pair.key_id(),
        epoch: day,
        data_key_id: data_key.id(),
        sealed: pair.seal_private(data_key, &aad(keys.realm(), &tenant.name, day))?,
        created: now,
    };
    // Another node, or another request, may have been first: its pair is the day's then.
    Ok(store.insert_capture_key(row).await?)
}

/// lp(realm, tenant, day): the private half opens for no other tenant and no other day.
fn aad(realm: &Realm, tenant: &TenantName, day: Epoch) -> Vec<u8> {
    lp(&[realm.as_bytes(), tenant.as_bytes(), &day.0.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::testing::TestVault;

    #[test]
    fn a_private_half_opens_as_its_vector_says() {
        let vector = crate::crypto::vectors::committed("capture-private.json");
        let text = |member: &str| vector[member].as_str().unwrap();
        let bytes = |member: &str| crate::domain::text::hex::decode(text(member)).unwrap();
        let id: DataKeyId = text("dataKeyId").parse().unwrap();
        let data_key = DataKey::init_with(id, |place| place.copy_from_slice(&bytes("dataKey")));
        let (realm, tenant) = (text("realm").parse().unwrap(), text("tenant").parse().unwrap());
        let aad = aad(&realm, &tenant, Epoch(vector["day"].as_u64().unwrap()));
        assert_eq!(aad, bytes("rowAad"));
        let key_id = bytes("keyId").try_into().unwrap();
        let pair = CaptureKeyPair::open_private(key_id, &data_key, &aad, &bytes("sealed")).unwrap();
        assert_eq!(pair.public_bytes()[..], bytes("publicKey"));
    }

    #[tokio::test]
    async fn a_private_half_leaves_memory_with_the_data_key_that_opened_it() {
        let vault = TestVault::start().await;
        let TestVault { keys, store, clock, .. } = &vault;
        let tenant = vault.catalog.tenant(&vault.tenant).await.unwrap().unwrap().tenant.clone();
        let pairs = Arc::new(Pairs::default());
        let held = Arc::downgrade(&pairs);
        keys.after_wiping(move || held.upgrade().map(|pairs| pairs.sweep()).is_some());
        let opened = || async { Arc::downgrade(&pairs.today(&tenant, keys, store, clock.now()).await.unwrap()) };
        let pair = opened().await;
        keys.wipe_idle();
        assert!(pair.upgrade().is_some(), "it is young");
        clock.advance(Duration::from_secs(u64::from(tenant.cache_seconds)));
        keys.wipe_idle();
        assert!(pair.upgrade().is_none(), "past the tenant's cache time");
        let pair = opened().await;
        assert!(pair.upgrade().is_some());
        keys.forget_tenant(&vault.tenant);
        assert!(pair.upgrade().is_none(), "the tenant was sealed");
    }

    #[tokio::test]
    async fn after_a_compromise_frames_seal_to_another_pair_and_what_they_sealed_before_opens() {
        let vault = TestVault::start().await;
        let TestVault { keys, store, clock, .. } = &vault;
        let tenant = vault.catalog.tenant(&vault.tenant).await.unwrap().unwrap().tenant.clone();
        let pairs = Pairs::default();
        let before = pairs.today(&tenant, keys, store, clock.now()).await.unwrap().key_id();
        assert_eq!(pairs.today(&tenant, keys, store, clock.now()).await.unwrap().key_id(), before);
        vault.compromise().await;
        let after = pairs.today(&tenant, keys, store, clock.now()).await.unwrap().key_id();
        assert_ne!(after, before, "its private half may be known");
        assert!(pairs.named(before, &tenant, keys, store).await.unwrap().is_some());
    }
}
