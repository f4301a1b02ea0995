//! The HMAC keys and peppers of the installation, held open while the process runs.

use std::sync::Arc;

use super::Error;
use super::key_store::{KeyStore, SecretKind, SecretName};
use crate::crypto::{MacKey, derive};
use crate::domain::{InstallationId, SecretId};

/// What an HMAC key is for. One purpose each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MacPurpose {
    /// Wrapped data keys.
    DataKey,
    /// Rows that decide.
    Config,
    /// Credentials and capture tokens.
    Credential,
    /// Node keys.
    Node,
    /// Look-ups of idempotency records.
    IdempotencyLookup,
}

impl MacPurpose {
    const ALL: [Self; 5] = [Self::DataKey, Self::Config, Self::Credential, Self::Node, Self::IdempotencyLookup];

    const fn kind(self) -> SecretKind {
        match self {
            Self::DataKey => SecretKind::DataKeyMac,
            Self::Config => SecretKind::ConfigMac,
            Self::Credential => SecretKind::CredentialMac,
            Self::Node => SecretKind::NodeMac,
            Self::IdempotencyLookup => SecretKind::IdempotencyLookupMac,
        }
    }
}

/// One purpose's keys: the newest makes MACs, all of them verify.
struct Ring {
    newest: Arc<MacKey>,
    all: Vec<Arc<MacKey>>,
}

/// All of them, by purpose.
pub(super) struct Macs {
    data_key: Ring,
    config: Ring,
    credential: Ring,
    node: Ring,
    idempotency_lookup: Ring,
    pepper: Ring,
}

impl Macs {
    /// Loads all keys; makes the first of each purpose if `create` says so.
    pub(super) async fn load(store: &KeyStore, create: bool) -> Result<Self, Error> {
        let ring = async |purpose: MacPurpose| Ring::load(store, purpose.kind(), create).await;
        Ok(Self {
            data_key: ring(MacPurpose::DataKey).await?,
            config: ring(MacPurpose::Config).await?,
            credential: ring(MacPurpose::Credential).await?,
            node: ring(MacPurpose::Node).await?,
            idempotency_lookup: ring(MacPurpose::IdempotencyLookup).await?,
            pepper: Ring::load(store, SecretKind::Pepper, create).await?,
        })
    }

