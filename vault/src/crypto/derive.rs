//! HKDF-SHA256 (RFC 5869): one 32-byte key per salt and info, wiped on drop.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The key of `info` under `salt`.
pub(crate) fn derive(secret: &[u8], salt: &[u8], info: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    derive_into(&mut key, secret, salt, info);
    key
}

/// The same where the key shall lie.
#[expect(clippy::expect_used, reason = "HKDF refuses more than 255 blocks of 32 bytes only; this asks for one")]
pub(super) fn derive_into(key: &mut [u8; 32], secret: &[u8], salt: &[u8], info: &str) {
    Hkdf::<Sha256>::new(Some(salt), secret).expand(info.as_bytes(), key).expect("one block");
}
