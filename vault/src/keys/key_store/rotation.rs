//! Another root key for a key store (docs/formats.md section 4): everything is sealed anew beside what is there, then one file is
//! switched, then the old is overwritten and removed. Killed at any step, the key store opens under the old root key or under
//! the new one, whole.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::secret_name::{RootVersion, SecretKind, SecretName};
use super::{KeyStore, RootKeySource, root_key};
use crate::crypto::envelope;
use crate::domain::{Timestamp, lp};
use crate::keys::Error;

/// What a rotation did, for the entry that the next start of a node writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotated {
    /// The version of the root key from then on.
    pub root_version: u32,
    /// How many secrets were sealed anew.
    pub secrets: u64,
    /// When, in milliseconds.
    pub at: u64,
}

/// The file in which a rotation waits for its entry.
const NOTE: &str = "rotation";
const KIND: &str = "rotation";

/// A rotation that was not begun.
pub struct Rotation<'a> {
    store: &'a KeyStore,
    source: Arc<RootKeySource>,
}

impl<'a> Rotation<'a> {
    pub(in crate::keys) fn new(store: &'a KeyStore, source: RootKeySource) -> Self {
        Self { store, source: Arc::new(source) }
    }

    /// How many secrets there are to seal anew.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub async fn count(&self) -> Result<u64, Error> {
        let mut count = 0;
        for kind in SecretKind::ALL {
            count += self.store.list(kind).await?.len() as u64;
        }
        Ok(count)
    }

    /// Does it; `told` hears how many secrets are done. No node may be running on the key store. This process goes on under
    /// the old root key and must end.
    ///
    /// # Errors
    /// [`Error::RootKey`] if the new root key is the old one, cannot be had or is kept unsafely; the key store's.
    pub async fn run(self, now: Timestamp, told: impl Fn(u64)) -> Result<Rotated, Error> {
        let Self { store, source } = self;
        let (medium, from) = (&store.medium, store.identity.root_version);
        let salt = crate::crypto::random()?;
        let root = root_key(&source, salt, true, medium).await?;
        if store.identity.check(&root).is_ok() {
            return Err(Error::RootKey("the new one is the one the key store has"));
        }
        let new = KeyStore::with(store.identity.under((&root, source.kind()), salt)?, root, Arc::clone(medium));
        let to = new.identity.root_version;
        // What an attempt that was killed left is sealed under a root key that nobody may have kept.
        medium.remove_root(to).await?;
        let mut secrets = 0;
        for kind in SecretKind::ALL {
            for name in store.list(kind).await? {
                let secret = store.load(&name).await?.ok_or(Error::Damaged("a secret vanished"))?;
                let sealed = envelope::seal(&new.sealing_key(&name), &new.aad(&name), &secret)?;
                medium.create(to, &name, sealed).await?;
                // Read back: once the old is gone, there is nothing to compare with.
                let back = medium.read(to, &name).await?.ok_or(Error::Damaged("a new secret vanished"))?;
                if *envelope::open(&new.sealing_key(&name), &new.aad(&name), &back)? != *secret {
                    return Err(Error::Altered);
                }
                secrets += 1;
                told(secrets);
            }
        }
        let done = Rotated { root_version: to.0, secrets, at: now.as_millis() };
        new.note(&done).await?;
        let identity = (store.identity.to_bytes(), new.identity.to_bytes());
        if !medium.switch_root(identity, from, to).await? {
            return Err(Error::Damaged("it changed while it was sealed anew: stop every node, and run it again"));
        }
        // From here on the new root key opens it. The old one must not open anything that stays.
        medium.remove_root(from).await?;
        Ok(done)
    }
}

impl KeyStore {
    /// Removes what rotations that were killed left: what lies under older root keys, and in a folder, which nobody else has
    /// open, what was begun under a later one. Only what is here too: an identity that somebody put back from before a
    /// rotation, or beside another backup's secrets, must not cost the ones that are left.
    pub(super) async fn sweep_roots(&self) -> Result<(), Error> {
        let own = self.identity.root_version;
        for version in self.medium.root_versions().await? {
            let is_left = version < own || (version > own && !self.medium.is_shared());
            if !is_left {
                continue;
            }
            if !self.has_all_of(version).await? {
                return Err(Error::Damaged(
                    "it holds secrets of another root key than its identity is of: put back identity and secrets of one backup",
                ));
            }
            self.medium.remove_root(version).await?;
        }
        Ok(())
    }

