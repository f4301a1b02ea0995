//! A database of keys' records in memory and a key store in a throw-away folder, for the tests of the room.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::{
    DataKeyRow, Guess, HsmKek, KekRecord, KekState, KeyRecords, Keys, LostDataKey, ProviderRecord, RecordsError,
    RootKeySource,
};
use crate::crypto::LockedKey;
use crate::domain::{Clock, DataKeyClass, DataKeyId, Epoch, KekId, KeyProviderId, TenantName, Timestamp};

/// 2026-11-24T03:00:36.007Z.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

pub(super) fn tenant() -> TenantName {
    "demo".parse().unwrap()
}

/// What a key is.
#[expect(clippy::disallowed_methods, reason = "a test compares the key")]
pub(super) fn bytes_of(key: &LockedKey) -> [u8; 32] {
    *secrecy::ExposeSecret::expose_secret(key)
}

/// Opens or makes a key store whose root key lies beside it.
pub(super) async fn open(dir: &Path, clock: &Clock) -> Result<Keys, super::Error> {
    let root = RootKeySource::File(dir.join("root-key"));
    Keys::create_or_open(&dir.join("keys"), root, "eu-1".parse().unwrap(), clock.clone(), true).await
}

/// What the database would hold.
#[derive(Default)]
pub(super) struct Records {
    pub(super) rows: Mutex<Vec<DataKeyRow>>,
    pub(super) keks: Mutex<Vec<KekRecord>>,
    pub(super) providers: Mutex<Vec<(u64, ProviderRecord)>>,
    pub(super) loads: AtomicU32,
    /// PINs that count at any token.
    pub(super) guesses: AtomicU32,
    pub(super) age: Mutex<Option<Duration>>,
    /// Whoever has unwrapped a key says so here, and waits before it is kept.
    pub(super) unwrapped: Mutex<Option<(Arc<Notify>, Arc<Notify>)>>,
    /// What happens right after the rows of a class and epoch were read.
    pub(super) after_reading: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Records {
    /// A database whose tenant has a KEK.
    pub(super) async fn with_kek(keys: &Keys) -> Self {
        let records = Self::default();
        let kek = keys.create_kek(&tenant(), NOW).await.unwrap();
        records.keks.lock().unwrap().push(kek);
        records
    }

    pub(super) fn set_state(&self, version: u32, state: KekState) {
        for kek in self.keks.lock().unwrap().iter_mut().filter(|kek| kek.version == version) {
            kek.state = state;
        }
    }

    fn find(&self, wanted: impl Fn(&DataKeyRow) -> bool) -> Option<DataKeyRow> {
        self.rows.lock().unwrap().iter().find(|row| wanted(row)).cloned()
    }
}

impl KeyRecords for Records {
    async fn find_data_keys(
        &self,
        tenant: &TenantName,
        class: DataKeyClass,
        epoch: Epoch,
    ) -> Result<Vec<DataKeyRow>, RecordsError> {
        let rows = self.rows.lock().unwrap();
        let mut found: Vec<_> = rows
            .iter()
            .filter(|row| row.tenant == *tenant && row.class == class && row.epoch == epoch)
            .cloned()
            .collect();
        found.sort_by_key(|row| std::cmp::Reverse((row.era, row.part)));
        self.after_reading.lock().unwrap().iter().for_each(|happens| happens());
        Ok(found)
    }

    async fn load_data_key(&self, tenant: &TenantName, id: DataKeyId) -> Result<Option<DataKeyRow>, RecordsError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(self.find(|row| row.tenant == *tenant && row.data_key_id == id))
    }

    async fn insert_data_key(&self, row: DataKeyRow) -> Result<DataKeyRow, RecordsError> {
        let found = self.find_data_keys(&row.tenant, row.class, row.epoch).await?;
        if let Some(stored) = found.into_iter().find(|stored| (stored.era, stored.part) == (row.era, row.part)) {
            return Ok(stored);
        }
        self.rows.lock().unwrap().push(row.clone());
        Ok(row)
    }

    async fn active_kek(&self, _: &TenantName) -> Result<Option<KekRecord>, RecordsError> {
        Ok(self.keks.lock().unwrap().iter().find(|kek| kek.state.may_wrap()).cloned())
    }

