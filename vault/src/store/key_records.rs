//! The store as the place where records of keys are kept (the trait that keys/ declares).

use std::time::Duration;

use super::batch::Stored;
use super::records::Body;
use super::rows::{DataKeyRow, Table};
use super::{Error, Store, engine};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, KeyProviderId, Tenant, TenantName};
use crate::keys::{Guess, HsmKek, KekRecord, KekState, KeyRecords, LostDataKey, ProviderRecord, RecordsError};

/// Values are counted up to here.
pub(in crate::store) const MOST_COUNTED: u64 = 1_000_000;

impl KeyRecords for Store {
    async fn find_data_keys(
        &self,
        tenant: &TenantName,
        class: DataKeyClass,
        epoch: Epoch,
    ) -> Result<Vec<DataKeyRow>, RecordsError> {
        engine!(self, find_data_keys(class, epoch, tenant)).map_err(records)
    }

    async fn load_data_key(&self, tenant: &TenantName, id: DataKeyId) -> Result<Option<DataKeyRow>, RecordsError> {
        engine!(self, load_data_key(id, tenant)).map_err(records)
    }

    async fn lost_data_key(&self, tenant: &TenantName, id: DataKeyId) -> Result<Option<LostDataKey>, RecordsError> {
        engine!(self, lost_data_key(id, tenant)).map_err(records)
    }

    async fn insert_data_key(&self, row: DataKeyRow) -> Result<DataKeyRow, RecordsError> {
        let active = |stored: &Stored| {
            let row = self.inner.seal.check(stored.clone());
            row.and_then(|row| KekRecord::from_row(&row)).is_ok_and(|kek| kek.state.may_wrap())
        };
        let may_wrap = |stored: &[Stored]| stored.iter().any(active);
        engine!(self, insert_data_key(&row, may_wrap)).map_err(|error| match error {
            Error::Stale => RecordsError::Retired,
            error => records(error),
        })
    }

    async fn active_kek(&self, tenant: &TenantName) -> Result<Option<KekRecord>, RecordsError> {
        let rows = self.rows(Table::Keks, tenant).await.map_err(records)?;
        let mut active = None;
        for row in rows {
            let kek = KekRecord::from_row(&row).map_err(records)?;
            // Of several (a rotation under way) the newest wraps.
            if kek.state == KekState::Active
                && active
                    .as_ref()
                    .is_none_or(|other: &KekRecord| (other.created_at, other.version) < (kek.created_at, kek.version))
            {
                active = Some(kek);
            }
        }
        Ok(active)
    }

    async fn load_kek(
        &self,
        tenant: &TenantName,
        kek_id: KekId,
        version: u32,
    ) -> Result<Option<KekRecord>, RecordsError> {
        let key = KekRecord::key_of(kek_id, version);
        let row = self.row(Table::Keks, tenant, &key).await.map_err(records)?;
        row.map(|row| KekRecord::from_row(&row).map_err(records)).transpose()
    }

    async fn keks(&self, tenant: &TenantName) -> Result<Vec<KekRecord>, RecordsError> {
        let rows = self.rows(Table::Keks, tenant).await.map_err(records)?;
        rows.iter().map(|row| KekRecord::from_row(row).map_err(records)).collect()
    }

    async fn token_keks(&self) -> Result<Vec<HsmKek>, RecordsError> {
        let mut found = Vec::new();
        for tenant in self.tenants().await.map_err(records)? {
            let there = self.keks(&tenant).await?.into_iter().filter(|kek| kek.state != KekState::Destroyed);
            found.extend(there.filter_map(|kek| kek.hsm.map(|kek| *kek)));
        }
        Ok(found)
    }

    async fn guess(&self, by: &TenantName, token: &str) -> Result<Guess, RecordsError> {
        Self::guess(self, by, token).await.map_err(records)
    }

    async fn guess_back(&self, by: &TenantName, token: &str) -> Result<(), RecordsError> {
        Self::guess_back(self, by, token).await.map_err(records)
    }

    async fn guesses_over(&self, by: &TenantName, token: &str) -> Result<(), RecordsError> {
        Self::guesses_over(self, by, token).await.map_err(records)
    }

    async fn key_provider(
        &self,
        tenant: &TenantName,
        id: KeyProviderId,
    ) -> Result<Option<(u64, ProviderRecord)>, RecordsError> {
        let row = self.row(Table::KeyProviders, tenant, &id.to_string()).await.map_err(records)?;
        row.map(|row| Ok((row.version, ProviderRecord::from_row(&row).map_err(records)?))).transpose()
    }

    async fn cache_age(&self, tenant: &TenantName) -> Result<Option<Duration>, RecordsError> {
        let Some(row) = self.row(Table::Tenants, tenant, tenant.as_str()).await.map_err(records)? else {
            return Ok(None);
        };
        let tenant = Tenant::from_row(&row).map_err(records)?;
        Ok(Some(Duration::from_secs(u64::from(tenant.cache_seconds))))
    }
}

impl Store {
    /// Up to `limit` of a tenant's data keys with ids after `after`, in the order of ids: for the rewrap.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn data_keys_after(
        &self,
        tenant: &TenantName,
        after: Option<DataKeyId>,
        limit: u32,
    ) -> Result<Vec<DataKeyRow>, Error> {
        engine!(self, data_keys_after(after, limit, tenant))
    }

    /// How many of a tenant's data keys are wrapped under another KEK version than this.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn data_keys_elsewhere(&self, tenant: &TenantName, kek: &KekRecord) -> Result<u64, Error> {
        engine!(self, data_keys_elsewhere(kek.kek_id, kek.version, tenant))
    }

    /// How many data keys of a tenant each of its KEK versions wraps; a version that wraps none is not named.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Unreadable`].
    pub async fn data_keys_by_kek(&self, tenant: &TenantName) -> Result<Vec<(KekId, u32, u64)>, Error> {
        engine!(self, data_keys_by_kek(tenant))
    }

    /// How many values of a tenant there are, spent and expired ones that wait for the purge included; [`MOST_COUNTED`]
    /// says "at least so many": a destruction must not wait for a count.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn count_values(&self, tenant: &TenantName) -> Result<u64, Error> {
        engine!(self, count_values(MOST_COUNTED, tenant))
    }
}

fn records(error: Error) -> RecordsError {
    match error {
        Error::Tampered(_) | Error::Unreadable(_) => RecordsError::Altered,
        other => RecordsError::Unavailable(Box::new(other)),
    }
}
