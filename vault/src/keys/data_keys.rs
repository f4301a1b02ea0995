//! A data key's life: made on first use, opened through erasure key, MAC and KEK, cached for a while.

mod left_behind;
mod looked_at;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use subtle::ConstantTimeEq as _;
use tracing::Instrument as _;
use zeroize::Zeroizing;

pub use left_behind::Rewrap;

use super::cache::{Flight, Ticket, Use};
use super::compromise::Compromise;
use super::key_store::SecretName;
use super::{DataKeyRow, Error, KekRecord, KeyRecords, Keys, MacPurpose, RecordsError, wrapping};
use crate::crypto::{DataKey, LockedKey};
use crate::domain::{DataKeyClass, DataKeyId, Epoch, TenantName, Timestamp};

/// So long a data key may take where the key store is not of this machine: who asks is told within two seconds.
const PATIENCE: Duration = Duration::from_millis(1900);
/// The same where an HSM is asked: who is told still has to write down that they were.
const HSM_PATIENCE: Duration = Duration::from_millis(1500);

/// The row of the data key that seals now, and what the tenant's compromised KEKs spoil: none of that seals.
async fn current_row<R: KeyRecords>(
    records: &R,
    tenant: &TenantName,
    class: DataKeyClass,
    epoch: Epoch,
) -> Result<(Option<DataKeyRow>, Compromise), Error> {
    let compromise = Compromise::of(&records.keks(tenant).await?);
    let found = records.find_data_keys(tenant, class, epoch).await?;
    if found.iter().any(|row| row.tenant != *tenant || row.class != class || row.epoch != epoch) {
        return Err(Error::Altered);
    }
    Ok((found.into_iter().find(|row| !compromise.spoils(row)), compromise))
}

