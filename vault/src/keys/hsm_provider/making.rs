//! Making, taking over and destroying KEK versions. A key exists in its token before any row speaks of it; what is not
//! committed is taken away again.

use std::sync::{Arc, PoisonError};

use hsm::{KekAttributes, KekSelector, TokenInfo, TokenSelector};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::evidence::facts;
use super::onboarding::{self, HsmWish, Tried};
use super::running::Running;
use super::{HsmProvider, MANAGE, in_token};
use crate::domain::{KekId, KeyProviderId, TenantName, Timestamp};
use crate::keys::hsm_records::{HsmKek, ProviderRecord};
use crate::keys::key_store::SecretName;
use crate::keys::{Error, KekRecord, KekState, KeyRecords, Keys};

/// A KEK version that exists and that no row speaks of yet.
pub struct MadeKek {
    /// Its record, to be committed.
    pub record: KekRecord,
    /// The row of the configuration, to be committed with it, and the version to write.
    pub provider: Option<(ProviderRecord, u64)>,
    /// What its entry says of module, token and key: evidence for an auditor.
    pub facts: Vec<(&'static str, String)>,
    /// Whether the present version's key answers in the token that this one is in: then it is the same token, whatever a
    /// module says of label and serial number.
    pub is_beside: bool,
    undo: Option<Undo>,
    /// The secret of one of the built-in KMS.
    secret: Option<SecretName>,
    /// The PIN that the configuration had before.
    old_pin: Option<SecretName>,
}

/// What must go again if nothing is committed.
struct Undo {
    running: Running,
    /// The key, if it was made and not found.
    made: Option<KekSelector>,
    pin: Option<SecretName>,
}

/// What a tenant has in tokens already.
#[derive(Default)]
pub(super) struct Known {
    pub(super) providers: Vec<(u64, ProviderRecord)>,
    /// Versions that still open something.
    keks: Vec<HsmKek>,
    /// The active version, where it lives in a token.
    pub(super) active: Option<HsmKek>,
}

impl Known {
    /// Everything about the tenant that a next version of this one must fit to.
    pub(super) async fn of<R: KeyRecords>(records: &R, tenant: &TenantName, active: &KekRecord) -> Result<Self, Error> {
        let mut known = Self { active: active.hsm.as_deref().cloned(), ..Self::default() };
        for kek in records.keks(tenant).await? {
            if kek.state == KekState::Destroyed {
                continue;
            }
            let (may_unwrap, Some(hsm)) = (kek.state.may_unwrap(), kek.hsm) else { continue };
            if let Some(provider) = records.key_provider(tenant, hsm.provider).await? {
                known.providers.push(provider);
            }
            known.keks.extend(Some(*hsm).filter(|_| may_unwrap));
        }
        Ok(known)
    }
}

/// Whether a key of a token stands behind a version already, of this tenant or another: one whose key may be in its token still. Asked
/// once the key was found, since it may have been made while this worker waited to log in. What is committed after that, the claims
/// keep apart.
pub(super) async fn is_known<R: KeyRecords>(records: &R, kek: &HsmKek) -> Result<bool, Error> {
    Ok(records.token_keks().await?.iter().any(|other| kek.is_same_key(other)))
}

/// A version of a KEK.
#[derive(Clone, Copy)]
struct Version {
    kek_id: KekId,
    version: u32,
    now: Timestamp,
}

impl MadeKek {
    /// One of the built-in KMS.
    pub(crate) fn local(tenant: &TenantName, record: KekRecord) -> Self {
        let secret = Some(SecretName::kek(tenant, record.kek_id, record.version));
        Self { record, provider: None, facts: Vec::new(), is_beside: false, undo: None, secret, old_pin: None }
    }
}

impl Keys {
    /// Refuses a version that was made and is not committed if another one has claimed its key by now.
    ///
    /// # Errors
    /// [`Error::HsmRefused`]; [`Error::Records`].
    pub async fn refuse_taken<R: KeyRecords>(&self, records: &R, made: &KekRecord) -> Result<(), Error> {
        let Some(claims) = made.hsm.as_ref().map(|kek| kek.claims()) else { return Ok(()) };
        let there = records.token_keks().await?;
        let is_taken = there.iter().any(|other| other.claims().iter().any(|claim| claims.contains(claim)));
        if is_taken { Err(onboarding::in_use()) } else { Ok(()) }
    }

