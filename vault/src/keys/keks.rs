//! Making and rotating KEKs of the built-in KMS, and the end of any KEK. Secrets go into the key store first, then the caller commits the record.

use std::collections::BTreeMap;

use super::key_store::SecretName;
use super::local_kms::MECHANISM;
use super::{Error, KekEnd, KekRecord, KekState, KeyRecords, Keys, Looked, MadeKek, NotAsked, Statement};
use crate::domain::{KekId, KeyProviderId, TenantName, Timestamp};

impl Keys {
    /// Makes a tenant's first KEK; the caller commits the record. Without that commit the secret is an orphan that
    /// protects nothing.
    ///
    /// # Errors
    /// The key store cannot be written, or there is no randomness.
    pub async fn create_kek(&self, tenant: &TenantName, now: Timestamp) -> Result<KekRecord, Error> {
        self.make_kek(tenant, KekId::generate(now), 1, now).await
    }

    /// Makes the next version of a KEK; numbers that a failed attempt used are passed over. The caller commits it as active together with the old one as deactivated,
    /// which still unwraps.
    ///
    /// # Errors
    /// The key store cannot be written, or there is no randomness.
    pub async fn rotate_kek(
        &self,
        tenant: &TenantName,
        active: &KekRecord,
        now: Timestamp,
    ) -> Result<KekRecord, Error> {
        let version = active.version.checked_add(1).ok_or(Error::KekUnusable)?;
        self.make_kek(tenant, active.kek_id, version, now).await
    }

    /// The next version in the built-in KMS, as [`Keys::onboard`] and its like give one.
    ///
    /// # Errors
    /// As [`Keys::rotate_kek`].
    pub async fn move_to_local(
        &self,
        tenant: &TenantName,
        active: &KekRecord,
        now: Timestamp,
    ) -> Result<MadeKek, Error> {
        self.rotate_kek(tenant, active, now).await.map(|record| MadeKek::local(tenant, record))
    }

    async fn make_kek(
        &self,
        tenant: &TenantName,
        kek_id: KekId,
        first: u32,
        now: Timestamp,
    ) -> Result<KekRecord, Error> {
        // Always fresh: what lies under a number without a row was left by an attempt that failed, and lies in copies of the key
        // store from before, or belongs to one that is under way. The number after it is free.
        let mut version = first;
        while !self.inner.store.create_fresh(&SecretName::kek(tenant, kek_id, version)).await? {
            version = version.checked_add(1).ok_or(Error::KekUnusable)?;
        }
        let mechanism = MECHANISM.to_owned();
        Ok(KekRecord {
            kek_id,
            version,
            mechanism,
            state: KekState::Active,
            created_at: now,
            compromised_at: None,
            ended: None,
            hsm: None,
        })
    }