impl Keys {
    /// The data key that seals what is created at `at`; erasure key, then data key, then row are made on first use.
    ///
    /// # Errors
    /// [`Error::NoKek`] without an active KEK, [`Error::Erased`] if `at` is so old that its key is gone already, and
    /// everything [`Keys::data_key`] refuses.
    pub async fn data_key_to_seal<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        class: DataKeyClass,
        at: Timestamp,
    ) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = self.current(tenant, class, class.epoch(at)) {
            return Ok(key);
        }
        // In a box: the rare way is long, and every request's future would carry it.
        Box::pin(self.in_time(tenant, self.find_or_make(records, tenant, class, at))).await
    }

    async fn find_or_make<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        class: DataKeyClass,
        at: Timestamp,
    ) -> Result<Arc<DataKey>, Error> {
        let epoch = class.epoch(at);
        let _turn = self.inner.cache.fly(Flight::Make(tenant.clone(), class, epoch)).await;
        if let Some(key) = self.current(tenant, class, epoch) {
            return Ok(key);
        }
        // Before anything is read: what a compromise spoils meanwhile must not become what seals.
        let ticket = self.inner.cache.ticket(tenant);
        let (row, compromise) = current_row(records, tenant, class, epoch).await?;
        if let Some(row) = row.as_ref().filter(|row| !row.closed && !self.inner.tallies.is_spent_by(row.data_key_id))
            && let Some(key) = self.opened_to_seal(records, row, (Use::Seals, ticket)).await?
        {
            return Ok(key);
        }
        let beside = (compromise, row.map_or(0, |row| row.part.saturating_add(1)));
        match self.make(records, (tenant, class, epoch), (at, ticket), beside).await {
            // A rotation came between: under the new version then.
            Err(Error::Records(RecordsError::Retired)) => {
                self.make(records, (tenant, class, epoch), (at, ticket), beside).await
            }
            made => made,
        }
    }

    /// The data key that seals now, if it is opened, fresh, and has not sealed too much.
    fn current(&self, tenant: &TenantName, class: DataKeyClass, epoch: Epoch) -> Option<Arc<DataKey>> {
        self.inner.cache.current(tenant, class, epoch).filter(|key| !self.inner.tallies.is_spent(key))
    }

    /// Whether values of the class could be sealed now: the present data key opens, or the tenant's KEK wraps one.
    /// Nothing is made and nothing stored, so that asking changes nothing.
    ///
    /// # Errors
    /// Those of [`Keys::data_key_to_seal`].
    pub async fn probe<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        class: DataKeyClass,
        at: Timestamp,
    ) -> Result<(), Error> {
        let epoch = class.epoch(at);
        if self.current(tenant, class, epoch).is_some() {
            return Ok(());
        }
        let (row, compromise) = current_row(records, tenant, class, epoch).await?;
        let opens = (Use::Opens, self.inner.cache.ticket(tenant));
        if let Some(row) = row.as_ref().filter(|row| !row.closed)
            && self.opened_to_seal(records, row, opens).await?.is_some()
        {
            return Ok(());
        }
        let kek = records.active_kek(tenant).await?.filter(|kek| kek.state.may_wrap()).ok_or(Error::NoKek)?;
        self.refuse_erased(class, epoch)?;
        let key = DataKey::generate(DataKeyId::generate(at))?;
        let row = Self::row((tenant, class, epoch), (&key, &kek), at, (compromise, 0));
        let context = wrapping::context(self.realm(), &row);
        self.wrapped(records, (&row, &kek), &context, &key).await.map(drop)
    }

    /// Waits no longer than a caller may be kept, in the line behind others included. A folder answers by itself; a key
    /// store behind a network, and an HSM, may hang.
    async fn in_time<T>(&self, tenant: &TenantName, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let patience = match (self.has_hsm(tenant), self.inner.store.is_shared()) {
            (true, _) => HSM_PATIENCE,
            (false, true) => PATIENCE,
            (false, false) => return asked.await,
        };
        tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(Error::timed_out()))
    }

    /// A row for a new data key, not yet wrapped.
    fn row(
        (tenant, class, epoch): (&TenantName, DataKeyClass, Epoch),
        (key, kek): (&DataKey, &KekRecord),
        created: Timestamp,
        (compromise, part): (Compromise, u32),
    ) -> DataKeyRow {
        DataKeyRow {
            tenant: tenant.clone(),
            data_key_id: key.id(),
            class,
            epoch,
            kek_id: kek.kek_id,
            kek_version: kek.version,
            mechanism: kek.mechanism.clone(),
            sealed: Vec::new(),
            created,
            era: compromise.era(),
            part,
            closed: false,
        }
    }

    /// The data key of an id, from the cache or opened.
    ///
    /// # Errors
    /// [`Error::NoDataKey`] if the tenant has none of this id, [`Error::Lost`] if that ended with a lost KEK version, [`Error::Erased`] after its erasure key's time,
    /// [`Error::KekUnusable`] if its KEK is gone or refused, [`Error::Altered`] if a record was changed.
    pub async fn data_key<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        id: DataKeyId,
    ) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = self.cached(tenant, id) {
            return Ok(key);
        }
        Box::pin(self.in_time(tenant, self.load(records, tenant, id))).await
    }

    async fn load<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        id: DataKeyId,
    ) -> Result<Arc<DataKey>, Error> {
        let _turn = self.inner.cache.fly(Flight::Open(tenant.clone(), id)).await;
        if let Some(key) = self.cached(tenant, id) {
            return Ok(key);
        }
        let ticket = self.inner.cache.ticket(tenant);
        let Some(row) = records.load_data_key(tenant, id).await? else {
            return Err(self.absent(records, tenant, id).await?);
        };
        if row.tenant != *tenant || row.data_key_id != id {
            return Err(Error::Altered);
        }
        self.open(records, &row, (Use::Opens, ticket)).await
    }

    /// The data key of an id if it is opened and fresh. No I/O: the committer may call it.
    #[must_use]
    pub fn cached(&self, tenant: &TenantName, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.inner.cache.get(tenant, id)
    }

    /// Sets how long a tenant's opened keys may stay in memory (0 to 300 s), at once; opening a key reads it anew.
    pub fn set_cache_age(&self, tenant: &TenantName, age: Duration) {
        self.inner.cache.set_age(tenant, age);
    }

    /// Wipes opened keys whose time is over.
    pub fn wipe_idle(&self) {
        self.inner.cache.sweep();
        self.inner.tallies.sweep(self.inner.clock.now());
        self.wipe_what_they_opened();
    }

    /// Wipes every opened key of a tenant.
    pub fn forget_tenant(&self, tenant: &TenantName) {
        self.inner.cache.forget(tenant);
        self.wipe_what_they_opened();
    }

    /// Which data keys seal is looked up anew: one of them may have been closed. What is opened stays.
    pub fn choose_anew(&self, tenant: &TenantName) {
        self.inner.cache.choose_anew(tenant);
    }

    /// Calls `wipe` whenever opened keys were wiped, until it says that nothing is left to wipe for: so that what a data
    /// key opened lives no longer than the key.
    pub fn after_wiping(&self, wipe: impl Fn() -> bool + Send + Sync + 'static) {
        self.inner.after_wiping.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(wipe));
    }

    fn wipe_what_they_opened(&self) {
        self.inner.after_wiping.lock().unwrap_or_else(PoisonError::into_inner).retain(|wipe| wipe());
    }

    async fn make<R: KeyRecords>(
        &self,
        records: &R,
        (tenant, class, epoch): (&TenantName, DataKeyClass, Epoch),
        (at, ticket): (Timestamp, Ticket),
        (compromise, part): (Compromise, u32),
    ) -> Result<Arc<DataKey>, Error> {
        let kek = records.active_kek(tenant).await?.filter(|kek| kek.state.may_wrap()).ok_or(Error::NoKek)?;
        // The erasure key first: a row whose erasure key was never durable would be lost with the next power cut.
        let erasure = self.erasure_key_to_seal(class, epoch).await?;
        let key = DataKey::generate(DataKeyId::generate(compromise.after(at)))?;
        let row = Self::row((tenant, class, epoch), (&key, &kek), at, (compromise, part));
        let row = self.wrap(records, (row, &kek), &key, erasure.as_ref()).await?;
        let stored = records.insert_data_key(row).await?;
        // An era moved by whoever writes to the database: the time in the id is authentic.
        if compromise.spoils(&stored) {
            return Err(Error::Altered);
        }
        if stored.data_key_id != key.id() {
            return self.open(records, &stored, (Use::Seals, ticket)).await;
        }
        let key = Arc::new(key.under(stored.kek_id).counted_by(self.inner.tallies.of(&stored)));
        self.keep(records, &stored, &key, (Use::Seals, ticket)).await?;
        Ok(key)
    }

    /// Caches an opened key for as long as its tenant allows now.
    async fn keep<R: KeyRecords>(
        &self,
        records: &R,
        row: &DataKeyRow,
        key: &Arc<DataKey>,
        to: (Use, Ticket),
    ) -> Result<(), Error> {
        if let Some(age) = records.cache_age(&row.tenant).await? {
            self.set_cache_age(&row.tenant, age);
        }
        self.inner.cache.put(&row.tenant, (row.class, row.epoch), key, to);
        Ok(())
    }

    /// W, from the key provider.
    async fn wrapped<R: KeyRecords>(
        &self,
        records: &R,
        (row, kek): (&DataKeyRow, &KekRecord),
        context: &[u8],
        key: &DataKey,
    ) -> Result<Vec<u8>, Error> {
        let span = tracing::debug_span!("kms", operation = "wrap", tenant = %row.tenant, kek_id = %row.kek_id);
        let wrapped = self.inner.provider.wrap(records, (row, kek), context, key.bytes()).instrument(span);
        self.inner.meter.wraps.count(wrapped).await
    }

    /// The row with W, H and seal made anew under the KEK it names.
    #[expect(clippy::disallowed_methods, reason = "key of the erasure seal")]
    async fn wrap<R: KeyRecords>(
        &self,
        records: &R,
        (mut row, kek): (DataKeyRow, &KekRecord),
        key: &DataKey,
        erasure: Option<&LockedKey>,
    ) -> Result<DataKeyRow, Error> {
        let context = wrapping::context(self.realm(), &row);
        let wrapped = self.wrapped(records, (&row, kek), &context, key).await?;
        let mac = self.inner.macs.newest(MacPurpose::DataKey);
        let erasure = erasure.map(ExposeSecret::expose_secret);
        row.sealed = wrapping::stored(&wrapped, &mac, erasure, self.realm(), &row)?;
        Ok(row)
    }

    /// A data key's row wrapped under the tenant's active KEK: values and states stay as they are.
    ///
    /// # Errors
    /// [`Error::NoKek`] without an active KEK, and everything [`Keys::data_key`] refuses; [`Error::Erased`] if its erasure
    /// key is away before its time, which a key store that is restored later may mend.
    pub async fn rewrap<R: KeyRecords>(&self, records: &R, row: &DataKeyRow) -> Result<Rewrap, Error> {
        let Some(erasure) = self.erasure_key_left(row).await? else { return Ok(Rewrap::Erased) };
        let kek = records.active_kek(&row.tenant).await?.filter(|kek| kek.state.may_wrap()).ok_or(Error::NoKek)?;
        let key = match self.open(records, row, (Use::Opens, self.inner.cache.ticket(&row.tenant))).await {
            Err(error) if self.is_passed_over(records, (row, &kek), &error).await? => {
                return Ok(Rewrap::LeftBehind(error));
            }
            opened => opened?,
        };
        let mechanism = kek.mechanism.clone();
        let renewed = DataKeyRow { kek_id: kek.kek_id, kek_version: kek.version, mechanism, ..row.clone() };
        let renewed = self.wrap(records, (renewed, &kek), &key, erasure.as_ref()).await?;
        // It replaces the only other copy: what does not come back the same is not committed.
        let again = self.unwrapped(records, (&renewed, &kek), erasure.as_ref()).await?;
        if again.ct_eq(&key.bytes()[..]).unwrap_u8() != 1 {
            return Err(Error::Altered);
        }
        Ok(Rewrap::Renewed(renewed))
    }

    async fn open<R: KeyRecords>(
        &self,
        records: &R,
        row: &DataKeyRow,
        to: (Use, Ticket),
    ) -> Result<Arc<DataKey>, Error> {
        let erasure = self.erasure_key_to_open(row.class, row.epoch).await?;
        let kek = self.kek_that_opens(records, row).await?;
        let bytes = self.unwrapped(records, (row, &kek), erasure.as_ref()).await?;
        let key = DataKey::init_with(row.data_key_id, |place| place.copy_from_slice(&bytes));
        let key = Arc::new(key.under(row.kek_id).counted_by(self.inner.tallies.of(row)));
        self.keep(records, row, &key, to).await?;
        Ok(key)
    }

    /// The 32 bytes of a row, after seal and H were checked; which KEK may unwrap is judged before.
    async fn unwrapped<R: KeyRecords>(
        &self,
        records: &R,
        (row, kek): (&DataKeyRow, &KekRecord),
        erasure: Option<&LockedKey>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrapped = self.as_written(row, erasure)?;
        let context = wrapping::context(self.realm(), row);
        let span = tracing::debug_span!("kms", operation = "unwrap", tenant = %row.tenant, kek_id = %row.kek_id);
        let unwrapped = self.inner.provider.unwrap(records, (row, kek), &context, &wrapped).instrument(span);
        let bytes = self.inner.meter.unwraps.count(unwrapped).await?;
        if bytes.len() == 32 { Ok(bytes) } else { Err(Error::Altered) }
    }

    async fn erasure_key_to_seal(&self, class: DataKeyClass, epoch: Epoch) -> Result<Option<LockedKey>, Error> {
        if self.refuse_erased(class, epoch)? {
            return Ok(None);
        }
        self.inner.store.create_key(&SecretName::erasure(class, epoch)).await.map(Some)
    }

    async fn erasure_key_to_open(&self, class: DataKeyClass, epoch: Epoch) -> Result<Option<LockedKey>, Error> {
        if self.refuse_erased(class, epoch)? {
            return Ok(None);
        }
        self.inner.store.load_key(&SecretName::erasure(class, epoch)).await?.ok_or(Error::Erased).map(Some)
    }

    /// Refuses an epoch whose erasure time is past, though the file be still there; true if the class has no erasure key.
    fn refuse_erased(&self, class: DataKeyClass, epoch: Epoch) -> Result<bool, Error> {
        match class.erased_at(epoch) {
            Some(gone) if self.inner.clock.now() >= gone => Err(Error::Erased),
            gone => Ok(gone.is_none()),
        }
    }
}