    /// Takes a token on and makes a tenant's first KEK in it, or finds the one that is named. The caller commits record and
    /// configuration together, then calls [`Keys::take_on`] or [`Keys::give_up`].
    ///
    /// # Errors
    /// [`Error::HsmRefused`] with what a person must change; [`Error::Hsm`] where the token went away meanwhile.
    pub async fn onboard<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        wish: HsmWish,
        now: Timestamp,
    ) -> Result<MadeKek, Error> {
        let first = Version { kek_id: KekId::generate(now), version: 1, now };
        self.inner.provider.hsm.onboard(records, tenant, wish, (first, Known::default())).await
    }

    /// The same for the next version of a KEK, wherever the present one lives. A token that the tenant has already keeps its
    /// configuration's id: its module, hash and PIN become what was said now, which also ends a quarantine.
    ///
    /// # Errors
    /// As [`Keys::onboard`].
    pub async fn move_to_hsm<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        active: &KekRecord,
        wish: HsmWish,
        now: Timestamp,
    ) -> Result<MadeKek, Error> {
        let (known, next) = (Known::of(records, tenant, active).await?, self.next_in_token(tenant, active, now).await?);
        self.inner.provider.hsm.onboard(records, tenant, wish, (next, known)).await
    }

    /// The version after the active one. A database of before may count anew what had a number already: one that ended is passed
    /// over, or its end would be taken for that of the new one.
    async fn next_in_token(&self, tenant: &TenantName, active: &KekRecord, now: Timestamp) -> Result<Version, Error> {
        let mut version = active.version;
        loop {
            version = version.checked_add(1).ok_or(Error::KekUnusable)?;
            if self.inner.store.load(&SecretName::kek_end(tenant, active.kek_id, version)).await?.is_none() {
                return Ok(Version { kek_id: active.kek_id, version, now });
            }
        }
    }

    /// Makes the next version of a KEK in the token of the present one.
    ///
    /// # Errors
    /// [`Error::Hsm`], [`Error::HsmRefused`].
    pub async fn rotate_in_hsm<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        active: &KekRecord,
        now: Timestamp,
    ) -> Result<MadeKek, Error> {
        let (hsm, version) = (&self.inner.provider.hsm, self.next_in_token(tenant, active, now).await?);
        let (kek, _turn) = (in_token(active)?, hsm.turn_to_make(tenant).await?);
        let running = hsm.running(records, tenant, kek).await?;
        let (_, record) = records.key_provider(tenant, kek.provider).await?.ok_or(Error::KekUnusable)?;
        let (selector, host) = (named(tenant, version)?, running.host());
        let (wanted, whose) = (selector.clone(), tenant.clone());
        let made = blocking(move || {
            let tried = onboarding::made(&host, (&wanted, &whose))?;
            // After it: before its first call a host knows no token.
            Ok((tried, host.status().worker.map(|worker| worker.token)))
        });
        let (tried, token) = made.await?;
        let facts = facts(&record, token.as_ref(), &tried);
        // A second handle on the same host: it goes with this one, or stays with the first.
        let again = Running::new(running.place().clone(), running.version(), running.host(), Vec::new());
        let undo = Some(Undo { running: again, made: Some(selector), pin: None });
        let serial = token.map(|token| token.serial).unwrap_or_default();
        let record = kek_record(version, token_kek(kek.provider, serial, tried));
        Ok(MadeKek { record, provider: None, facts, is_beside: true, undo, secret: None, old_pin: None })
    }

    /// The version was committed: its host goes on with it.
    pub async fn take_on(&self, made: MadeKek) {
        let hsm = &self.inner.provider.hsm;
        let (Some(undo), Some((_, version))) = (made.undo, made.provider) else { return };
        let running = Arc::new(undo.running.settled(version));
        hsm.hosts().insert(running.place().clone(), running);
        let Some(old) = made.old_pin else { return };
        if let Err(error) = hsm.store.destroy(&old).await {
            tracing::warn!(tenant = %old.tenant, %error, "a PIN that is no longer used stays in the key store");
        }
    }

    /// Nothing was committed: what was made goes again, or is named in the service's log.
    pub async fn give_up(&self, made: MadeKek) {
        if let Some(secret) = &made.secret
            && let Err(error) = self.inner.store.destroy(secret).await
        {
            tracing::warn!(tenant = %secret.tenant, %error, "a key that was made for nothing stays in the key store");
        }
        let Some(Undo { running, made, pin }) = made.undo else { return };
        if let Some(selector) = made {
            running.take_away(selector).await;
        }
        let Some(pin) = pin else { return };
        if let Err(error) = self.inner.provider.hsm.store.destroy(&pin).await {
            tracing::warn!(tenant = %pin.tenant, %error, "a PIN that is not used stays in the key store");
        }
    }
}

