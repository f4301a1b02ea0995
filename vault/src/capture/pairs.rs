//! The key pairs that frames seal to: one per tenant and day, made on first use, in memory no longer than data keys are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::Error;
use crate::crypto::CaptureKeyPair;
use crate::domain::{DataKeyClass, Epoch, Realm, Tenant, TenantName, Timestamp, lp};
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
    at: Timestamp,
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
        if let Some(pair) = self.fresh(tenant, Wanted::OfDay(day), now) {
            return Ok(pair);
        }
        let row = match store.capture_key_of(&tenant.name, day).await? {
            Some(row) => row,
            None => make(tenant, day, keys, store, now).await?,
        };
        self.open(tenant, &row, keys, store, now).await
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
        now: Timestamp,
    ) -> Result<Option<Arc<CaptureKeyPair>>, Error> {
        if let Some(pair) = self.fresh(tenant, Wanted::Named(key_id), now) {
            return Ok(Some(pair));
        }
        match store.capture_key(&tenant.name, &key_id).await? {
            Some(row) => self.open(tenant, &row, keys, store, now).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open(
        &self,
        tenant: &Tenant,
        row: &CaptureKeyRow,
        keys: &Keys,
        store: &Store,
        now: Timestamp,
    ) -> Result<Arc<CaptureKeyPair>, Error> {
        let data_key = keys.data_key(store, &tenant.name, row.data_key_id).await?;
        let aad = aad(keys.realm(), &tenant.name, row.epoch);
        let pair = Arc::new(CaptureKeyPair::open_private(row.key_id, &data_key, &aad, &row.sealed)?);
        if tenant.cache_seconds > 0 {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.retain(|_, other| now.since(other.at) < Duration::from_secs(300));
            for wanted in [Wanted::OfDay(row.epoch), Wanted::Named(row.key_id)] {
                opened.insert((tenant.name.clone(), wanted), Opened { pair: Arc::clone(&pair), at: now });
            }
        }
        Ok(pair)
    }

    /// A pair opened less than the tenant's cache time ago: the customer's key taken away stops captures as it stops reads.
    fn fresh(&self, tenant: &Tenant, wanted: Wanted, now: Timestamp) -> Option<Arc<CaptureKeyPair>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let found = opened.get(&(tenant.name.clone(), wanted))?;
        let young = now >= found.at && now.since(found.at) < Duration::from_secs(u64::from(tenant.cache_seconds));
        young.then(|| Arc::clone(&found.pair))
    }
}

async fn make(tenant: &Tenant, day: Epoch, keys: &Keys, store: &Store, now: Timestamp) -> Result<CaptureKeyRow, Error> {
    let data_key = keys.data_key_to_seal(store, &tenant.name, DataKeyClass::Capture, now).await?;
    let pair = CaptureKeyPair::generate()?;
    let row = CaptureKeyRow {
        tenant: tenant.name.clone(),
        key_id: pair.key_id(),
        epoch: day,
        data_key_id: data_key.id(),
        sealed: pair.seal_private(&data_key, &aad(keys.realm(), &tenant.name, day))?,
        created: now,
    };
    // Another node, or another request, may have been first: its pair is the day's then.
    Ok(store.insert_capture_key(row).await?)
}

/// lp(realm, tenant, day): the private half opens for no other tenant and no other day.
fn aad(realm: &Realm, tenant: &TenantName, day: Epoch) -> Vec<u8> {
    lp(&[realm.as_bytes(), tenant.as_bytes(), &day.0.to_be_bytes()])
}
