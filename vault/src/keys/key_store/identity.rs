//! Who a key store is: its ids, its realm and the salt of a passphrase, in clear; a seal over them proves the root key.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::root_key::RootKey;
use super::secret_name::RootVersion;
use super::source::RootKind;
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
    /// What it was made with, where that was noted. The seal does not cover it: it decides nothing, and words a refusal.
    pub(super) root_kind: Option<RootKind>,
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
    /// What kind of root key made it; left out by those from before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root_kind: Option<RootKind>,
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
    pub(super) fn create(
        (root, kind): (&RootKey, RootKind),
        realm: &Realm,
        salt: [u8; 16],
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (key_store_id, installation_id) = (KeyStoreId::generate(now), InstallationId::generate(now));
        let (realm, root_version, root_kind) = (realm.clone(), RootVersion::FIRST, Some(kind));
        Self { key_store_id, installation_id, realm, salt, root_version, root_kind, seal: Vec::new() }.sealed(root)
    }

    /// The same key store under its next root key.
    pub(super) fn under(&self, (root, kind): (&RootKey, RootKind), salt: [u8; 16]) -> Result<Self, Error> {
        let version = self.root_version.0.checked_add(1).ok_or(Error::Damaged("it had too many root keys"))?;
        let (realm, root_version, root_kind) = (self.realm.clone(), RootVersion(version), Some(kind));
        Self { realm, salt, root_version, root_kind, seal: Vec::new(), ..*self }.sealed(root)
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

    /// Why a root key of this kind does not open it, where it was made with another kind: a file and a credential may hold the
    /// same bytes, so it is told only once the key is known not to fit, or cannot be had.
    pub(super) fn refusal(&self, given: RootKind, error: Error) -> Error {
        match (self.root_kind, &error) {
            (Some(made_with), Error::WrongRootKey | Error::RootKey(_) | Error::Io { .. }) if made_with != given => {
                Error::OtherRootKind { made_with, given }
            }
            _ => error,
        }
    }

    /// version byte ‖ JSON.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let document = Document {
            key_store_id: self.key_store_id,
            installation_id: self.installation_id,
            realm: self.realm.clone(),
            salt: Base64::encode_string(&self.salt),
            root_version: self.root_version.0,
            root_kind: self.root_kind,
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
        let Document { key_store_id, installation_id, realm, root_version, root_kind, .. } = document;
        let root_version = RootVersion(root_version);
        Ok(Self { key_store_id, installation_id, realm, salt, root_version, root_kind, seal })
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