    /// Whether every purpose has a key: false while the making of a key store is under way.
    pub(super) async fn complete(store: &KeyStore) -> Result<bool, Error> {
        for kind in MacPurpose::ALL.map(MacPurpose::kind).into_iter().chain([SecretKind::Pepper]) {
            if store.list(kind).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The key new MACs of a purpose are made with.
    pub(super) fn newest(&self, purpose: MacPurpose) -> Arc<MacKey> {
        Arc::clone(&self.ring(purpose).newest)
    }

    /// Every key of a purpose, the newest first.
    pub(super) fn all(&self, purpose: MacPurpose) -> &[Arc<MacKey>] {
        &self.ring(purpose).all
    }

    /// The key of an id, if it is one of the purpose.
    pub(super) fn by_id(&self, purpose: MacPurpose, id: SecretId) -> Option<Arc<MacKey>> {
        self.ring(purpose).by_id(id)
    }

    /// The newest pepper.
    pub(super) fn pepper(&self) -> Arc<MacKey> {
        Arc::clone(&self.pepper.newest)
    }

    /// The pepper of an id.
    pub(super) fn pepper_by_id(&self, id: SecretId) -> Option<Arc<MacKey>> {
        self.pepper.by_id(id)
    }

    const fn ring(&self, purpose: MacPurpose) -> &Ring {
        match purpose {
            MacPurpose::DataKey => &self.data_key,
            MacPurpose::Config => &self.config,
            MacPurpose::Credential => &self.credential,
            MacPurpose::Node => &self.node,
            MacPurpose::IdempotencyLookup => &self.idempotency_lookup,
        }
    }
}

impl Ring {
    async fn load(store: &KeyStore, kind: SecretKind, create: bool) -> Result<Self, Error> {
        let mut names = store.list(kind).await?;
        if names.is_empty() && create {
            let name = SecretName::mac(kind, first(store.installation_id(), kind));
            store.create_key(&name).await?;
            names.push(name);
        }
        let mut all = Vec::new();
        for name in names {
            let id: SecretId = name.id.parse().map_err(|_| Error::Damaged("a key has a name that is no id"))?;
            let key = store.load_key(&name).await?.ok_or(Error::Damaged("a key vanished"))?;
            all.push(Arc::new(MacKey::of(id, key)));
        }
        // Ids are UUIDv7: the greatest is the newest.
        all.sort_by_key(|key| std::cmp::Reverse(key.id()));
        let newest = all.first().map(Arc::clone).ok_or(Error::Damaged("a key is missing"))?;
        Ok(Self { newest, all })
    }

    fn by_id(&self, id: SecretId) -> Option<Arc<MacKey>> {
        self.all.iter().find(|key| key.id() == id).map(Arc::clone)
    }
}

/// The id of the first key of a kind. It follows from the installation's: two nodes that make an installation at once make
/// one key, not one each. Its time is the installation's, so that every later one is newer.
fn first(installation: InstallationId, kind: SecretKind) -> SecretId {
    let derived = derive(installation.as_bytes(), &[], &format!("siv/v1/first/{}", kind.as_str()));
    let mut id = [0; 16];
    id.copy_from_slice(&derived[..16]);
    id[..6].copy_from_slice(&installation.as_bytes()[..6]);
    // Version and variant of a UUIDv7 (RFC 9562 section 5.7).
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    SecretId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Clock;
    use crate::keys::fixture::{NOW, open};

    #[tokio::test]
    async fn each_purpose_has_a_key_of_its_own_that_rows_find_by_id() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::held(NOW);
        let keys = open(dir.path(), &clock).await.unwrap();
        let before: Vec<_> =
            MacPurpose::ALL.map(|purpose| (keys.mac(purpose).id(), keys.mac(purpose).mac(b"x"))).into();
        for (number, (id, mac)) in before.iter().enumerate() {
            assert!(before[number + 1..].iter().all(|(other, theirs)| other != id && theirs != mac));
            for (at, purpose) in MacPurpose::ALL.into_iter().enumerate() {
                let found = keys.mac_by_id(purpose, *id).map(|key| key.mac(b"x"));
                assert_eq!(found, (at == number).then_some(*mac), "a key serves its own purpose and no other");
            }
            assert!(keys.pepper_by_id(*id).is_none());
        }
        let pepper = keys.pepper().id();
        assert!(keys.pepper_by_id(pepper).is_some() && keys.mac_by_id(MacPurpose::Credential, pepper).is_none());
        drop(keys);
        let keys = open(dir.path(), &clock).await.unwrap();
        assert_eq!(keys.mac(MacPurpose::Config).mac(b"x"), before[1].1);
    }

    #[tokio::test]
    async fn what_an_older_key_of_a_purpose_made_still_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::held(NOW);
        let keys = open(dir.path(), &clock).await.unwrap();
        let (old, mac) = (keys.mac(MacPurpose::Credential).id(), keys.mac(MacPurpose::Credential).mac(b"x"));
        let later = NOW.plus(std::time::Duration::from_secs(1));
        let name = SecretName::mac(SecretKind::CredentialMac, SecretId::generate(later));
        keys.inner.store.create_key(&name).await.unwrap();
        drop(keys);
        let keys = open(dir.path(), &clock).await.unwrap();
        assert_ne!(keys.mac(MacPurpose::Credential).id(), old);
        assert!(keys.verifies(MacPurpose::Credential, b"x", &mac));
        assert!(!keys.verifies(MacPurpose::Credential, b"y", &mac) && !keys.verifies(MacPurpose::Config, b"x", &mac));
    }

    #[tokio::test]
    async fn a_making_cut_short_is_finished_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::held(NOW);
        let keys = open(dir.path(), &clock).await.unwrap();
        let (installation, config) = (keys.installation_id(), keys.mac(MacPurpose::Config).id());
        drop(keys);
        // Killed before the last secret was made.
        std::fs::remove_dir_all(dir.path().join("keys/pepper")).unwrap();
        let keys = open(dir.path(), &clock).await.unwrap();
        assert_eq!((keys.installation_id(), keys.mac(MacPurpose::Config).id()), (installation, config));
    }
}
