//! The key store: what must not lie in the database's backups (docs/formats.md section 4).
//!
//! Every secret is sealed under the root key before it reaches the medium; the medium sees ids and ciphertext.

mod directory;
mod folder;
mod identity;
mod root_key;
mod rotation;
mod sealed;
mod secret_name;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::Error;
use super::medium::Medium;
use crate::crypto::{LockedKey, envelope};
use crate::domain::{InstallationId, Realm, Timestamp, lp};
use folder::Folder;
use identity::Identity;
use root_key::RootKey;
pub use rotation::{Rotated, Rotation};
pub(super) use sealed::SealedStore;
pub use secret_name::{RootVersion, SecretKind, SecretName};
pub use source::{RootKeySource, RootKind};

/// A key store that is open: the root key fits, and no other process uses a folder.
pub(super) struct KeyStore {
    identity: Identity,
    root: RootKey,
    medium: Arc<dyn Medium>,
    making: tokio::sync::Mutex<()>,
}

impl KeyStore {
    /// Opens the key store in a folder; makes it first if there is none and `create` says so.
    pub(super) async fn open(
        dir: &Path,
        root: RootKeySource,
        realm: Realm,
        now: Timestamp,
        create: bool,
    ) -> Result<Self, Error> {
        let folder = Folder::open(dir, create).await?;
        Self::open_on(Arc::new(folder), root, realm, now, create).await
    }

    /// The same on a medium that is open.
    pub(super) async fn open_on(
        medium: Arc<dyn Medium>,
        source: RootKeySource,
        realm: Realm,
        now: Timestamp,
        create: bool,
    ) -> Result<Self, Error> {
        let source = Arc::new(source);
        if create && let Some((identity, root)) = made(&medium, &source, &realm, now).await? {
            return Ok(Self::with(identity, root, medium));
        }
        SealedStore::find(medium, realm).await?.open(source).await
    }

    /// A store whose root key fits.
    fn with(identity: Identity, root: RootKey, medium: Arc<dyn Medium>) -> Self {
        Self { identity, root, medium, making: tokio::sync::Mutex::new(()) }
    }

    pub(super) const fn realm(&self) -> &Realm {
        &self.identity.realm
    }

    pub(super) const fn installation_id(&self) -> InstallationId {
        self.identity.installation_id
    }

    /// Stores a secret durably unless the name has one already; true if this call stored it.
    async fn create(&self, name: &SecretName, secret: &[u8]) -> Result<bool, Error> {
        let sealed = envelope::seal(&self.sealing_key(name), &self.aad(name), secret)?;
        let created = self.medium.create(self.identity.root_version, name, sealed).await?;
        self.still().await.map(|()| created)
    }

    /// Stores a secret that others made, such as a PIN, durably; false if the name has one.
    pub(super) async fn create_secret(&self, name: &SecretName, secret: &[u8]) -> Result<bool, Error> {
        self.create(name, secret).await
    }

