//! Opening the keys of an installation at start, or making them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::cache::Cache;
use super::hsm_provider::HsmProvider;
use super::key_store::{KeyStore, SealedStore};
use super::local_kms::LocalKms;
use super::macs::Macs;
use super::meter::Meter;
use super::provider::KeyProvider;
use super::tallies::Tallies;
use super::{Error, Inner, Keys, MacPurpose, Medium, RootKeySource, heads};
use crate::crypto::MacKey;
use crate::domain::{Clock, Realm, SecretId};

/// The keys of an installation whose root key is not here yet (`root_key = "sealed"`).
pub struct SealedKeys {
    store: SealedStore,
    clock: Clock,
}

impl SealedKeys {
    /// Finds the key store in a folder, for this process alone.
    ///
    /// # Errors
    /// [`Error::NoKeyStore`], [`Error::InUse`], [`Error::OtherRealm`], or it is damaged.
    pub async fn find(dir: &Path, realm: Realm, clock: Clock) -> Result<Self, Error> {
        Ok(Self { store: SealedStore::find_in(dir, realm).await?, clock })
    }

    /// The same on a medium that is open, which other nodes may use too.
    ///
    /// # Errors
    /// As [`SealedKeys::find`], and [`Error::Unavailable`].
    pub async fn find_on(medium: Arc<dyn Medium>, realm: Realm, clock: Clock) -> Result<Self, Error> {
        Ok(Self { store: SealedStore::find(medium, realm).await?, clock })
    }

    /// Opens them. A root key that does not fit changes nothing.
    ///
    /// # Errors
    /// [`Error::WrongRootKey`], or the key store cannot be read.
    pub async fn open(&self, root: RootKeySource) -> Result<Keys, Error> {
        Keys::made_whole(self.store.open(root).await?, self.clock.clone(), false).await
    }
}

impl Keys {
    /// Opens the key store in a folder for this process alone; makes what is missing of a new one if `create` says so.
    ///
    /// # Errors
    /// [`Error::NoKeyStore`], [`Error::InUse`], [`Error::WrongRootKey`] and the other reasons not to start.
    pub async fn create_or_open(
        dir: &Path,
        root: RootKeySource,
        realm: Realm,
        clock: Clock,
        create: bool,
    ) -> Result<Self, Error> {
        let store = KeyStore::open(dir, root, realm, clock.now(), create).await?;
        Self::made_whole(store, clock, create).await
    }

    /// The same on a medium that is open, which other nodes may use too.
    ///
    /// # Errors
    /// As [`Keys::create_or_open`], and [`Error::Unavailable`].
    pub async fn create_or_open_on(
        medium: Arc<dyn Medium>,
        root: RootKeySource,
        realm: Realm,
        clock: Clock,
        create: bool,
    ) -> Result<Self, Error> {
        let store = KeyStore::open_on(medium, root, realm, clock.now(), create).await?;
        Self::made_whole(store, clock, create).await
    }

    async fn made_whole(store: KeyStore, clock: Clock, create: bool) -> Result<Self, Error> {
        let store = Arc::new(store);
        let making = create && !Macs::complete(&store).await?;
        // The MAC keys are made last: while one is missing the making is not finished, and heads may still be begun.
        if making {
            heads::begin(&store).await?;
        }
        let macs = Macs::load(&store, making).await?;
        Ok(Self::with(store, macs, clock))
    }

    fn with(store: Arc<KeyStore>, macs: Macs, clock: Clock) -> Self {
        let meter = Arc::<Meter>::default();
        let (local, hsm) =
            (LocalKms::new(Arc::clone(&store)), HsmProvider::new(Arc::clone(&store), Arc::clone(&meter)));
        let provider = KeyProvider { local, hsm };
        let cache = Cache::new(clock.clone(), Arc::clone(&meter));
        let (signers, writing_heads) = (Mutex::new(HashMap::new()), tokio::sync::Mutex::new(()));
        let after_wiping = Mutex::default();
        let tallies = Tallies::new();
        let inner = Inner { clock, store, provider, macs, cache, tallies, meter, signers, writing_heads, after_wiping };
        Self { inner: Arc::new(inner) }
    }

    /// The HMAC key that new MACs of a purpose are made with.
    #[must_use]
    pub fn mac(&self, purpose: MacPurpose) -> Arc<MacKey> {
        self.inner.macs.newest(purpose)
    }

    /// Every HMAC key of a purpose, the newest first: what a retired one made is still found.
    #[must_use]
    pub fn macs(&self, purpose: MacPurpose) -> &[Arc<MacKey>] {
        self.inner.macs.all(purpose)
    }

    /// The HMAC key of a purpose that a row names.
    #[must_use]
    pub fn mac_by_id(&self, purpose: MacPurpose, id: SecretId) -> Option<Arc<MacKey>> {
        self.inner.macs.by_id(purpose, id)
    }

    /// Whether any key of a purpose made this MAC, the newest first: for rows that name no key. Each is compared in constant
    /// time.
    #[must_use]
    pub fn verifies(&self, purpose: MacPurpose, message: &[u8], mac: &[u8; 32]) -> bool {
        self.inner.macs.all(purpose).iter().any(|key| key.verify(message, mac))
    }

    /// The pepper that new verifiers are made with.
    #[must_use]
    pub fn pepper(&self) -> Arc<MacKey> {
        self.inner.macs.pepper()
    }

    /// The pepper a row names.
    #[must_use]
    pub fn pepper_by_id(&self, id: SecretId) -> Option<Arc<MacKey>> {
        self.inner.macs.pepper_by_id(id)
    }
}