    /// How a KEK version ended by what the key store knows: a database put back may speak of one that was destroyed meanwhile.
    /// One of the built-in KMS has no secret there any more; of one in a token it was written down.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub async fn known_end(&self, tenant: &TenantName, record: &KekRecord) -> Result<Option<KekEnd>, Error> {
        let (store, id, version) = (&self.inner.store, record.kek_id, record.version);
        if record.hsm.is_none() {
            let kept = store.load_key(&SecretName::kek(tenant, id, version)).await?;
            return Ok(kept.is_none().then(|| KekEnd::in_key_store(false)));
        }
        self.written_end(tenant, record).await
    }

    async fn written_end(&self, tenant: &TenantName, record: &KekRecord) -> Result<Option<KekEnd>, Error> {
        let name = SecretName::kek_end(tenant, record.kek_id, record.version);
        let Some(said) = self.inner.store.load(&name).await? else { return Ok(None) };
        serde_json::from_slice(&said).map(Some).map_err(|_| Error::Damaged("the end of a key does not read"))
    }

    /// Writes down in the key store how a version in a token ended: the first that does is believed. The token is asked no second
    /// time once its PIN is gone, and a database from before learns here what became of the key.
    ///
    /// # Errors
    /// The key store cannot be written.
    pub async fn write_end(&self, tenant: &TenantName, record: &KekRecord, end: KekEnd) -> Result<KekEnd, Error> {
        let said = serde_json::to_vec(&end).map_err(|_| Error::Damaged("the end of a key must serialise"))?;
        let name = SecretName::kek_end(tenant, record.kek_id, record.version);
        let is_first = self.inner.store.create_secret(&name, &said).await?;
        if is_first { Ok(end) } else { Ok(self.written_end(tenant, record).await?.unwrap_or(end)) }
    }

    /// Destroys a KEK version whose record is committed as `destroying`, in the key store or in its token, and says how it
    /// ended. Where the custodians state that the token is lost it is asked all the same, and waited for.
    ///
    /// # Errors
    /// [`Error::KekUnusable`] if the record is in another state; the key store cannot be written, or the token is away.
    pub async fn destroy_kek<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        record: &KekRecord,
        statement: Statement,
    ) -> Result<KekEnd, Error> {
        if record.state != KekState::Destroying {
            return Err(Error::KekUnusable);
        }
        self.forget_tenant(tenant);
        if record.hsm.is_none() {
            let name = SecretName::kek(tenant, record.kek_id, record.version);
            return self.inner.store.destroy(&name).await.map(KekEnd::in_key_store);
        }
        let written = self.written_end(tenant, record).await?;
        if let Some(end) = written.as_ref().filter(|end| !end.is_stated_of_a_version()) {
            return Ok(end.clone());
        }
        let ended = match self.inner.provider.hsm.destroy(records, tenant, record, statement).await {
            // Stated before, its PIN went with it.
            Err(Error::NotAsked(NotAsked::NoPin)) => written.ok_or(Error::NotAsked(NotAsked::NoPin))?,
            ended => self.write_end(tenant, record, ended?).await?,
        };
        if let Some(seen) = ended.seen {
            tracing::warn!(%tenant, kek = record.row_key(), seen = seen.as_str(), "a token that is said to be lost does not answer");
        }
        Ok(ended)
    }

    /// Whether a version's key can be had, as far as it can be found out now. Its token is waited for, and silent only where
    /// nobody could log in to it in all that time.
    ///
    /// # Errors
    /// [`Error::Hsm`] where the token neither answers nor is silent, to be asked again; the records cannot be read.
    pub async fn look_for_kek<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        record: &KekRecord,
    ) -> Result<Looked, Error> {
        let mut looked = self.inner.provider.hsm.look(records, tenant, record).await?;
        let kek = record.row_key();
        // Its PIN went with what two custodians stated before, of a database from after this one.
        if looked == Looked::NotAsked(NotAsked::NoPin)
            && let Some(end) = self.written_end(tenant, record).await?
        {
            looked = Looked::Gone(end);
        }
        match &looked {
            Looked::Gone(KekEnd { seen: Some(seen), .. }) => {
                tracing::warn!(%tenant, kek, seen = seen.as_str(), "a token that is said to be lost does not answer");
            }
            Looked::NotAsked(why) => {
                tracing::warn!(%tenant, kek, why = why.as_str(), "a token that is said to be lost was not asked");
            }
            _ => {}
        }
        Ok(looked)
    }

    /// Destroys the PINs of tokens in which no key of the tenant is left: the database says so already. How many.
    ///
    /// # Errors
    /// The key store cannot be written; the records cannot be read.
    pub async fn destroy_unused_pins<R: KeyRecords>(&self, records: &R, tenant: &TenantName) -> Result<usize, Error> {
        let mut providers = BTreeMap::new();
        for hsm in records.keks(tenant).await?.into_iter().filter_map(|kek| kek.hsm) {
            if let Some((_, record)) = records.key_provider(tenant, hsm.provider).await? {
                providers.insert(hsm.provider, record.pin_version);
            }
        }
        // The versions are read after the configurations: a move back into a token that comes between is seen here, and one
        // that comes later brings a PIN of its own under another number.
        let keks = records.keks(tenant).await?;
        let uses = |provider: &KeyProviderId| {
            let of = |kek: &&KekRecord| kek.hsm.as_ref().is_some_and(|hsm| hsm.provider == *provider);
            keks.iter().filter(of).any(|kek| !kek.state.is_over())
        };
        let mut destroyed = 0;
        for (provider, pin) in providers.into_iter().filter(|(provider, _)| !uses(provider)) {
            self.inner.provider.hsm.let_go(tenant, provider);
            destroyed += usize::from(self.inner.store.destroy(&SecretName::hsm_pin(tenant, provider, pin)).await?);
        }
        Ok(destroyed)
    }
}
