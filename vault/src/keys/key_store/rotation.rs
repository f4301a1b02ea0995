//! Another root key for a key store (docs/formats.md section 4): everything is sealed anew beside what is there, then one file is
//! switched, then the old is overwritten and removed. Killed at any step, the key store opens under the old root key or under
//! the new one, whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::secret_name::{RootVersion, SecretKind};
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
        let new = KeyStore::with(store.identity.under(&root, salt)?, root, Arc::clone(medium));
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
    /// open, what was begun under a later one.
    pub(super) async fn sweep_roots(&self) -> Result<(), Error> {
        let own = self.identity.root_version;
        for version in self.medium.root_versions().await? {
            if version < own || (version > own && !self.medium.is_shared()) {
                self.medium.remove_root(version).await?;
            }
        }
        Ok(())
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
