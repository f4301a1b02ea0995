//! Everything about keys: the key store, KEKs, data keys and their cache, erasure, MAC keys, log signing keys.
//!
//! Nothing here speaks SQL: records of keys come through [`KeyRecords`], which store/ implements.

mod cache;
mod compromise;
mod data_keys;
mod erasure;
mod error;
mod heads;
mod held;
mod hsm_provider;
mod hsm_records;
mod kek_end;
mod kek_state;
mod keks;
mod key_store;
mod local_kms;
mod log_signer;
mod lost;
mod macs;
mod medium;
pub mod meter;
mod opening;
mod provider;
mod records;
mod tallies;
mod wrapping;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod life_of_a_data_key;
#[cfg(test)]
mod silent_token;
#[cfg(test)]
mod vectors;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub use compromise::Compromise;
pub use data_keys::Rewrap;
pub use error::Error;
pub use heads::Head;
pub use held::HeldKeys;
pub use hsm_provider::{HsmNews, HsmPin, HsmRefusal, HsmSetup, HsmState, HsmWish, MadeKek, News, TriedToken, WAIVED};
pub use hsm_records::{HsmKek, ProviderRecord};
pub use kek_end::{HowEnded, KekEnd, Looked, NotAsked, Seen, SeenToken, Statement};
pub use kek_state::{KekState, UnknownState};
pub use key_store::{RootKeySource, RootKind, RootVersion, Rotated, Rotation, SecretKind, SecretName};
pub use local_kms::MECHANISM as LOCAL_MECHANISM;
pub use log_signer::LogSigner;
pub use lost::LostDataKey;
pub use macs::MacPurpose;
pub use medium::{Answer, Medium};
pub use opening::SealedKeys;
pub use records::{DataKeyRow, Guess, KekRecord, KeyRecords, RecordsError};

use crate::domain::{Clock, InstallationId, Realm, TenantName};
use key_store::KeyStore;

/// Everything about keys of one installation; clones share it.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    store: Arc<KeyStore>,
    provider: provider::KeyProvider,
    macs: macs::Macs,
    cache: cache::Cache,
    tallies: tallies::Tallies,
    meter: Arc<meter::Meter>,
    signers: Mutex<HashMap<TenantName, Arc<LogSigner>>>,
    writing_heads: tokio::sync::Mutex<()>,
    after_wiping: Mutex<Vec<AfterWiping>>,
}

/// What else goes when opened keys go; false once there is nothing more to wipe for.
type AfterWiping = Box<dyn Fn() -> bool + Send + Sync>;

impl Keys {
    /// The realm, as every AAD names it.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        self.inner.store.realm()
    }

    /// What they counted.
    #[must_use]
    pub fn meter(&self) -> &meter::Meter {
        &self.inner.meter
    }

    /// A rotation of the root key to the one of `source`; nothing is done yet.
    #[must_use]
    pub fn root_rotation(&self, source: RootKeySource) -> Rotation<'_> {
        Rotation::new(&self.inner.store, source)
    }

    /// The rotation of the root key that has no entry in the log yet.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub async fn root_rotated(&self) -> Result<Option<Rotated>, Error> {
        self.inner.store.rotated().await
    }

    /// Forgets it, once its entry is durable.
    ///
    /// # Errors
    /// The key store cannot be written.
    pub async fn forget_root_rotated(&self) -> Result<(), Error> {
        self.inner.store.forget_rotated().await
    }

    /// So much may be sealed under one data key, for tests.
    #[cfg(test)]
    pub(crate) fn seal_at_most(&self, most: u64) {
        self.inner.tallies.seal_at_most(most);
    }

    /// Whether other nodes may use the key store at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner.store.is_shared()
    }

    /// The installation's id; the database must hold the same.
    #[must_use]
    pub fn installation_id(&self) -> InstallationId {
        self.inner.store.installation_id()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.installation_id())
    }
}
