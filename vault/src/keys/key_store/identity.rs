//! Who a key store is: its ids, its realm and the salt of a passphrase, in clear; a seal over them proves the root key.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::root_key::RootKey;
use super::secret_name::RootVersion;
use crate::crypto::envelope;
use crate::domain::{InstallationId, KeyStoreId, Realm, Timestamp, lp};
use crate::keys::Error;

/// The file's name.
pub(super) const FILE: &str = "identity";
const VERSION: u8 = 1;
const KIND: &str = "identity";

/// A key store's identity.
pub(super) struct Identity {
    pub(super) key_store_id: KeyStoreId,
    pub(super) installation_id: InstallationId,
    pub(super) realm: Realm,
    pub(super) salt: [u8; 16],
    pub(super) root_version: RootVersion,
    seal: Vec<u8>,
}

/// The file's content behind its version byte.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    key_store_id: KeyStoreId,
    installation_id: InstallationId,
    realm: Realm,
    salt: String,
    /// Which root key it is; left out for the first.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    root_version: u32,
    seal: String,
}

const fn first() -> u32 {
    RootVersion::FIRST.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
const fn is_first(version: &u32) -> bool {
    *version == first()
}

impl Identity {
    /// A new identity, sealed under the root key.
    pub(super) fn create(root: &RootKey, realm: &Realm, salt: [u8; 16], now: Timestamp) -> Result<Self, Error> {
        let (key_store_id, installation_id) = (KeyStoreId::generate(now), InstallationId::generate(now));
        let (realm, root_version) = (realm.clone(), RootVersion::FIRST);
        Self { key_store_id, installation_id, realm, salt, root_version, seal: Vec::new() }.sealed(root)
    }

    /// The same key store under its next root key.
    pub(super) fn under(&self, root: &RootKey, salt: [u8; 16]) -> Result<Self, Error> {
        let version = self.root_version.0.checked_add(1).ok_or(Error::Damaged("it had too many root keys"))?;
        let (realm, root_version) = (self.realm.clone(), RootVersion(version));
        Self { realm, salt, root_version, seal: Vec::new(), ..*self }.sealed(root)
    }

    fn sealed(mut self, root: &RootKey) -> Result<Self, Error> {
        self.seal = envelope::seal(&root.sealing_key(self.key_store_id, KIND), &self.aad(), &[])?;
        Ok(self)
    }

    /// Proves that the root key is this store's and that nobody changed the ids.
    pub(super) fn check(&self, root: &RootKey) -> Result<(), Error> {
        let opened = envelope::open(&root.sealing_key(self.key_store_id, KIND), &self.aad(), &self.seal);
        opened.map(|_| ()).map_err(|_| Error::WrongRootKey)
    }

    /// version byte ‖ JSON.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let document = Document {
            key_store_id: self.key_store_id,
            installation_id: self.installation_id,
            realm: self.realm.clone(),
            salt: Base64::encode_string(&self.salt),
            root_version: self.root_version.0,
            seal: Base64::encode_string(&self.seal),
        };
        // A struct of strings has no way to fail.
        [&[VERSION][..], &serde_json::to_vec(&document).unwrap_or_default()].concat()
    }

    /// Reads the file.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Damaged("its identity cannot be read");
        let (version, json) = bytes.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(Error::Damaged("its identity has another version"));
        }
        let document: Document = serde_json::from_slice(json).map_err(|_| damaged())?;
        let salt = Base64::decode_vec(&document.salt).ok().and_then(|salt| salt.try_into().ok()).ok_or_else(damaged)?;
        let seal = Base64::decode_vec(&document.seal).map_err(|_| damaged())?;
        let Document { key_store_id, installation_id, realm, root_version, .. } = document;
        Ok(Self { key_store_id, installation_id, realm, salt, root_version: RootVersion(root_version), seal })
    }

    fn aad(&self) -> Vec<u8> {
        let system = crate::domain::TenantName::system();
        let id = self.installation_id.to_string();
        lp(&[
            KIND.as_bytes(),
            self.realm.as_bytes(),
            system.as_bytes(),
            id.as_bytes(),
            &self.root_version.0.to_be_bytes(),
            &self.salt,
        ])
    }
}