    async fn load_kek(&self, _: &TenantName, id: KekId, version: u32) -> Result<Option<KekRecord>, RecordsError> {
        let keks = self.keks.lock().unwrap();
        Ok(keks.iter().find(|kek| kek.kek_id == id && kek.version == version).cloned())
    }

    async fn keks(&self, _: &TenantName) -> Result<Vec<KekRecord>, RecordsError> {
        Ok(self.keks.lock().unwrap().clone())
    }

    async fn token_keks(&self) -> Result<Vec<HsmKek>, RecordsError> {
        Ok(Vec::new())
    }

    async fn lost_data_key(&self, _: &TenantName, _: DataKeyId) -> Result<Option<LostDataKey>, RecordsError> {
        Ok(None)
    }

    async fn guess(&self, _: &TenantName, _: &str) -> Result<Guess, RecordsError> {
        self.guesses.fetch_add(1, Ordering::SeqCst);
        Ok(Guess::Counted(1))
    }

    async fn guess_back(&self, _: &TenantName, _: &str) -> Result<(), RecordsError> {
        self.guesses.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn guesses_over(&self, _: &TenantName, _: &str) -> Result<(), RecordsError> {
        Ok(())
    }

    async fn key_provider(
        &self,
        _: &TenantName,
        id: KeyProviderId,
    ) -> Result<Option<(u64, ProviderRecord)>, RecordsError> {
        let providers = self.providers.lock().unwrap();
        Ok(providers.iter().find(|(_, record)| record.provider_id == id).cloned())
    }

    async fn cache_age(&self, _: &TenantName) -> Result<Option<Duration>, RecordsError> {
        let gate = self.unwrapped.lock().unwrap().clone();
        if let Some((arrived, go_on)) = gate {
            arrived.notify_one();
            go_on.notified().await;
        }
        Ok(*self.age.lock().unwrap())
    }
}

/// A database in which looking for a row comes too early.
pub(super) struct Blind<'a>(pub(super) &'a Records);

impl KeyRecords for Blind<'_> {
    async fn find_data_keys(&self, _: &TenantName, _: DataKeyClass, _: Epoch) -> Result<Vec<DataKeyRow>, RecordsError> {
        Ok(Vec::new())
    }

    async fn load_data_key(&self, tenant: &TenantName, id: DataKeyId) -> Result<Option<DataKeyRow>, RecordsError> {
        self.0.load_data_key(tenant, id).await
    }

    async fn insert_data_key(&self, row: DataKeyRow) -> Result<DataKeyRow, RecordsError> {
        self.0.insert_data_key(row).await
    }

    async fn active_kek(&self, tenant: &TenantName) -> Result<Option<KekRecord>, RecordsError> {
        self.0.active_kek(tenant).await
    }

    async fn load_kek(&self, tenant: &TenantName, id: KekId, version: u32) -> Result<Option<KekRecord>, RecordsError> {
        self.0.load_kek(tenant, id, version).await
    }

    async fn keks(&self, tenant: &TenantName) -> Result<Vec<KekRecord>, RecordsError> {
        self.0.keks(tenant).await
    }

    async fn token_keks(&self) -> Result<Vec<HsmKek>, RecordsError> {
        self.0.token_keks().await
    }

    async fn lost_data_key(&self, tenant: &TenantName, id: DataKeyId) -> Result<Option<LostDataKey>, RecordsError> {
        self.0.lost_data_key(tenant, id).await
    }

    async fn guess(&self, by: &TenantName, token: &str) -> Result<Guess, RecordsError> {
        self.0.guess(by, token).await
    }

    async fn guess_back(&self, by: &TenantName, token: &str) -> Result<(), RecordsError> {
        self.0.guess_back(by, token).await
    }

    async fn guesses_over(&self, by: &TenantName, token: &str) -> Result<(), RecordsError> {
        self.0.guesses_over(by, token).await
    }

    async fn key_provider(
        &self,
        tenant: &TenantName,
        id: KeyProviderId,
    ) -> Result<Option<(u64, ProviderRecord)>, RecordsError> {
        self.0.key_provider(tenant, id).await
    }

    async fn cache_age(&self, tenant: &TenantName) -> Result<Option<Duration>, RecordsError> {
        self.0.cache_age(tenant).await
    }
}