impl Running {
    /// Takes a key away again that was made in its token for nothing.
    async fn take_away(&self, selector: KekSelector) {
        let (host, tenant) = (self.host(), self.place().0.clone());
        let taken = blocking(move || {
            onboarding::taken_away(&host, (&selector, &tenant));
            Ok(())
        });
        // It has said so itself where that failed.
        let _ = taken.await;
    }
}

impl HsmProvider {
    async fn onboard<R: KeyRecords>(
        &self,
        records: &R,
        tenant: &TenantName,
        wish: HsmWish,
        (version, known): (Version, Known),
    ) -> Result<MadeKek, Error> {
        let turn = self.turn_to_make(tenant).await?;
        // Whoever makes tenants would else guess under ever new names.
        let by = if version.version == 1 { &TenantName::system() } else { tenant };
        let (draft, host, token) = self.reached(records, (&wish, by), version.now).await?;
        let made_name = if wish.kek.is_none() { Some(named(tenant, version)?) } else { None };
        let (label, waive, wanted, whose) = (wish.kek, wish.waive, made_name.clone(), tenant.clone());
        let onboarded = blocking(move || {
            let tried = match (&wanted, &label) {
                (Some(selector), _) => onboarding::made(&host, (selector, &whose))?,
                (None, Some(label)) => onboarding::found(&host, (label, waive))?,
                (None, None) => return Err(Error::KekUnusable),
            };
            Ok((host, tried))
        });
        let (host, tried) = onboarded.await?;
        let (record, row_version, old) = settled(draft, &token, &known.providers);
        let old_pin = old.map(|version| SecretName::hsm_pin(tenant, record.provider_id, version));
        let mut facts = facts(&record, Some(&token), &tried);
        if waive && !tried.attributes.reservations().is_empty() {
            facts.push(("waived", "reservations".to_owned()));
        }
        let kek = token_kek(record.provider_id, token.serial, tried);
        // It cannot stand behind a second version: with the end of the first, which its own custodians can bring about, the
        // second would lose it.
        if made_name.is_none() && is_known(records, &kek).await? {
            return Err(onboarding::in_use());
        }
        let place = (tenant.clone(), record.provider_id);
        let of_token = known.keks.into_iter().filter(|kek| kek.provider == record.provider_id);
        let canaries: Vec<_> = of_token.map(|kek| kek.canary).chain([kek.canary.clone()]).collect();
        let active = known.active.filter(|kek| kek.provider == record.provider_id);
        let (host, is_beside) = watching(host, canaries.clone(), active).await?;
        drop::<[OwnedSemaphorePermit; 2]>(turn);
        let running = Running::new(place, row_version, Arc::new(host), canaries);
        let pin = SecretName::hsm_pin(tenant, record.provider_id, record.pin_version);
        let kek = kek_record(version, kek);
        let undo = Some(Undo { running, made: made_name, pin: Some(pin.clone()) });
        let made = MadeKek {
            record: kek,
            provider: Some((record, row_version)),
            facts,
            is_beside,
            undo,
            secret: None,
            old_pin,
        };
        // In the key store before any row speaks of it.
        match self.store.create_secret(&pin, &wish.pin.0).await {
            Ok(true) => Ok(made),
            stored => {
                // The key in the token would be an orphan.
                if let Some(Undo { running, made: Some(selector), .. }) = made.undo {
                    running.take_away(selector).await;
                }
                Err(stored.err().unwrap_or(Error::Damaged("a new secret is there already")))
            }
        }
    }

