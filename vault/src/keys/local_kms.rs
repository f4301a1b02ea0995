//! The built-in KMS: KEKs in the key store under the root key, read for each use into a place of their own, and wiped after it.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::Error;
use super::key_store::{KeyStore, SecretName};
use super::records::DataKeyRow;
use crate::crypto::{LockedKey, envelope};

/// Its one wrapping mechanism: AES-256-GCM-SIV with the context as AAD.
pub const MECHANISM: &str = "local-aes-256-gcm-siv";

/// The built-in KMS.
pub(super) struct LocalKms {
    store: Arc<KeyStore>,
}

impl LocalKms {
    pub(super) const fn new(store: Arc<KeyStore>) -> Self {
        Self { store }
    }

    #[expect(clippy::disallowed_methods, reason = "key of the wrap")]
    pub(super) async fn wrap(&self, row: &DataKeyRow, context: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, Error> {
        let kek = self.kek(row).await?;
        Ok(envelope::seal(kek.expose_secret(), context, key)?)
    }

    #[expect(clippy::disallowed_methods, reason = "key of the unwrap")]
    pub(super) async fn unwrap(
        &self,
        row: &DataKeyRow,
        context: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let kek = self.kek(row).await?;
        Ok(envelope::open(kek.expose_secret(), context, wrapped)?)
    }

    async fn kek(&self, row: &DataKeyRow) -> Result<LockedKey, Error> {
        let name = SecretName::kek(&row.tenant, row.kek_id, row.kek_version);
        self.store.load_key(&name).await?.ok_or(Error::KekUnusable)
    }
}
