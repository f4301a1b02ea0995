//! HMAC-SHA256 under a named key: verifiers, rows that decide, credentials, idempotency look-ups.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret as _;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::LockedKey;
use crate::domain::SecretId;

/// An HMAC key with the id by which rows name it, in memory of its own; wiped on drop. It lives as long as the process does.
pub struct MacKey {
    id: SecretId,
    bytes: LockedKey,
}

impl MacKey {
    /// A key of these bytes; the caller wipes the ones it hands in.
    #[must_use]
    pub fn new(id: SecretId, bytes: &[u8; 32]) -> Self {
        Self::of(id, LockedKey::init_with(|place| place.copy_from_slice(bytes)))
    }

    /// A key of 32 random bytes.
    #[must_use]
    pub const fn of(id: SecretId, bytes: LockedKey) -> Self {
        Self { id, bytes }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SecretId {
        self.id
    }

    /// The MAC of a message.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the key of an HMAC")]
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        hmac(self.bytes.expose_secret(), message)
    }

    /// Whether `mac` is the MAC of the message; in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], mac: &[u8; 32]) -> bool {
        self.mac(message).ct_eq(mac).into()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKey({})", self.id)
    }
}

/// HMAC-SHA256 under a derived key.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(super) fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).expect("any length").chain_update(message).finalize().into_bytes().into()
}