    /// One key is made for a tenant at a time, which takes long; and no longer than such a call may take is waited for it, so
    /// that a dead HSM holds up its own tenant only. The second turn is one of all calls'.
    pub(super) async fn turn_to_make(&self, tenant: &TenantName) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let own = {
            let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            making.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(making.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let turns = async { Ok([own.acquire_owned().await?, Arc::clone(&self.turns).acquire_owned().await?]) };
        let turns = tokio::time::timeout(MANAGE, turns).await;
        let turns = turns.map_err(|_| Error::Hsm(hsm::HsmError::Overloaded))?;
        turns.map_err(|_: tokio::sync::AcquireError| Error::Ending)
    }

    /// Ends the host of a configuration.
    pub(in crate::keys) fn let_go(&self, tenant: &TenantName, provider: KeyProviderId) {
        self.hosts().remove(&(tenant.clone(), provider));
    }
}

/// A name in the token that no other version, tenant, installation or earlier attempt has: label to read, id to tell apart.
fn named(tenant: &TenantName, version: Version) -> Result<KekSelector, Error> {
    let mut id = vec![0; 16];
    getrandom::fill(&mut id).map_err(Error::Random)?;
    Ok(KekSelector { label: Some(format!("siv-{tenant}-{}", version.version)), id: Some(id) })
}

/// What is known of a key of a token from now on.
pub(super) fn token_kek(provider: KeyProviderId, serial: String, tried: Tried) -> HsmKek {
    let Tried { canary, attributes, .. } = tried;
    let KekAttributes { check_value, public, .. } = attributes;
    HsmKek { provider, canary, check_value, public, serial: Some(serial).filter(|serial| !serial.is_empty()) }
}

fn kek_record(version: Version, kek: HsmKek) -> KekRecord {
    KekRecord {
        kek_id: version.kek_id,
        version: version.version,
        mechanism: kek.canary.kek.profile.to_string(),
        state: KekState::Active,
        created_at: version.now,
        compromised_at: None,
        ended: None,
        hsm: Some(Box::new(kek)),
    }
}

/// A number that no other attempt has, so that none overwrites or destroys another's PIN.
pub(super) fn pin_version() -> Result<u32, Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(u32::from_be_bytes(bytes).max(1))
}

/// The record as it is committed: the token by label and serial, under the id that this token has already if it has one;
/// then with the version of the PIN it had.
pub(super) fn settled(
    draft: ProviderRecord,
    token: &TokenInfo,
    known: &[(u64, ProviderRecord)],
) -> (ProviderRecord, u64, Option<u32>) {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let exact = TokenSelector { label: some(&token.label), serial: some(&token.serial), ..TokenSelector::default() };
    let same = |(_, record): &&(u64, ProviderRecord)| record.token == exact && exact.serial.is_some();
    match known.iter().find(same) {
        Some((version, record)) => {
            let changed = ProviderRecord { provider_id: record.provider_id, token: exact, ..draft };
            (changed, version + 1, Some(record.pin_version))
        }
        None => (ProviderRecord { token: exact, ..draft }, 1, None),
    }
}

/// The host told of the canaries, and whether the active key's is known there. One that cannot be told now tells its next
/// worker.
pub(super) async fn watching(
    host: hsm::Host,
    canaries: Vec<hsm::Canary>,
    active: Option<HsmKek>,
) -> Result<(hsm::Host, bool), Error> {
    blocking(move || {
        let told = host.watch(canaries, MANAGE);
        let findings = told.and_then(|()| host.ask_canaries(MANAGE));
        if let Err(error) = &findings {
            tracing::warn!(%error, "a worker was not told of its canaries");
        }
        let is_there = |kek: &HsmKek| findings.is_ok_and(|found| found.iter().all(|finding| finding.kek != *kek.kek()));
        let is_beside = active.as_ref().is_some_and(is_there);
        Ok((host, is_beside))
    })
    .await
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ending)?
}