    /// A secret, if it is there.
    pub(super) async fn load(&self, name: &SecretName) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Some(sealed) = self.medium.read(self.identity.root_version, name).await? else {
            self.still().await?;
            return Ok(None);
        };
        Ok(Some(envelope::open(&self.sealing_key(name), &self.aad(name), &sealed)?))
    }

    /// A key, if it is there, in a place of its own.
    pub(super) async fn load_key(&self, name: &SecretName) -> Result<Option<LockedKey>, Error> {
        let Some(sealed) = self.medium.read(self.identity.root_version, name).await? else {
            self.still().await?;
            return Ok(None);
        };
        Ok(Some(envelope::open_key(&self.sealing_key(name), &self.aad(name), &sealed)?))
    }

    /// The key of a name; made of fresh random bytes, durably, if the name has none that opens.
    #[expect(clippy::disallowed_methods, reason = "plaintext of its seal")]
    pub(super) async fn create_key(&self, name: &SecretName) -> Result<LockedKey, Error> {
        // One at a time: a key that another task has named but not yet synced must not be used.
        let _alone = self.making.lock().await;
        if let Some(key) = self.load_key(name).await? {
            return Ok(key);
        }
        let key = LockedKey::try_init_with(|bytes| getrandom::fill(bytes).map_err(Error::Random))?;
        if self.create(name, key.expose_secret()).await? {
            return Ok(key);
        }
        self.load_key(name).await?.ok_or(Error::Damaged("a secret vanished while it was made"))
    }

    /// Makes a key of a name that has none; false if it has one, whether that opens or not.
    #[expect(clippy::disallowed_methods, reason = "plaintext of its seal")]
    pub(super) async fn create_fresh(&self, name: &SecretName) -> Result<bool, Error> {
        let key = LockedKey::try_init_with(|bytes| getrandom::fill(bytes).map_err(Error::Random))?;
        self.create(name, key.expose_secret()).await
    }

    /// The names of all secrets of a kind.
    pub(super) async fn list(&self, kind: SecretKind) -> Result<Vec<SecretName>, Error> {
        let names = self.medium.list(self.identity.root_version, kind).await?;
        self.still().await.map(|()| names)
    }

    /// Destroys a secret; false if it was not there.
    pub(super) async fn destroy(&self, name: &SecretName) -> Result<bool, Error> {
        let destroyed = self.medium.destroy(self.identity.root_version, name).await?;
        self.still().await.map(|()| destroyed)
    }

    /// Refuses what a node sees that outlived a rotation of the root key: to it everything is absent, and absent means
    /// destroyed to whoever asks.
    async fn still(&self) -> Result<(), Error> {
        let bytes = self.medium.read_clear(identity::FILE).await?.ok_or(Error::Damaged("its identity vanished"))?;
        let same = Identity::from_bytes(&bytes)?.root_version == self.identity.root_version;
        if same { Ok(()) } else { Err(Error::Damaged("its root key was rotated: start the node again")) }
    }

    /// A file that lies in clear.
    pub(super) async fn read_clear(&self, file: &'static str) -> Result<Option<Vec<u8>>, Error> {
        self.medium.read_clear(file).await
    }

    /// Replaces a file that lies in clear, as a whole and durably, if it is still `old`.
    pub(super) async fn swap_clear(
        &self,
        file: &'static str,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
    ) -> Result<bool, Error> {
        self.medium.swap_clear(file, old, new).await
    }

    /// Whether other nodes may use it at the same time.
    pub(super) fn is_shared(&self) -> bool {
        self.medium.is_shared()
    }

    fn sealing_key(&self, name: &SecretName) -> Zeroizing<[u8; 32]> {
        self.root.sealing_key(self.identity.key_store_id, name.kind.as_str())
    }

    /// lp(kind, realm, tenant, id, version): a secret under another name does not open.
    fn aad(&self, name: &SecretName) -> Vec<u8> {
        lp(&[
            name.kind.as_str().as_bytes(),
            self.identity.realm.as_bytes(),
            name.tenant.as_bytes(),
            name.id.as_bytes(),
            &name.version.to_be_bytes(),
        ])
    }
}

/// A new identity with its root key, where there was none and nothing to lose; nothing where another node made one.
async fn made(
    medium: &Arc<dyn Medium>,
    source: &Arc<RootKeySource>,
    realm: &Realm,
    now: Timestamp,
) -> Result<Option<(Identity, RootKey)>, Error> {
    if medium.read_clear(identity::FILE).await?.is_some() {
        return Ok(None);
    }
    // A key store that lost its identity still holds secrets: making a new one would orphan them all.
    if !medium.is_empty().await? {
        return Err(Error::Damaged("its identity is missing"));
    }
    let salt = crate::crypto::random()?;
    let root = root_key(source, salt, true, medium).await?;
    let identity = Identity::create((&root, source.kind()), realm, salt, now)?;
    let ours = medium.swap_clear(identity::FILE, None, identity.to_bytes()).await?;
    Ok(ours.then_some((identity, root)))
}

async fn root_key(
    source: &Arc<RootKeySource>,
    salt: [u8; 16],
    create: bool,
    medium: &Arc<dyn Medium>,
) -> Result<RootKey, Error> {
    let (source, medium) = (Arc::clone(source), Arc::clone(medium));
    blocking(move || source.root_key(medium.folder(), &salt, create)).await
}

/// Runs file work where it does not hold up the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ending)?
}