    /// Whether each secret under another version of the root key is here under the present one. In a database other nodes may
    /// have destroyed some since.
    async fn has_all_of(&self, version: RootVersion) -> Result<bool, Error> {
        let (own, mut any) = (self.identity.root_version, false);
        for kind in SecretKind::ALL {
            let here: HashSet<SecretName> = self.medium.list(own, kind).await?.into_iter().collect();
            any |= !here.is_empty();
            let there = self.medium.list(version, kind).await?;
            if !self.medium.is_shared() && there.iter().any(|name| !here.contains(name)) {
                return Ok(false);
            }
        }
        Ok(any)
    }

    /// The rotation that has no entry yet. A note of one that never came to its switch was sealed under another root key, and
    /// is none.
    pub(in crate::keys) async fn rotated(&self) -> Result<Option<Rotated>, Error> {
        let Some(sealed) = self.read_clear(NOTE).await? else { return Ok(None) };
        let Ok(opened) = envelope::open(&self.note_key(), &self.note_aad(), &sealed) else { return Ok(None) };
        serde_json::from_slice(&opened).map(Some).map_err(|_| Error::Damaged("the note of a rotation cannot be read"))
    }

    /// Forgets the note, once its entry is durable.
    pub(in crate::keys) async fn forget_rotated(&self) -> Result<(), Error> {
        let there = self.read_clear(NOTE).await?;
        self.swap_clear(NOTE, there, Vec::new()).await.map(drop)
    }

    async fn note(&self, done: &Rotated) -> Result<(), Error> {
        let there = self.read_clear(NOTE).await?;
        let text = serde_json::to_vec(done).map_err(|_| Error::Damaged("a note cannot be written"))?;
        let sealed = envelope::seal(&self.note_key(), &self.note_aad(), &text)?;
        if self.swap_clear(NOTE, there, sealed).await? {
            return Ok(());
        }
        Err(Error::Damaged("two rotations at once: stop one of them"))
    }

    fn note_key(&self) -> zeroize::Zeroizing<[u8; 32]> {
        self.root.sealing_key(self.identity.key_store_id, KIND)
    }

