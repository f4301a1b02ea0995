//! The key store: what must not lie in the database's backups (docs/formats.md section 4).
//!
//! Every secret is sealed under the root key before it reaches the medium; the medium sees ids and ciphertext.

mod directory;
mod identity;
mod root_key;
mod secret_name;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Error;
use crate::crypto::envelope;
use crate::domain::{InstallationId, KeyStoreId, Realm, Timestamp, lp};
use directory::Directory;
use root_key::RootKey;
pub(super) use secret_name::{SecretKind, SecretName};
pub use source::RootKeySource;

/// A key store that is open: the root key fits and no other process uses it.
pub(super) struct KeyStore {
    id: KeyStoreId,
    installation_id: InstallationId,
    realm: Realm,
    root: RootKey,
    medium: Medium,
    making: tokio::sync::Mutex<()>,
}

/// Where the sealed bytes lie. A second database can follow here without a change elsewhere.
#[derive(Clone)]
enum Medium {
    Directory(Arc<Directory>),
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
        let dir = dir.to_owned();
        blocking(move || Self::open_directory(&dir, &root, realm, now, create)).await
    }

    fn open_directory(
        dir: &Path,
        source: &RootKeySource,
        realm: Realm,
        now: Timestamp,
        create: bool,
    ) -> Result<Self, Error> {
        let directory = Directory::open(dir, create)?;
        let (identity, root) = match directory.read_clear(identity::FILE)? {
            Some(bytes) => {
                let identity = identity::Identity::from_bytes(&bytes)?;
                let root = source.root_key(dir, &identity.salt, false)?;
                (identity, root)
            }
            None if !create => return Err(Error::NoKeyStore),
            // A key store that lost its identity still holds secrets: making a new one would orphan them all.
            None if !directory.is_empty()? => return Err(Error::Damaged("its identity is missing")),
            None => {
                let salt = crate::crypto::random()?;
                let root = source.root_key(dir, &salt, true)?;
                let identity = identity::Identity::create(&root, &realm, salt, now)?;
                directory.create(Path::new(identity::FILE), &identity.to_bytes())?;
                (identity, root)
            }
        };
        if identity.realm != realm {
            return Err(Error::OtherRealm);
        }
        identity.check(&root)?;
        let medium = Medium::Directory(Arc::new(directory));
        let (id, installation_id) = (identity.key_store_id, identity.installation_id);
        Ok(Self { id, installation_id, realm, root, medium, making: tokio::sync::Mutex::new(()) })
    }

    pub(super) const fn realm(&self) -> &Realm {
        &self.realm
    }

    pub(super) const fn installation_id(&self) -> InstallationId {
        self.installation_id
    }

    /// Stores a secret durably unless the name has one already; true if this call stored it.
    async fn create(&self, name: &SecretName, secret: &[u8]) -> Result<bool, Error> {
        let sealed = envelope::seal(&self.sealing_key(name), &self.aad(name), secret)?;
        let (Medium::Directory(directory), path) = (self.medium.clone(), name.path());
        blocking(move || directory.create(&path, &sealed)).await
    }

    /// A secret, if it is there.
    pub(super) async fn load(&self, name: &SecretName) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let (Medium::Directory(directory), path) = (self.medium.clone(), name.path());
        let Some(sealed) = blocking(move || directory.read(&path)).await? else { return Ok(None) };
        Ok(Some(envelope::open(&self.sealing_key(name), &self.aad(name), &sealed)?))
    }

    /// A secret of 32 bytes, if it is there.
    pub(super) async fn load_key(&self, name: &SecretName) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
        let Some(secret) = self.load(name).await? else { return Ok(None) };
        let mut key = Zeroizing::new([0; 32]);
        if secret.len() != key.len() {
            return Err(Error::Altered);
        }
        key.copy_from_slice(&secret);
        Ok(Some(key))
    }

    /// The secret of 32 bytes of a name; made of fresh random bytes, durably, if it is not there.
    pub(super) async fn create_key(&self, name: &SecretName) -> Result<Zeroizing<[u8; 32]>, Error> {
        // One at a time: a key that another task has named but not yet synced must not be used.
        let _alone = self.making.lock().await;
        if let Some(key) = self.load_key(name).await? {
            return Ok(key);
        }
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut key[..]).map_err(Error::Random)?;
        if self.create(name, &key[..]).await? {
            return Ok(key);
        }
        self.load_key(name).await?.ok_or(Error::Damaged("a secret vanished while it was made"))
    }

    /// The names of all secrets of a kind.
    pub(super) async fn list(&self, kind: SecretKind) -> Result<Vec<SecretName>, Error> {
        let Medium::Directory(directory) = self.medium.clone();
        blocking(move || directory.list(kind)).await
    }

    /// Destroys a secret; false if it was not there.
    pub(super) async fn destroy(&self, name: &SecretName) -> Result<bool, Error> {
        let (Medium::Directory(directory), path) = (self.medium.clone(), name.path());
        blocking(move || directory.destroy(&path)).await
    }

    /// A file that lies in clear.
    pub(super) async fn read_clear(&self, file: &'static str) -> Result<Option<Vec<u8>>, Error> {
        let Medium::Directory(directory) = self.medium.clone();
        blocking(move || directory.read_clear(file)).await
    }

    /// Replaces a file that lies in clear, as a whole and durably.
    pub(super) async fn replace_clear(&self, file: &'static str, bytes: Vec<u8>) -> Result<(), Error> {
        let Medium::Directory(directory) = self.medium.clone();
        blocking(move || directory.replace(file, &bytes)).await
    }

    fn sealing_key(&self, name: &SecretName) -> Zeroizing<[u8; 32]> {
        self.root.sealing_key(self.id, name.kind.as_str())
    }

    /// lp(kind, realm, tenant, id, version): a secret under another name does not open.
    fn aad(&self, name: &SecretName) -> Vec<u8> {
        lp(&[
            name.kind.as_str().as_bytes(),
            self.realm.as_bytes(),
            name.tenant.as_bytes(),
            name.id.as_bytes(),
            &name.version.to_be_bytes(),
        ])
    }
}

/// Runs file work where it does not hold up the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ending)?
}
