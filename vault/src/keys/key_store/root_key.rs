//! The root key in memory, in a place of its own: nothing else touches its bytes.

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::crypto::{LockedKey, derive};
use crate::domain::KeyStoreId;

/// 32 bytes that seal all secrets of a key store; wiped on drop.
pub(super) struct RootKey(LockedKey);

impl RootKey {
    /// Fills the key in place.
    pub(super) fn try_init_with<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        LockedKey::try_init_with(fill).map(Self)
    }

    /// HKDF(root key, salt = key store id, info `siv/v1/root/<kind>`).
    #[expect(clippy::disallowed_methods, reason = "input of HKDF")]
    pub(super) fn sealing_key(&self, key_store: KeyStoreId, kind: &str) -> Zeroizing<[u8; 32]> {
        derive(self.0.expose_secret(), key_store.as_bytes(), &format!("siv/v1/root/{kind}"))
    }
}