    fn note_aad(&self) -> Vec<u8> {
        let RootVersion(version) = self.identity.root_version;
        lp(&[KIND.as_bytes(), self.identity.realm.as_bytes(), &version.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::SecretString;

    use super::*;
    use crate::domain::{DataKeyClass, Epoch, TenantName};
    use crate::keys::fixture::bytes_of;
    use crate::keys::key_store::tests::opened;

    const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

    fn file(dir: &Path, name: &str) -> RootKeySource {
        RootKeySource::File(dir.join(name))
    }

    async fn open(dir: &Path, root: RootKeySource, create: bool) -> Result<KeyStore, Error> {
        let open = async |root| KeyStore::open(&dir.join("keys"), root, "eu-1".parse().unwrap(), NOW, create).await;
        let RootKeySource::File(path) = &root else { return open(root).await };
        opened(async || open(RootKeySource::File(path.clone())).await).await
    }

    fn names() -> Vec<SecretName> {
        let log: TenantName = "demo".parse().unwrap();
        vec![SecretName::erasure(DataKeyClass::Session, Epoch(1)), SecretName::log_signing(&log, 1)]
    }

    /// A key store with two secrets, and what they are.
    async fn made(dir: &Path) -> (KeyStore, Vec<[u8; 32]>) {
        let store = open(dir, file(dir, "one"), true).await.unwrap();
        let mut secrets = Vec::new();
        for name in names() {
            secrets.push(bytes_of(&store.create_key(&name).await.unwrap()));
        }
        (store, secrets)
    }

    async fn holds(store: &KeyStore, secrets: &[[u8; 32]]) -> bool {
        for (name, secret) in names().iter().zip(secrets) {
            if store.load_key(name).await.ok().flatten().is_none_or(|found| bytes_of(&found) != *secret) {
                return false;
            }
        }
        true
    }

    #[tokio::test]
    async fn after_a_rotation_the_new_root_key_opens_everything_and_the_old_one_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, secrets) = made(dir.path()).await;
        let (id, told) = (store.installation_id(), std::sync::Mutex::new(Vec::new()));
        let rotation = Rotation::new(&store, file(dir.path(), "two"));
        assert_eq!(rotation.count().await.unwrap(), 2);
        let done = rotation.run(NOW, |at| told.lock().unwrap().push(at)).await.unwrap();
        assert_eq!((done.root_version, done.secrets, told.into_inner().unwrap()), (2, 2, vec![1, 2]));
        assert!(!dir.path().join("keys/erasure").exists() && !dir.path().join("keys/log-signing").exists());
        // The process that rotated, or a node that outlived it, must not take absent for destroyed.
        assert!(matches!(store.load_key(&names()[0]).await, Err(Error::Damaged(_))));
        assert!(store.list(SecretKind::Erasure).await.is_err() && store.create_key(&names()[0]).await.is_err());
        drop(store);
        let old = open(dir.path(), file(dir.path(), "one"), true).await;
        assert!(matches!(old, Err(Error::WrongRootKey)));
        let store = open(dir.path(), file(dir.path(), "two"), false).await.unwrap();
        assert!(store.installation_id() == id && holds(&store, &secrets).await);
        assert_eq!(store.rotated().await.unwrap(), Some(done));
        store.forget_rotated().await.unwrap();
        assert_eq!(store.rotated().await.unwrap(), None);
        // And on to a passphrase.
        let passphrase = || RootKeySource::Passphrase(SecretString::from("correct horse battery"));
        Rotation::new(&store, passphrase()).run(NOW, |_| ()).await.unwrap();
        drop(store);
        let store = open(dir.path(), passphrase(), false).await.unwrap();
        assert!(holds(&store, &secrets).await && !dir.path().join("keys/root-2").exists());
    }

    #[tokio::test]
    async fn a_rotation_to_the_same_root_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, secrets) = made(dir.path()).await;
        let same = Rotation::new(&store, file(dir.path(), "one")).run(NOW, |_| ()).await;
        assert!(matches!(same, Err(Error::RootKey(_))) && holds(&store, &secrets).await);
        assert!(!dir.path().join("keys/root-2").exists());
    }

    #[tokio::test]
    async fn what_an_attempt_that_was_killed_left_is_neither_used_nor_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (store, secrets) = made(dir.path()).await;
        // Sealed under a root key that is gone: killed before the switch, with its note written.
        let staged = dir.path().join("keys").join(names()[0].path(RootVersion(2)));
        std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
        std::fs::write(&staged, b"torn").unwrap();
        store.swap_clear(NOTE, None, b"of another root key".to_vec()).await.unwrap();
        assert_eq!(store.rotated().await.unwrap(), None);
        Rotation::new(&store, file(dir.path(), "two")).run(NOW, |_| ()).await.unwrap();
        drop(store);
        let store = open(dir.path(), file(dir.path(), "two"), false).await.unwrap();
        assert!(holds(&store, &secrets).await);
        // Killed after the switch: the old lies there still, and a later version that was begun.
        for version in [RootVersion::FIRST, RootVersion(3)] {
            let left = dir.path().join("keys").join(names()[0].path(version));
            std::fs::create_dir_all(left.parent().unwrap()).unwrap();
            std::fs::write(&left, b"left").unwrap();
        }
        drop(store);
        let store = open(dir.path(), file(dir.path(), "two"), false).await.unwrap();
        assert!(!dir.path().join("keys/erasure").exists() && !dir.path().join("keys/root-3").exists());
        assert!(holds(&store, &secrets).await);
    }

    #[tokio::test]
    async fn an_identity_put_back_from_before_opens_nothing_and_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, secrets) = made(dir.path()).await;
        let identity = dir.path().join("keys/identity");
        let before = std::fs::read(&identity).unwrap();
        Rotation::new(&store, file(dir.path(), "two")).run(NOW, |_| ()).await.unwrap();
        drop(store);
        let after = std::fs::read_to_string(&identity).unwrap();
        // The version stands in the seal: it is not moved back by hand.
        std::fs::write(&identity, after.replace("\"rootVersion\":2", "\"rootVersion\":3")).unwrap();
        assert!(matches!(open(dir.path(), file(dir.path(), "two"), false).await, Err(Error::WrongRootKey)));
        std::fs::write(&identity, before).unwrap();
        assert!(matches!(open(dir.path(), file(dir.path(), "two"), false).await, Err(Error::WrongRootKey)));
        // The old root key fits it, and finds nothing of its own: what there is stays.
        assert!(matches!(open(dir.path(), file(dir.path(), "one"), false).await, Err(Error::Damaged(_))));
        std::fs::write(&identity, after).unwrap();
        let store = open(dir.path(), file(dir.path(), "two"), false).await.unwrap();
        assert!(holds(&store, &secrets).await);
    }
}
