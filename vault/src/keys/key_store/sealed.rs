//! A key store that was found and whose root key is not here: everything it holds is ciphertext, and nothing of it is read but
//! who it is.

use std::path::Path;
use std::sync::Arc;

use super::folder::Folder;
use super::identity::{self, Identity};
use super::{KeyStore, RootKeySource, root_key};
use crate::domain::Realm;
use crate::keys::{Error, Medium};

/// A key store without its root key. A folder is locked for this process already.
pub(in crate::keys) struct SealedStore {
    medium: Arc<dyn Medium>,
    realm: Realm,
}

impl SealedStore {
    /// Finds the key store in a folder.
    pub(in crate::keys) async fn find_in(dir: &Path, realm: Realm) -> Result<Self, Error> {
        Self::find(Arc::new(Folder::open(dir, false).await?), realm).await
    }

    /// The same on a medium that is open. One that is absent, damaged or of another realm is found out now, not when somebody
    /// brings the root key.
    pub(in crate::keys) async fn find(medium: Arc<dyn Medium>, realm: Realm) -> Result<Self, Error> {
        let found = Self { medium, realm };
        found.identity().await?;
        Ok(found)
    }

    /// Opens it under a root key; a wrong one changes nothing, and another can be tried.
    ///
    /// The seam for shares: a collector of them stands in front of this call, and makes it with what they combine to.
    pub(in crate::keys) async fn open(&self, source: impl Into<Arc<RootKeySource>>) -> Result<KeyStore, Error> {
        let (source, identity) = (source.into(), self.identity().await?);
        let kind = source.kind();
        let root = root_key(&source, identity.salt, false, &self.medium).await;
        let root = root.and_then(|root| identity.check(&root).map(|()| root));
        let root = root.map_err(|error| identity.refusal(kind, error))?;
        let store = KeyStore::with(identity, root, Arc::clone(&self.medium));
        store.sweep_roots().await?;
        Ok(store)
    }

    /// Who it is, by a seal that only the root key can check.
    async fn identity(&self) -> Result<Identity, Error> {
        let bytes = self.medium.read_clear(identity::FILE).await?.ok_or(Error::NoKeyStore)?;
        let identity = Identity::from_bytes(&bytes)?;
        if identity.realm == self.realm { Ok(identity) } else { Err(Error::OtherRealm) }
    }
}
